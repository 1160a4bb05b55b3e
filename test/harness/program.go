package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"patroniglue/node/nodetest"
)

// Shell runs a documented line against p and gives its exit code and what it said.
func (p *Program) Shell(t *testing.T, line string) (int, string) {
	t.Helper()
	line = strings.NewReplacer("localhost:8009", p.HTTP, "-p 8009", "-p "+PortOf(p.HTTP), "-p 5555", "-p "+PortOf(p.Agents[0])).Replace(line)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH=/usr/lib/nagios/plugins:"+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// Program is the real run in this process, or its binary, over a configuration
// whose HTTP port the kernel chooses.
type Program struct {
	Path   string // of its configuration
	Config string // a file for status: with the port that was chosen
	HTTP   string // host:port
	Agents []string
	Log    *Log
	End    func()
	Ended  chan struct{} // closed when it has
	code   int           // its exit code, read after ended is closed
}

// startProgram runs a configuration until the test ends, in a file of that name,
// and returns when every node was polled.
func Start(t *testing.T, name, text string, flags ...string) *Program {
	t.Helper()
	p := Begin(t, name, text, flags...)
	p.awaitReady(t, text, strings.Count(text, "agent = ")+strings.Count(text, "listen = ")-strings.Count(text, "[operator]"))
	p.Config = WriteFile(t, name, strings.Replace(text, "port = 0", "port = "+PortOf(p.HTTP), 1))
	return p
}

// beginProgram is startProgram that waits for nothing.
func Begin(t *testing.T, name, text string, flags ...string) *Program {
	t.Helper()
	path := WriteFile(t, name, text)
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &Program{Path: path, Log: new(Log), Ended: make(chan struct{}), End: func() { cancel(errors.New("the test ends it")) }}
	go func() {
		defer close(p.Ended)
		p.code = Command(ctx, append([]string{"-config", path}, flags...), io.Discard, p.Log)
	}()
	t.Cleanup(func() {
		p.End()
		if err := p.Wait(); err != nil {
			t.Errorf("run: %v, want nil", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", p.Log)
		}
	})
	return p
}

func (p *Program) awaitReady(t *testing.T, text string, agents int) {
	t.Helper()
	Until(t, "the program is ready", func() bool {
		select {
		case <-p.Ended:
			t.Fatalf("the program ended with exit code %d:\n%s", p.code, p.Log)
		default:
		}
		p.Agents = p.Log.Values("listener", "message", "answering agent checks")
		return len(p.Agents) >= agents && len(p.Log.Lines("message", "ready: every node was polled")) > 0
	})
	p.HTTP = p.Log.Values("http", "message", "supervising")[0]
}

// Wait is nil when the program has ended with exit code 0.
func (p *Program) Wait() error {
	select {
	case <-p.Ended:
		if p.code != 0 {
			return fmt.Errorf("exit code %d, want 0", p.code)
		}
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("it still runs after 10 s")
	}
}

// run is a command beside the running program, with its exit code.
func (p *Program) Command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Command(t.Context(), append([]string{"-config", p.Config}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// Command is the program without its process, with its exit code.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return entry(ctx, "test", args, stdout, stderr)
}

// looksEvery is how often the daemon looks at the files that its configuration names.
const LooksEvery = 2 * time.Second

// StartBinary is startProgram in a process of its own.
func StartBinary(t *testing.T, text string) (*Program, *exec.Cmd) {
	t.Helper()
	path := WriteFile(t, "c.toml", text)
	cmd := exec.Command(BuiltBinary(t), "-config", path)
	p := StartCommand(t, text, cmd)
	p.Path = path
	return p, cmd
}

// StartCommand is startBinary with a command line of its own; text is the
// configuration there.
func StartCommand(t *testing.T, text string, cmd *exec.Cmd) *Program {
	t.Helper()
	return StartCommandBy(t, text, cmd, cmd.Start)
}

func StartCommandBy(t *testing.T, text string, cmd *exec.Cmd, start func() error) *Program {
	t.Helper()
	p := &Program{Log: new(Log), Ended: make(chan struct{})}
	cmd.Stderr = p.Log
	if err := start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.Ended)
		_ = cmd.Wait() // its exit code tells
		p.code = cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an error: it has ended
		<-p.Ended
		if t.Failed() {
			t.Logf("log:\n%s", p.Log)
		}
	})
	p.awaitReady(t, text, strings.Count(text, "listen = ")-strings.Count(text, "[operator]"))
	return p
}

// maxResident is what an idle daemon may keep in memory.
const MaxResident = 30 << 20

// UntilBody waits for an answer to GET path that has all of the parts.
func (p *Program) UntilBody(t *testing.T, path string, parts ...string) {
	t.Helper()
	var body string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, body = Ask(t, nil, "GET", "http://"+p.HTTP+path)
		missing := ""
		for _, part := range parts {
			if !strings.Contains(body, part) {
				missing = part
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("GET %s lacks %q for 30 s:\n%s\nlog:\n%s", path, missing, body, p.Log)
		}
	}
}

// StartLeaving runs the program over pg1, the primary, and pg2, with the token
// "secret".
func StartLeaving(t *testing.T, frontend string) (*Program, *nodetest.Cluster) {
	t.Helper()
	sim := NewSimulated(t, "pg1", "pg2")
	token := WriteFile(t, "token", "secret\n")
	p := Start(t, "c.toml", "[frontend]\n"+AnyPort+frontend+"token-file = '"+token+"'\n[agent]\nlisten = '127.0.0.1:0'\n"+FastPolls+NodesOf(sim, ""))
	return p, sim
}

// LeavingRecords gives what became of announcements, oldest first.
func (p *Program) LeavingRecords() []string {
	var records []string
	afters := p.Log.Values("after", "change", "leaving", "node", "pg1") // before reasons, which may have one more already
	reasons := p.Log.Values("reason", "change", "leaving", "node", "pg1")
	for i, after := range afters {
		records = append(records, after+": "+strings.Split(reasons[i], ":")[0])
	}
	return records
}

const (
	LoadedAnew    = "configuration reloaded"
	NotLoadedAnew = "reload failed, keeping the old configuration"
)

// Reload writes another configuration and sends SIGHUP, to this process where
// the program runs in it, and waits for the log to say what became of it.
func (p *Program) Reload(t *testing.T, text, message string) {
	t.Helper()
	p.ReloadBy(t, os.Getpid(), text, message)
}

func (p *Program) ReloadBy(t *testing.T, pid int, text, message string) {
	t.Helper()
	before := len(p.Log.Lines("message", message))
	if err := os.WriteFile(p.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	Until(t, message, func() bool { return len(p.Log.Lines("message", message)) > before })
}

// Status is that of a GET.
func (p *Program) Status(t *testing.T, path string) int {
	t.Helper()
	resp, _ := Ask(t, nil, "GET", "http://"+p.HTTP+path)
	return resp.StatusCode
}

func NodeTable(n *nodetest.Node, name, more string) string {
	return fmt.Sprintf("[[node]]\nname = '%s'\nurl = '%s'\n%s\n", name, n.URL(), more)
}
