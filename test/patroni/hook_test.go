package patroni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// TestHooks: Patroni itself announces every stop, by contrib/patroni-before-stop, and HAProxy holds new connections. In
// five switchovers no connection attempt fails.
func TestHooks(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Core(t, testHooks)
}

func testHooks(t *testing.T, s lab.Suite) {
	if s == lab.Bookworm {
		t.Skip("Patroni 3.0.2 has no before_stop")
	}
	e := startHooked(t, s)
	announced := 0
	for i := range 5 {
		t.Run(fmt.Sprintf("switchover %d", i+1), func(t *testing.T) {
			if e.switchover(t) {
				announced++
			}
		})
	}
	if announced == 0 {
		t.Error("before each announcement the supervisor knew that the primary was stopping")
	}
}

// hooked is a cluster whose Patroni runs contrib's hooks, behind an HAProxy that holds connections.
type hooked struct{ suite }

// patience is more than a switchover takes on the busiest machine.
const patience = time.Minute

func startHooked(t *testing.T, s lab.Suite) hooked {
	t.Helper()
	dir := t.TempDir() // which Patroni's user, who is not root, may enter
	for dir := dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	install := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const settings = "env PATRONIGLUE_NODE={node} PATRONIGLUE_URLS=http://{http} PATRONIGLUE_TOKEN_FILE={token} "
	hook := func(name string) string { return install(name, harness.ReadFile(t, "contrib/"+name)) }
	// Where all is well patroni-callback prints nothing.
	callback := install("callback", "#!/bin/sh\necho \"patroni-callback runs: $2 $3 $4\" >&2\nexec \"$@\"\n")
	e := hooked{suite{harness.StartCluster(t, lab.Options{
		Suite: s, Visible: []string{dir},
		BeforeStop: settings + hook("patroni-before-stop"),
		Callback:   settings + callback + " " + hook("patroni-callback"),
	}, "\n[cache]\nttl = \"8s\"\n[backend]\ninterval = \"2s\"\nprimary-interval = \"2s\"\n")}}
	e.startHolding(t)
	return e
}

// startHolding runs HAProxy with what "patroniglue haproxy -hold" writes.
func (e hooked) startHolding(t *testing.T) {
	t.Helper()
	l := e.Lab
	var said bytes.Buffer
	args := []string{"-config", l.Config, "haproxy", "-hold", patience.String(), "-o", l.Dir, "-bind", "127.0.0.1", "-user", "", "-socket", l.HAProxySocket,
		"-write-port", harness.PortOf(l.Write), "-read-port", harness.PortOf(l.Read), "-stats-port", harness.PortOf(l.Stats)}
	if code := harness.Command(t.Context(), args, &said, &said); code != 0 {
		t.Fatalf("patroniglue haproxy: exit code %d\n%s", code, &said)
	}
	log := new(harness.Log)
	haproxy := l.Command(t.Context(), "haproxy", "-db", "-f", l.HAProxyConfig)
	haproxy.Stdout, haproxy.Stderr = log, log
	haproxy.Cancel = func() error { return haproxy.Process.Signal(syscall.SIGTERM) }
	haproxy.WaitDelay = 5 * time.Second
	if err := haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		haproxy.Cancel()
		haproxy.Wait()
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", log)
		}
	})
	e.HAProxyShows(t, e.Normal(e.Healthy(t)))
}

// switchover lets clients write while a replica takes over, and reports whether the supervisor heard of the stop first by
// its announcement. If it did, no client may notice.
//
// But Patroni says that it is stopping right before it runs before_stop. A poll in between makes the supervisor take the
// primary out at once, and HAProxy cuts the sessions that are open at that moment. Only those may fail. With polls as often
// as by default that happens in every second switchover, so startHooked makes them rare.
func (e hooked) switchover(t *testing.T) (announced bool) {
	c := e.Healthy(t)
	e.HAProxyShows(t, e.Normal(c))
	from, to := c.Primary, c.Replicas[0]
	lines, said := len(e.Program.Log.Lines()), map[string]string{from.Name: e.nodeLog(t, from), to.Name: e.nodeLog(t, to)}

	sql := "insert into lab (said) values ('" + t.Name() + "') returning inet_server_port()"
	writes := harness.Record(t, 3, 20*time.Millisecond, func() harness.Attempt { return e.TryWithin(2*patience, e.Lab.Write, sql) })
	harness.AwaitServed(t, patience, writes, time.Now())
	if err := e.Lab.Switchover(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	if a := harness.AwaitServed(t, patience, writes, time.Now()); a.Node != to.Name {
		t.Errorf("after the switchover from %s to %s %s was written to", from.Name, to.Name, a.Node)
	}
	attempts := writes.Stop()

	summary := harness.Summarize(attempts, false)
	harness.NoneMisrouted(t, "writes", summary)
	e.RowsKept(t, to, summary)
	stopping, at := e.stop(t, from, lines)
	announced = at.line < stopping.line
	for _, a := range attempts {
		cut := announced && a.Begun.Before(at.Time) && a.Ended.After(at.Add(openFor)) || // a busy machine's
			!announced && a.Begun.Before(at.Add(openFor))
		if a.Err != nil && !cut {
			t.Errorf("failed from %s to %s: %v", a.Begun.Format(harness.ClockFormat), a.Ended.Format(harness.ClockFormat), a.Err)
		}
	}
	if t.Failed() || !announced {
		t.Logf("%s was heard to be stopping at %s, its stop was announced at %s", from.Name, stopping.Format(harness.ClockFormat), at.Format(harness.ClockFormat))
	}
	e.hooksRan(t, from, to, said)
	return announced
}

// openFor is how long open sessions may go on after a stop is announced, which is longer than any here needs.
const openFor = 300 * time.Millisecond

// logged is a line of the program's log.
type logged struct {
	line int
	time.Time
}

// stop is when the program heard first that a node is stopping, and that its stop is announced, after so many lines of its
// log.
func (e hooked) stop(t *testing.T, n lab.Node, after int) (stopping, announced logged) {
	t.Helper()
	seen := make(map[string]logged)
	for i, line := range e.Program.Log.Lines()[after:] {
		var l struct {
			Node, Change, After string
			Time                time.Time
		}
		what := ""
		if json.Unmarshal([]byte(line), &l) == nil && l.Node == n.Name {
			what = l.Change + " " + l.After
		}
		if _, twice := seen[what]; !twice {
			seen[what] = logged{i, l.Time}
		}
	}
	stopping, heard := seen["state stopping"]
	if !heard {
		stopping.line = math.MaxInt // between two polls
	}
	announced, heard = seen["leaving yes"]
	if !heard {
		t.Fatalf("nobody announced that %s stops", n.Name)
	}
	return stopping, announced
}

// hooksRan waits until what a switchover makes Patroni run has run, without a complaint. said is what the nodes' logs had
// before it.
func (e hooked) hooksRan(t *testing.T, from, to lab.Node, said map[string]string) {
	t.Helper()
	want := map[lab.Node][]string{
		from: {
			fmt.Sprintf(`patroni-before-stop: http://%s: {"node":%q,"cluster":%q,"leaving":true,`, e.Lab.HTTP, from.Name, e.Lab.Scope),
			"patroni-callback runs: on_role_change replica " + e.Lab.Scope,
		},
		to: {"patroni-callback runs: on_role_change primary " + e.Lab.Scope},
	}
	harness.Eventually(t, patience, func() error {
		for n, lines := range want {
			text := strings.TrimPrefix(e.nodeLog(t, n), said[n.Name])
			for _, line := range lines {
				if got := strings.Count(text, "\n"+line); got != 1 {
					return fmt.Errorf("%s's Patroni logged %q %d times, want once:\n%s", n.Name, line, got, text)
				}
			}
			if strings.Contains(text, "\npatroni-callback: ") {
				return fmt.Errorf("%s's callback complains:\n%s", n.Name, text)
			}
		}
		return nil
	})
}

func (e hooked) nodeLog(t *testing.T, n lab.Node) string {
	t.Helper()
	return harness.ReadFile(t, filepath.Join(e.Lab.Dir, "log", n.Name+".log"))
}
