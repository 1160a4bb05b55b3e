package harness

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patroniglue/contrib/lab"
	"patroniglue/node/nodetest"
)

// Small is a simulated cluster of pg1, pg2 and pg3, the program as a process of
// its own, and a real HAProxy with what "patroniglue haproxy" prints. pg1 leads.
type Small struct {
	Suite      lab.Suite // whose HAProxy it is
	Sim        *nodetest.Cluster
	Dir        string // has c.toml, haproxy.cfg and admin.sock
	HTTP       string // of the program, host:port
	writes     string // where HAProxy takes connections for the primary, host:port
	Agents     *Relay // between HAProxy and the program's agent port
	Supervisor *exec.Cmd
	HAProxy    *exec.Cmd
}

// StartSmall starts all of it, with flags for "patroniglue haproxy".
func StartSmall(t *testing.T, suite lab.Suite, flags ...string) *Small {
	t.Helper()
	return StartSmallEdited(t, suite, func(printed string) string { return printed }, flags...)
}

// StartSmallEdited is StartSmall with a configuration of HAProxy that edit changes.
func StartSmallEdited(t *testing.T, suite lab.Suite, edit func(printed string) string, flags ...string) *Small {
	t.Helper()
	RequireProgramOf(t, suite, "haproxy")
	agent := FreePort(t)
	s := &Small{Suite: suite, Sim: NewSimulated(t, "pg1", "pg2", "pg3"), Dir: t.TempDir(), HTTP: FreePort(t), Agents: startRelay(t, agent)}
	text := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n[cache]\nttl = '2s'\n", PortOf(s.HTTP)) + FastPolls + NodeTables(s.Sim, "")
	for i, n := range s.Sim.Nodes() {
		text = Replace(t, text, fmt.Sprintf("10.0.0.%d:5432", 11+i), listenAs(t, n.Name()))
	}
	s.Write(t, "c.toml", text+fmt.Sprintf("[agent]\nlisten = '%s'\n", agent))
	s.Write(t, "relayed.toml", text+fmt.Sprintf("[agent]\nlisten = '%s'\n", s.Agents.addr))

	flags = append([]string{"-config", s.Path("relayed.toml"), "haproxy", "-socket", s.Path("admin.sock"), "-user", "", "-stats-port", "0",
		"-bind", "127.0.0.1", "-write-port", PortOf(FreePort(t)), "-read-port", PortOf(FreePort(t))}, flags...)
	var stdout, stderr bytes.Buffer
	if code := Command(t.Context(), flags, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	s.Write(t, "haproxy.cfg", edit(stdout.String()))
	s.writes = writePort.FindStringSubmatch(stdout.String())[1]
	s.StartSupervisor(t)
	s.StartHAProxy(t)
	t.Cleanup(func() {
		for _, c := range []*exec.Cmd{s.HAProxy, s.Supervisor} {
			c.Process.Kill()
			c.Wait()
			if t.Failed() {
				t.Logf("%s said:\n%s", filepath.Base(c.Path), c.Stderr)
			}
		}
	})
	return s
}

var writePort = regexp.MustCompile(`(?m)^listen pg_rw\n  bind (\S+)$`)

// listenAs stands in for PostgreSQL: it tells its name to whoever connects.
func listenAs(t *testing.T, name string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, name)
			c.Close()
		}
	}()
	return ln.Addr().String()
}

// WritesTo returns the name of the database that a new connection for the primary reaches, ""
// for none.
func (s *Small) WritesTo() string {
	c, err := net.DialTimeout("tcp", s.writes, 5*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	name, _ := io.ReadAll(c) // refused is none
	return string(name)
}

// Path is the path of a file in Dir.
func (s *Small) Path(name string) string { return filepath.Join(s.Dir, name) }

// Write writes a file in Dir.
func (s *Small) Write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.Path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// StartSupervisor starts the program, also after it was stopped.
func (s *Small) StartSupervisor(t *testing.T) {
	t.Helper()
	s.Supervisor = launch(t, exec.Command(BuiltBinary(t), "-config", s.Path("c.toml")))
}

// StartHAProxy starts HAProxy, also after it was stopped.
func (s *Small) StartHAProxy(t *testing.T, args ...string) {
	t.Helper()
	s.HAProxy = launch(t, s.Suite.Command(context.Background(), []string{s.Dir}, "haproxy", append([]string{"-db", "-f", s.Path("haproxy.cfg")}, args...)...))
}

// reload is what systemctl reload haproxy does.
func (s *Small) reload(t *testing.T) {
	t.Helper()
	old := s.HAProxy
	s.StartHAProxy(t, "-sf", strconv.Itoa(old.Process.Pid))
	old.Wait()
}

func launch(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	c.Stderr = new(bytes.Buffer)
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Relay passes connections on until it is cut, and again after it is mended.
type Relay struct {
	addr, to string
	ln       net.Listener
}

func startRelay(t *testing.T, to string) *Relay {
	r := &Relay{addr: FreePort(t), to: to}
	r.Mend(t)
	t.Cleanup(r.Cut)
	return r
}

// Mend listens again.
func (r *Relay) Mend(t *testing.T) {
	t.Helper()
	var ln net.Listener
	Eventually(t, Soon, func() (err error) { // a process that is being started holds a copy of the old socket for a moment
		ln, err = net.Listen("tcp", r.addr)
		return err
	})
	r.ln, r.addr = ln, ln.Addr().String()
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}

// Cut stops listening. Connections that are there stay.
func (r *Relay) Cut() { r.ln.Close() }

// Shows waits until HAProxy shows these servers in these states.
func (s *Small) Shows(t *testing.T, want map[string]string) {
	t.Helper()
	Eventually(t, 20*time.Second, func() error { return s.differs(want) })
}

// Keeps waits as Shows does, and fails the test if a state changes again while HAProxy asks
// its agents five times and makes its checks once.
func (s *Small) Keeps(t *testing.T, want map[string]string) {
	t.Helper()
	s.Shows(t, want)
	for end := time.Now().Add(1200 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := s.differs(want); err != nil {
			t.Fatalf("it does not stay: %v", err)
		}
	}
}

func (s *Small) differs(want map[string]string) error {
	got, err := s.States()
	if err != nil {
		return err
	}
	maps.DeleteFunc(got, func(server, _ string) bool { return want[server] == "" })
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("HAProxy's show stat (-want +got)\n%s", diff)
	}
	return nil
}

// stateWord takes "DOWN (agent)" for DOWN, and "UP 1/2", where a check has failed
// once, for UP.
var stateWord = regexp.MustCompile(`^no check|^\S+`)

// States returns the state of each server, by backend/name.
func (s *Small) States() (map[string]string, error) {
	answer, err := s.Says("show stat")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(strings.TrimSpace(answer), "# "))).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("reading %q: %w", answer, err)
	}
	got := make(map[string]string)
	for _, row := range rows[1:] {
		if proxy, server := row[0], row[1]; server != "FRONTEND" && server != "BACKEND" {
			got[proxy+"/"+server] = stateWord.FindString(row[17])
		}
	}
	return got, nil
}

// Says returns HAProxy's answer to a command of its admin socket.
func (s *Small) Says(command string) (string, error) {
	c, err := net.Dial("unix", s.Path("admin.sock"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// Servers makes a map of states from those of pg1, pg2 and pg3 for writes, and for reads.
// NONE stands for HAProxy's "no check".
func Servers(write, read string) map[string]string {
	m := make(map[string]string)
	for proxy, words := range map[string]string{"pg_rw": write, "pg_ro": read} {
		for i, word := range strings.Fields(words) {
			m[fmt.Sprintf("%s/pg%d", proxy, i+1)] = strings.Replace(word, "NONE", "no check", 1)
		}
	}
	return m
}

// Normal is what HAProxy shows while pg1 leads and all is well.
var Normal = Servers("UP MAINT MAINT", "MAINT UP UP")

// Signal sends a signal to the program.
func (s *Small) Signal(t *testing.T, what os.Signal) {
	t.Helper()
	if err := s.Supervisor.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

var isState = regexp.MustCompile(`(pg_r[wo]/pg\d) is (no check|[A-Z]+)`)

// Types runs the lines of a documented block in a shell. At each comment that names states it
// checks that HAProxy keeps them.
func (s *Small) Types(t *testing.T, helper, block string) {
	t.Helper()
	var script strings.Builder
	flush := func() {
		out, err := exec.CommandContext(t.Context(), "bash", "-euc", helper+script.String()).CombinedOutput()
		if answer := strings.TrimSpace(string(out)); err != nil || !obeyed.MatchString(answer) {
			t.Fatalf("%v, it said %q:\n%s", err, answer, &script)
		}
		script.Reset()
	}
	for line := range strings.Lines(block) {
		want := make(map[string]string)
		if strings.HasPrefix(line, "#") {
			for _, m := range isState.FindAllStringSubmatch(line, -1) {
				want[m[1]] = m[2]
			}
		}
		switch {
		case line == "systemctl reload haproxy\n":
			flush()
			s.reload(t)
		case len(want) > 0:
			flush()
			s.Keeps(t, want)
		default:
			script.WriteString(line)
		}
	}
	flush()
}

// obeyed: HAProxy answers a command that it obeys with an empty line, but what it
// is asked for. All else is an error.
var obeyed = regexp.MustCompile(`^$|^50 \(initial 100\)$|^# pxname,svname,status\n(?s:.*)pg_rw,pg1,UP`)

// AcceptedByHAProxy fails the test if haproxy -c prints anything about a file but that it is
// valid. Paths in the file are relative to its directory.
func AcceptedByHAProxy(t *testing.T, s lab.Suite, file string) {
	t.Helper()
	RequireProgramOf(t, s, "haproxy")
	dir := filepath.Dir(file)
	cmd := s.Command(t.Context(), []string{dir}, "haproxy", "-c", "-f", file)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	// Since 2.8 it says so only when it is asked to.
	if said := strings.TrimSpace(string(out)); err != nil || said != "" && said != "Configuration file is valid" {
		t.Errorf("haproxy -c: %v, it said:\n%s", err, out)
	}
}
