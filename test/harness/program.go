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

// Program is the daemon under test, in this process or in one of its own. A test has one of
//
//   - [Start]: in this process, and every node was polled. It is the fastest, and
//     -race and -cover see it. Take it where nothing needs one of the others.
//   - [Begin]: the same, without any waiting, for programs that are not ready soon.
//   - [StartProcess]: in a process of its own, for signals, kill -9, restarts, memory and
//     whatever is put around a process.
//   - [StartCluster]: over a real Patroni cluster.
type Program struct {
	Path   string        // the configuration that it was started with, and that a reload reads
	Config string        // the same with the port that was chosen, for commands that ask it
	HTTP   string        // host:port of the frontend
	Agents []string      // host:port of each agent listener, in the order in which they answered
	Log    *Log          // what it logs
	Ended  chan struct{} // closed when it has ended

	End func() // ends a program in this process as a signal does

	Process *os.Process // nil when it runs in this process
	cmd     *exec.Cmd

	code   int  // its exit code, read after Ended is closed
	begun  int  // where its last start is in the log
	mayEnd bool // the test has waited for its end or killed it
}

// Start runs the program in this process until the test ends, over a configuration
// text in a file of that name, and returns when every node was polled.
func Start(t *testing.T, name, text string, flags ...string) *Program {
	t.Helper()
	p := Begin(t, name, text, flags...)
	p.awaitReady(t, text)
	p.Config = WriteFile(t, name, strings.Replace(text, "port = 0", "port = "+PortOf(p.HTTP), 1))
	return p
}

// Begin is [Start] that waits for nothing: only Path, Log, End and Ended are known.
func Begin(t *testing.T, name, text string, flags ...string) *Program {
	t.Helper()
	return begin(t, WriteFile(t, name, text), flags...)
}

func begin(t *testing.T, path string, flags ...string) *Program {
	t.Helper()
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
		p.Log.showIfFailed(t)
	})
	return p
}

// awaitReady waits until every node was polled and all agents of the configuration
// text answer, and then knows where.
func (p *Program) awaitReady(t *testing.T, text string) {
	t.Helper()
	agents := strings.Count(text, "agent = ") + strings.Count(text, "listen = ") - strings.Count(text, "[operator]")
	var log *Log
	Eventually(t, Soon, func() error {
		select {
		case <-p.Ended:
			p.mayEnd = true
			t.Fatalf("the program ended with exit code %d:\n%s", p.code, p.Log)
		default:
		}
		log = p.Log.after(p.begun)
		p.Agents = log.Values("listener", "message", "answering agent checks")
		ready := len(log.Lines("message", "ready: every node was polled")) > 0
		return Want(ready && len(p.Agents) >= agents, "a program that is ready with %d agent listeners (got %t, %q)", agents, ready, p.Agents)
	})
	p.HTTP = log.Values("http", "message", "supervising")[0]
}

// Wait waits at most ten seconds for the end of the program. It is nil when the exit
// code is 0.
func (p *Program) Wait() error {
	p.mayEnd = true
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

// Command runs a command beside the program, such as status, and returns its exit code
// and output.
func (p *Program) Command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Command(t.Context(), append([]string{"-config", p.Config}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// Shell runs a line of the documentation against the program, and returns its exit code
// and output.
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

// Command runs the program without a process and returns its exit code.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return entry(ctx, "test", args, stdout, stderr)
}

// LooksEvery is how often the daemon looks at the files that its configuration names.
const LooksEvery = 2 * time.Second

// MaxResident is what an idle daemon may keep in memory.
const MaxResident = 30 << 20

// AwaitBody waits until the answer to GET path has all of the parts.
func (p *Program) AwaitBody(t *testing.T, path string, parts ...string) {
	t.Helper()
	Eventually(t, 30*time.Second, func() error {
		_, body, err := TryToAsk(t.Context(), nil, "GET", "http://"+p.HTTP+path)
		for _, part := range parts {
			if err == nil && !strings.Contains(body, part) {
				err = fmt.Errorf("GET %s: want %q (got %s)", path, part, body)
			}
		}
		return err
	})
}

// AwaitStatus waits until GET path has the status.
func (p *Program) AwaitStatus(t *testing.T, path string, status int) {
	t.Helper()
	Eventually(t, Soon, func() error {
		resp, body, err := TryToAsk(t.Context(), nil, "GET", "http://"+p.HTTP+path)
		if err == nil && resp.StatusCode != status {
			err = fmt.Errorf("GET %s: want status %d (got %s: %s)", path, status, resp.Status, body)
		}
		return err
	})
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

// LeavingRecords returns the outcome of each announcement of pg1, oldest first.
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
	LoadedAnew    = "the configuration is loaded anew"
	NotLoadedAnew = "the configuration is not loaded anew: all stays as it was"
)

// Reload writes another configuration, sends SIGHUP to the program's process and waits
// until the log has the message, one of those above.
func (p *Program) Reload(t *testing.T, text, message string) {
	t.Helper()
	before := len(p.Log.Lines("message", message))
	if err := os.WriteFile(p.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid()
	if p.Process != nil {
		pid = p.Process.Pid
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.Log.Await(t, before+1, "message", message)
}

// Status returns the status of GET path.
func (p *Program) Status(t *testing.T, path string) int {
	t.Helper()
	resp, _ := Ask(t, nil, "GET", "http://"+p.HTTP+path)
	return resp.StatusCode
}

// NodeTable is the [[node]] table of a simulated member, with more keys.
func NodeTable(n *nodetest.Node, name, more string) string {
	return fmt.Sprintf("[[node]]\nname = '%s'\nurl = '%s'\n%s\n", name, n.URL(), more)
}
