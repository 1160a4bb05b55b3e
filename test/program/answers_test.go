package program

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

func TestDaemonAnswers(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""))

	for path, want := range map[string]int{
		"/node/pg1/primary": 200, "/node/pg2/primary": 503, "/node/pg2/replica": 200, "/cluster/main/node/pg3/replica": 200,
		"/primary": 200, "/cluster/main/replica": 200, "/health": 200, "/livez": 200, "/readyz": 200, "/": 200, "/node/pg4/primary": 404,
		"/node/pg1/nonsense": 404, "/node/pg2/replica?lag=much": 400,
	} {
		if resp, body := harness.Ask(t, nil, "GET", "http://"+p.Http+path); resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d: %s", path, resp.StatusCode, want, body)
		}
	}
	for send, want := range map[string]string{
		"pg1/primary\n":      "ready up 100% #primary\n",
		"main/pg2/replica\n": "ready up 100% #replica\n",
		"pg2/primary\n":      "maint down #replica\n",
	} {
		if got := harness.AskAgent(t, p.Agents[0], send); got != want {
			t.Errorf("agent: %q is answered by %q, want %q", send, got, want)
		}
	}

	var body string
	harness.Until(t, "pg2's lag is known", func() bool { // its first poll may have come before the primary's
		_, body = harness.Ask(t, nil, "GET", "http://"+p.Http+"/node/pg2")
		return strings.Contains(body, `"lag_bytes":0`)
	})
	var state map[string]any
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"node": "pg2", "cluster": "main", "url": sim.Node("pg2").URL(), "postgres": "10.0.0.12:5432", "leader": false, "fresh": true,
		"role": "replica", "state": "running", "timeline": 1.0, "lag_bytes": 0.0, "patroni_version": nodetest.DefaultVersion, "ttl_seconds": 5.0, "failures": 0.0,
	}
	got := maps.Clone(state)
	maps.DeleteFunc(got, func(key string, _ any) bool { return want[key] == nil })
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("GET /node/pg2 (-want +got):\n%s", d)
	}
	for _, key := range []string{"since", "polled_at", "age_seconds", "poll_seconds", "checks"} {
		if state[key] == nil {
			t.Errorf("GET /node/pg2: no %s", key)
		}
	}
}

func TestDaemonDedicatedAgents(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	var text strings.Builder
	text.WriteString("[frontend]\n" + harness.AnyPort + harness.FastPolls)
	primary, replica := map[string]string{}, map[string]string{}
	for _, n := range sim.Nodes() {
		primary[n.Name()], replica[n.Name()] = harness.FreePort(t), harness.FreePort(t)
		fmt.Fprintf(&text, "[[node]]\nname = '%s'\nurl = '%s'\nagent = { primary = '%s', replica = '%s' }\n", n.Name(), n.URL(), primary[n.Name()], replica[n.Name()])
	}
	p := harness.Start(t, "c.toml", text.String())
	harness.Until(t, "four agents answer", func() bool { return len(p.Log.Lines("message", "answering agent checks")) == 4 })
	// Whatever is or is not sent.
	for _, send := range []string{"", "pg2/replica\n", "nonsense"} {
		for addr, want := range map[string]string{
			primary["pg1"]: "ready up 100% #primary\n", replica["pg1"]: "maint down #primary\n",
			primary["pg2"]: "maint down #replica\n", replica["pg2"]: "ready up 100% #replica\n",
		} {
			if got := harness.AskAgent(t, addr, send); got != want {
				t.Errorf("agent at %s, %q sent: %q, want %q", addr, send, got, want)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	check := func(wantCode int, level cluster.Level, wantRows ...string) {
		t.Helper()
		code, stdout, stderr := p.Command(t, "status")
		if code != wantCode || stderr != "" {
			t.Errorf("status: exit code %d, want %d; stderr %q", code, wantCode, stderr)
		}
		var rows []string
		for line := range strings.Lines(stdout) {
			fields := strings.Fields(line)
			if len(fields) > 6 && strings.HasPrefix(fields[0], "pg") && !strings.HasSuffix(fields[0], ":") {
				fields = slices.DeleteFunc(fields, func(s string) bool { return strings.HasSuffix(s, "s") && strings.Contains(s, ".") }) // ages
			}
			rows = append(rows, strings.Join(fields, " "))
		}
		for _, want := range wantRows {
			if !slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, want) }) {
				t.Errorf("status: no line begins with %q:\n%s", want, stdout)
			}
		}

		code, stdout, stderr = p.Command(t, "status", "-json")
		var report client.Status
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("status -json: %v: %s%s", err, stdout, stderr)
		}
		if code != wantCode || report.Health.Level != level || len(report.Nodes) != 3 {
			t.Errorf("status -json: exit code %d, level %s and %d nodes, want %d, %s and 3", code, report.Health.Level, len(report.Nodes), wantCode, level)
		}
	}
	level := func(want string) {
		t.Helper()
		harness.Until(t, "health is "+want, func() bool {
			_, body := harness.Ask(t, nil, "GET", "http://"+p.Http+"/health")
			return strings.Contains(body, `"level":"`+want+`","supervisor"`)
		})
	}

	level("ok")
	harness.Until(t, "pg2's lag is known", func() bool { // its first poll may have come before the primary's
		_, body := harness.Ask(t, nil, "GET", "http://"+p.Http+"/node/pg2")
		return strings.Contains(body, `"lag_bytes":0`)
	})
	check(0, cluster.OK,
		"Cluster main: ok",
		"NODE POSTGRES ROLE STATE TL LAG AGE PRIMARY REPLICA WHY",
		"pg1 10.0.0.11:5432 Leader (primary) running 1 - yes no holds the leader lock",
		"pg2 10.0.0.12:5432 replica running 1 0 B no yes running replica")
	sim.Kill("pg3")
	level("warning")
	check(1, cluster.Warning, "Cluster main: warning", "warning ", "pg3 10.0.0.13:5432 was replica was running 1")
	sim.Kill("pg1")
	level("critical")
	check(2, cluster.Critical, "Cluster main: critical", "critical ", "pg1 10.0.0.11:5432 was primary was running")
}

// Another program that answers every path with some JSON is not all well.
func TestStatusOfAnother(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1")
	config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", harness.PortOf(sim.Node("pg1").Addr())) + harness.NodesOf(sim, "")
	p := &harness.Program{Config: harness.WriteFile(t, "c.toml", config)}
	code, stdout, stderr := p.Command(t, "status")
	want := "patroniglue: asking the running daemon: " + sim.Node("pg1").URL() + ": what answers there is no patroniglue with this configuration\n"
	if code != 3 || stdout != "" || stderr != want {
		t.Errorf("status of a Patroni: exit code %d, stdout %q, stderr %q, want 3 and %q", code, stdout, stderr, want)
	}
}

func TestDaemonPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	used := taken.Addr().String()
	for name, which := range map[string]int{"http": 0, "shared agent": 1, "dedicated agent": 2} {
		t.Run(name, func(t *testing.T) {
			addrs := []string{harness.FreePort(t), harness.FreePort(t), harness.FreePort(t)}
			addrs[which] = used
			config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n[agent]\nlisten = '%s'\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\nagent = { primary = '%s' }\n",
				harness.PortOf(addrs[0]), addrs[1], addrs[2])
			var out bytes.Buffer
			code := harness.Command(t.Context(), []string{"-config", harness.WriteFile(t, "c.toml", config)}, io.Discard, &out)
			message := out.String()
			if code != 1 || strings.Count(message, "\n") != 1 || !strings.Contains(message, used+": bind: address already in use: want a free port, ") {
				t.Errorf("exit code %d and %q, want 1 and one line that names %s", code, message, used)
			}
			for i, addr := range addrs {
				if i != which && !harness.Refuses(addr) {
					t.Errorf("something listens on %s", addr)
				}
			}
		})
	}
}

// A service that may not open its port says which one, and what would help.
func TestDaemonPrivilegedPort(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Skipf("PRIVILEGED PORTS NOT TESTED: %v", err)
	}
	if first, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || first < 80 {
		t.Skipf("PRIVILEGED PORTS NOT TESTED: here those from %d on are everybody's (%v)", first, err)
	}
	binary, config := harness.BuiltBinary(t), harness.WriteFile(t, "c.toml", "[frontend]\nhost = '127.0.0.1'\nport = 79\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\n")
	cmd := exec.CommandContext(t.Context(), binary, "-config", config)
	if os.Geteuid() == 0 { // root without its capabilities still reads its own files
		harness.RequireProgram(t, "setpriv")
		cmd = exec.CommandContext(t.Context(), "setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", binary, "-config", config)
	}
	out, err := cmd.CombinedOutput()
	want := "patroniglue: listening for HTTP: listen tcp 127.0.0.1:79: bind: permission denied: want a port from 1024, or the capability CAP_NET_BIND_SERVICE (patroniglue.service shows how)\n"
	if cmd.ProcessState.ExitCode() != 1 || string(out) != want {
		t.Errorf("%v, %s, want exit code 1 and %s", err, out, want)
	}
}

func TestDaemonForeignAddress(t *testing.T) {
	var out bytes.Buffer
	config := "[frontend]\nhost = '192.0.2.1'\nport = 0\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\n" // a network for documentation
	code := harness.Command(t.Context(), []string{"-config", harness.WriteFile(t, "c.toml", config)}, io.Discard, &out)
	want := "patroniglue: listening for HTTP: listen tcp 192.0.2.1:0: bind: cannot assign requested address: want an address of this machine, or none for all\n"
	if code != 1 || out.String() != want {
		t.Errorf("exit code %d and %s, want 1 and %s", code, &out, want)
	}
}

// A name that is not in the DNS (yet) is that node's trouble alone.
func TestDaemonUnknownHost(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	nowhere := strings.Repeat("x", 64) + ".example" // no name may be so long: nobody is asked
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, "")+"[[node]]\nname = 'pg3'\ncluster = 'main'\nurl = 'http://"+nowhere+":8008'\n")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg3/primary": 503, "/health": 200} {
		resp, body := harness.Ask(t, nil, "GET", "http://"+p.Http+path)
		if resp.StatusCode != want {
			t.Errorf("GET %s: %s: %s, want %d", path, resp.Status, body, want)
		}
		if path == "/node/pg3/primary" && !strings.Contains(body, "lookup "+nowhere+": no such host") {
			t.Errorf("GET %s: %s, want the reason", path, body)
		}
	}
	if n := len(p.Log.Lines("node", "pg3", "message", "poll failed")); n != 1 {
		t.Errorf("the failed look-up is logged %d times, want once", n)
	}
}

func TestDaemonLog(t *testing.T) {
	for _, debug := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "debug"}[debug], func(t *testing.T) {
			sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
			var flags []string
			if debug {
				flags = append(flags, "-debug")
			}
			p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""), flags...)
			harness.Until(t, "health is ok", func() bool { return len(p.Log.Lines("message", "cluster health is ok")) == 1 })

			before := p.Log.Lines()
			for i := range 200 {
				name := "pg" + strconv.Itoa(1+i%3)
				if i%2 == 0 {
					harness.Ask(t, nil, "OPTIONS", "http://"+p.Http+"/node/"+name+"/primary")
				} else {
					harness.AskAgent(t, p.Agents[0], name+"/replica\n")
				}
			}
			if added := p.Log.Lines()[len(before):]; !debug && len(added) > 0 {
				t.Errorf("200 checks made %d lines:\n%s", len(added), strings.Join(added, "\n"))
			}

			sim.Kill("pg3")
			down := []string{"node", "pg3", "change", "known", "after", "out", "level", "warn", "message", "node counts as down"}
			harness.Until(t, "pg3 counts as down", func() bool { return len(p.Log.Lines(down...)) > 0 })
			polls := sim.Node("pg1").Requests("/primary")
			harness.Until(t, "ten polls", func() bool { return sim.Node("pg1").Requests("/primary") > polls+10 })
			if n := len(p.Log.Lines(down...)); n != 1 {
				t.Errorf("a node's end is logged %d times", n)
			}
			failed := p.Log.Values("level", "node", "pg3", "message", "poll failed")
			if !debug && len(failed) != 1 || debug && len(failed) < 3 || failed[0] != "info" || slices.Contains(failed[1:], "info") {
				t.Errorf("failed polls are logged at %q, want info once, then at debug", failed)
			}

			sim.Switchover("pg2")
			harness.Until(t, "a new leader", func() bool { return len(p.Log.Lines("message", "new leader", "after", "pg2")) > 0 })
			harness.Until(t, "pg1 is a replica", func() bool { return len(p.Log.Lines("node", "pg1", "change", "role", "after", "replica")) > 0 })
			for _, fields := range [][]string{
				{"change", "leader", "after", "pg1"}, {"change", "leader", "after", "pg2"}, {"change", "role", "node", "pg2", "after", "primary"},
				{"change", "role", "node", "pg1", "after", "replica"}, {"change", "timeline", "node", "pg2", "after", "2"},
			} {
				if n := len(p.Log.Lines(fields...)); n != 1 {
					t.Errorf("%q is logged %d times, want once", fields, n)
				}
			}
		})
	}
}

// What was wrong before the start is no change; the log tells it all the same.
func TestDaemonLogBadStart(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	sim.Kill("pg1")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	if n := len(p.Log.Lines("message", "ready: every node was polled", "level", "error", "leader", "none", "health", "critical")); n != 1 {
		t.Errorf("no primary at start is logged %d times at error, want once", n)
	}
}

func TestDaemonQuiet(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	path := harness.WriteFile(t, "c.toml", fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", harness.PortOf(harness.FreePort(t)))+harness.FastPolls+harness.NodesOf(sim, ""))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log harness.Log
	ended := make(chan int, 1)
	go func() { ended <- harness.Command(ctx, []string{"-quiet", "-config", path}, io.Discard, &log) }()
	harness.Until(t, "both are polled", func() bool {
		return sim.Node("pg1").Requests("/primary") > 3 && sim.Node("pg2").Requests("/primary") > 3
	})
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if log.String() != "" {
		t.Errorf("with all well, -quiet logs\n%s", &log)
	}
}

// The end of the context ends everything and leaves nothing behind. That open
// requests are answered first is httpapi's to test.
func TestDaemonEnds(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""))
	p.End()
	harness.Until(t, "nothing listens", func() bool { return harness.Refuses(p.Http) && harness.Refuses(p.Agents[0]) })
	if err := p.Wait(); err != nil {
		t.Errorf("run: %v, want nil", err)
	}
	if got := p.Log.Values("cause", "message", "stopping"); !slices.Equal(got, []string{"the test ends it"}) {
		t.Errorf("stopping is logged with the causes %q", got)
	}
	harness.Until(t, "all goroutines end", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, ours := range []string{"patroniglue/cluster.", "patroniglue/httpapi.", "patroniglue/agentapi.", "patroniglue/internal/daemon.", "patroniglue/internal/history."} {
			if bytes.Contains(stacks, []byte(ours)) {
				return false
			}
		}
		return true
	})
}

func TestSignals(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	config := "[frontend]\n" + harness.AnyPort + harness.FastPolls + harness.NodesOf(sim, "")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p, cmd := harness.StartBinary(t, config)
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Errorf("%v, want exit code 0", err)
			}
			if got := p.Log.Values("cause", "message", "stopping"); len(got) != 1 || !strings.HasPrefix(got[0], s.String()) {
				t.Errorf("stopping is logged with the causes %q, want %q", got, s)
			}
			if n := len(p.Log.Lines("message", "stopped")); n != 1 {
				t.Errorf("stopped is logged %d times", n)
			}
		})
	}
	t.Run("while a request does not end", func(t *testing.T) {
		p, cmd := harness.StartBinary(t, config)
		harness.HalfRequest(t, p.Http)
		begun := time.Now()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%v, want exit code 0", err)
		}
		if took := time.Since(begun); took < 4*time.Second {
			t.Errorf("it took %s, want that it waits for some seconds", took)
		}
	})
	t.Run("twice", func(t *testing.T) {
		p, cmd := harness.StartBinary(t, config)
		harness.HalfRequest(t, p.Http) // else it would end at the first
		begun := time.Now()
		for range 100 {
			if cmd.Process.Signal(syscall.SIGTERM) != nil {
				break // it has ended
			}
			time.Sleep(10 * time.Millisecond)
		}
		err := p.Wait()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("%v, want death by SIGTERM", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestResidentMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("MEMORY NOT TESTED: want Linux's /proc")
	}
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	_, cmd := harness.StartBinary(t, "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.NodesOf(sim, ""))
	time.Sleep(3 * time.Second)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nVmRSS:")
	var kB int
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatalf("VmRSS: %v in\n%s", err, text)
	}
	t.Logf("resident memory: %.1f MB", float64(kB)/1024)
	if kB<<10 > harness.MaxResident {
		t.Errorf("%d kB are resident, want at most %d", kB, harness.MaxResident>>10)
	}
}

func TestDaemonLegacy(t *testing.T) {
	for _, role := range []string{"primary", "replica"} {
		t.Run(role, func(t *testing.T) {
			sim := harness.NewSimulated(t, "one", "two")
			name := map[string]string{"primary": "one", "replica": "two"}[role]
			host, port, err := net.SplitHostPort(sim.Node(name).Addr())
			if err != nil {
				t.Fatal(err)
			}
			p := harness.Start(t, "config.yml", fmt.Sprintf("frontend:\n  host: 127.0.0.1\n  port: 0\nbackend:\n  host: %s\n  port: %s\n  scheme: http\n  insecure: false\ncache:\n  ttl: 1\n  interval: 0.25\n", host, port), "-verbose")
			lead, follow := 200, 503
			if role == "replica" {
				lead, follow = follow, lead
			}
			for path, want := range map[string]int{
				"/primary": lead, "/master": lead, "/read-write": lead, "/replica": follow, "/read-only": 200, "/health": 200,
			} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					resp, body := harness.Ask(t, nil, method, "http://"+p.Http+path)
					if resp.StatusCode != want {
						t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, body)
					}
					if path == "/health" && method == "GET" && !strings.Contains(body, `"healthy":true`) {
						t.Errorf("GET /health: %s, want healthy", body)
					}
				}
			}
			if n := len(p.Log.Lines("level", "warn", "message", "cache.interval: has no effect, an answer is as old as its TTL allows and never swept")); n != 1 {
				t.Errorf("the note on cache.interval is logged %d times", n)
			}
		})
	}
}

func TestFrontendTLS(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	self := &harness.Authority{Dir: t.TempDir()}
	cert, _ := self.Make(t, "self", harness.ServerCert())
	p := harness.Start(t, "c.toml", "[frontend]\ntls-min-version = 'TLSv1.3'\n"+harness.AnyPort+self.Pair("self")+harness.FastPolls+harness.NodesOf(sim, ""))

	roots := x509.NewCertPool()
	roots.AddCert(cert)
	if resp, body := harness.Ask(t, &tls.Config{RootCAs: roots}, "GET", "https://"+p.Http+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("GET /node/pg1/primary: %s: %s", resp.Status, body)
	}
	if _, _, err := harness.TryToAsk(t.Context(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}, "GET", "https://"+p.Http+"/livez"); err == nil {
		t.Error("TLS 1.2 is taken, though tls-min-version is TLSv1.3")
	}
	harness.Until(t, "health is ok", func() bool { code, _, _ := p.Command(t, "status"); return code == 0 })
	if n := len(p.Log.Lines("level", "info")); n > 20 {
		t.Errorf("%d lines at info", n)
	}

	// A renewed certificate that the daemon has not loaded.
	self.Make(t, "self", harness.ServerCert())
	code, _, stderr := p.Command(t, "status")
	if code != 3 || !strings.HasSuffix(stderr, "the certificate there is not the one in "+self.File("self.crt")+"\n") {
		t.Errorf("status with another certificate: exit code %d, %s", code, stderr)
	}
}

// Certificates from before names counted (they had a common name only) will do
// for status: it wants the very certificate.
func TestStatusTLSWithoutNames(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1")
	self := &harness.Authority{Dir: t.TempDir()}
	self.Make(t, "self", &x509.Certificate{})
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+self.Pair("self")+harness.FastPolls+harness.NodesOf(sim, ""))
	if code, _, stderr := p.Command(t, "status"); code != 0 {
		t.Errorf("status: exit code %d: %s", code, stderr)
	}
}

func TestFrontendClientCertificates(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	ca, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	ca.Make(t, "client", harness.ClientCert())
	stranger.Make(t, "client", harness.ClientCert())
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+ca.Pair("server")+"client-cafile = '"+ca.File("ca.crt")+"'\n"+harness.FastPolls+harness.NodesOf(sim, ""))
	url := "https://" + p.Http + "/node/pg1/primary"

	client := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Load(t, "client")}}
	if resp, body := harness.Ask(t, client, "GET", url); resp.StatusCode != 200 {
		t.Errorf("with a certificate: %s: %s", resp.Status, body)
	}
	for name, certs := range map[string][]tls.Certificate{"no": nil, "a stranger's": {stranger.Load(t, "client")}} {
		if resp, body, err := harness.TryToAsk(t.Context(), &tls.Config{RootCAs: ca.Pool(), Certificates: certs}, "GET", url); err == nil {
			t.Errorf("with %s certificate: %s: %s, want an error", name, resp.Status, body)
		}
	}
	harness.Until(t, "status by the server's own certificate", func() bool { code, _, _ := p.Command(t, "status"); return code == 0 })
}

func TestBackendTLS(t *testing.T) {
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	ca.Make(t, "client", harness.ClientCert())
	sim := nodetest.Options{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Load(t, "server")}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	cafile := "cafile = '" + ca.File("ca.crt") + "'\n"
	tests := []struct {
		name, backend string
		want          int
		wantReason    string
	}{
		{"CA and certificate", cafile + ca.Pair("client"), 200, ""},
		{"any server and a certificate", "insecure = true\n" + ca.Pair("client"), 200, ""},
		{"no certificate", cafile, 503, "certificate required"},
		{"no CA", ca.Pair("client"), 503, "unknown authority"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+test.backend+harness.NodesOf(sim, ""))
			resp, body := harness.Ask(t, nil, "GET", "http://"+p.Http+"/node/pg1/primary")
			if resp.StatusCode != test.want || !strings.Contains(body, test.wantReason) {
				t.Errorf("GET /node/pg1/primary: %s: %s, want %d and %q", resp.Status, body, test.want, test.wantReason)
			}
		})
	}
}

func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, log harness.Log
	ended := make(chan int, 1)
	go func() {
		ended <- harness.Command(ctx, []string{"demo", "-listen", "127.0.0.1:0", "-agent", "127.0.0.1:0"}, &stdout, &log)
	}()
	harness.Until(t, "the demo is ready", func() bool {
		return len(log.Lines("message", "ready: every node was polled")) > 0 && len(log.Lines("message", "answering agent checks")) > 0
	})
	http, agent := log.Values("http", "message", "supervising")[0], log.Values("listener", "message", "answering agent checks")[0]
	for _, want := range []string{"http://" + http + "/\n", "curl -i http://" + http + "/node/pg1/primary\n", "/dev/tcp/127.0.0.1/" + harness.PortOf(agent), "Ctrl-C"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the guide has no %q:\n%s", want, &stdout)
		}
	}
	if resp, body := harness.Ask(t, nil, "GET", "http://"+http+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("GET /node/pg1/primary: %s: %s", resp.Status, body)
	}
	if got, want := harness.AskAgent(t, agent, "pg1/primary\n"), "ready up 100% #primary\n"; got != want {
		t.Errorf("agent: %q, want %q", got, want)
	}

	// What the guide says works as it stands.
	for line := range strings.Lines(stdout.String()) {
		_, command, ok := strings.Cut(line, "as HAProxy asks  ")
		if !ok {
			continue
		}
		if _, err := exec.LookPath("bash"); err != nil {
			t.Logf("NOT TESTED: the guide's %s: %v", command, err)
			continue
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil || string(out) != "ready up 100% #primary\n" {
			t.Errorf("%s: %q, %v", command, out, err)
		}
	}

	cancel()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("demo: exit code %d, want 0", code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the demo still runs")
	}
	if !harness.Refuses(http) || !harness.Refuses(agent) {
		t.Error("the demo is over, but a port is open")
	}
}
