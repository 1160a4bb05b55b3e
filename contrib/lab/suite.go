package lab

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Suite is a generation of Debian whose programs run: etcd, Patroni, PostgreSQL, HAProxy and what belongs to them.
// Its zero value is Bookworm.
type Suite string

// The suites. Programs of Bookworm are those that are installed on this machine; the others' are in a root file system
// each, and only root can run them. See the script suite.
const (
	Bookworm Suite = "bookworm"
	Trixie   Suite = "trixie"
	Forky    Suite = "forky"
)

// Matrix returns the suites that every test with real parts runs over: the words of the environment variable
// PATRONIGLUE_SUITES; without it Bookworm.
func Matrix() []Suite {
	var suites []Suite
	for word := range strings.FieldsSeq(os.Getenv("PATRONIGLUE_SUITES")) {
		suites = append(suites, Suite(word))
	}
	if len(suites) == 0 {
		return []Suite{Bookworm}
	}
	return suites
}

// Suites returns those that the core of these tests runs over: as Matrix, but without the variable Bookworm and, for
// root, Trixie.
func Suites() []Suite {
	switch {
	case os.Getenv("PATRONIGLUE_SUITES") != "":
		return Matrix()
	case os.Geteuid() == 0:
		return []Suite{Bookworm, Trixie}
	default:
		return []Suite{Bookworm}
	}
}

// String is the suite's name.
func (s Suite) String() string { return string(cmp.Or(s, Bookworm)) }

// Make makes the suite's root file system when there is none yet, which takes a minute or two, and reports that to log.
// Several may call it at once. For Bookworm it does nothing.
func (s Suite) Make(ctx context.Context, log io.Writer) error {
	_, err := s.run(ctx, log, "make")
	return err
}

// Command returns one program of the suite, not started. The program sees this machine's files only in the visible
// directories and those below, at the same paths, and in /dev, /proc and /sys. It keeps the caller's network, environment
// and, if that is visible, working directory, and takes ExtraFiles; the process that starts is the program itself. Its
// argument list begins with others than the program for Trixie and Forky, whose root file system Make must have made.
func (s Suite) Command(ctx context.Context, visible []string, name string, args ...string) *exec.Cmd {
	if cmp.Or(s, Bookworm) == Bookworm {
		if _, err := exec.LookPath(name); err != nil && filepath.Base(name) == name {
			name = filepath.Join("/usr/sbin", name) // which an ordinary user's PATH lacks
		}
		return exec.CommandContext(ctx, name, args...)
	}
	script, err := findScript("suite")
	argv := []string{"run", s.String()}
	for _, dir := range visible {
		argv = append(argv, "-visible", dir)
	}
	cmd := exec.CommandContext(ctx, script, append(append(argv, name), args...)...)
	if err != nil {
		cmd.Err = err
	}
	return cmd
}

// Versions are those of a suite's parts, such as "4.0.7"; empty for what is not installed.
type Versions struct {
	Patroni, PostgreSQL, HAProxy, ETCD, PgBouncer, CheckPatroni string
}

// Versions asks the suite's package manager, Debian's also on this machine.
func (s Suite) Versions(ctx context.Context) (v Versions, err error) {
	out, err := s.run(ctx, io.Discard, "versions")
	if err != nil {
		return v, err
	}
	into := map[string]*string{
		"patroni": &v.Patroni, "postgresql": &v.PostgreSQL, "haproxy": &v.HAProxy,
		"etcd": &v.ETCD, "pgbouncer": &v.PgBouncer, "check-patroni": &v.CheckPatroni,
	}
	for line := range strings.Lines(out) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), "=")
		if to := into[name]; to != nil {
			*to = version
		}
	}
	return v, nil
}

// run runs the script beside this file.
func (s Suite) run(ctx context.Context, log io.Writer, command string) (string, error) {
	script, err := findScript("suite")
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, script, command, s.String())
	cmd.Stdout, cmd.Stderr = &stdout, io.MultiWriter(&stderr, log)
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("running \"suite %s %s\": %w\n%s", command, s, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
