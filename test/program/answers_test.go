package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/cluster"
	"patroniglue/node/nodetest"
)

// program is the real run in this process, or its binary, over a configuration
// whose HTTP port the kernel chooses.
type program struct {
	path   string // of its configuration
	config string // a file for status: with the port that was chosen
	http   string // host:port
	agents []string
	log    *programLog
	end    func()
	ended  chan struct{} // closed when it has
	code   int           // its exit code, read after ended is closed
}

// programLog takes JSON lines.
type programLog struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *programLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *programLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// lines gives those that have all of the fields, as key, value, key, value.
func (l *programLog) lines(fields ...string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		var got map[string]any
		if json.Unmarshal([]byte(line), &got) != nil {
			continue // a line that is being written
		}
		all := true
		for f := range slices.Chunk(fields, 2) {
			all = all && fmt.Sprint(got[f[0]]) == f[1]
		}
		if all {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// values gives one field of those lines.
func (l *programLog) values(field string, fields ...string) []string {
	var out []string
	for _, line := range l.lines(fields...) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			panic(err) // lines took it
		}
		out = append(out, fmt.Sprint(got[field]))
	}
	return out
}

// until waits for f.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// fastPolls keeps tests short.
const fastPolls = "[backend]\ninterval = '200ms'\nprimary-interval = '100ms'\nfast-interval = '50ms'\n"

// anyPort makes the kernel choose.
const anyPort = "host = '127.0.0.1'\nport = 0\n"

// nodesOf are the tables of a simulated cluster's members, each with more keys.
func nodesOf(c *nodetest.Cluster, more string) string {
	var b strings.Builder
	for i, n := range c.Nodes() {
		fmt.Fprintf(&b, "[[node]]\nname = '%s'\ncluster = 'main'\nurl = '%s'\npostgres = '10.0.0.%d:5432'\n%s\n", n.Name(), n.URL(), 11+i, more)
	}
	return b.String()
}

func newSimulated(t *testing.T, names ...string) *nodetest.Cluster {
	c := nodetest.NewCluster("main", names...)
	t.Cleanup(c.Close)
	return c
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startProgram runs a configuration until the test ends, in a file of that name,
// and returns when every node was polled.
func startProgram(t *testing.T, name, text string, flags ...string) *program {
	t.Helper()
	p := beginProgram(t, name, text, flags...)
	p.awaitReady(t, text, strings.Count(text, "agent = ")+strings.Count(text, "listen = ")-strings.Count(text, "[operator]"))
	p.config = writeFile(t, name, strings.Replace(text, "port = 0", "port = "+portOf(p.http), 1))
	return p
}

// beginProgram is startProgram that waits for nothing.
func beginProgram(t *testing.T, name, text string, flags ...string) *program {
	t.Helper()
	path := writeFile(t, name, text)
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &program{path: path, log: new(programLog), ended: make(chan struct{}), end: func() { cancel(errors.New("the test ends it")) }}
	go func() {
		defer close(p.ended)
		p.code = command(ctx, append([]string{"-config", path}, flags...), io.Discard, p.log)
	}()
	t.Cleanup(func() {
		p.end()
		if err := p.wait(); err != nil {
			t.Errorf("run: %v, want nil", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", p.log)
		}
	})
	return p
}

func (p *program) awaitReady(t *testing.T, text string, agents int) {
	t.Helper()
	until(t, "the program is ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the program ended with exit code %d:\n%s", p.code, p.log)
		default:
		}
		p.agents = p.log.values("listener", "message", "answering agent checks")
		return len(p.agents) >= agents && len(p.log.lines("message", "ready: every node was polled")) > 0
	})
	p.http = p.log.values("http", "message", "supervising")[0]
}

// wait is nil when the program has ended with exit code 0.
func (p *program) wait() error {
	select {
	case <-p.ended:
		if p.code != 0 {
			return fmt.Errorf("exit code %d, want 0", p.code)
		}
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("it still runs after 10 s")
	}
}

// run is a command beside the running program, with its exit code.
func (p *program) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = command(t.Context(), append([]string{"-config", p.config}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// entry is the program without its process, cli.Main: the suite's TestMain says so,
// because the packages below it have tests that need the harness too.
var entry func(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int

// command is the program without its process, with its exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return entry(ctx, "test", args, stdout, stderr)
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}

func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// ask makes one request over a connection of its own. A response without a body
// has "".
func ask(t *testing.T, c *tls.Config, method, url string) (*http.Response, string) {
	t.Helper()
	resp, body, err := tryToAsk(t.Context(), c, method, url)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func tryToAsk(ctx context.Context, c *tls.Config, method, url string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// askAgent sends a line, or nothing, and gives the answer.
func askAgent(t *testing.T, addr, send string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, send); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("agent at %s: %q, %v", addr, line, err)
	}
	return line
}

func refuses(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

func TestDaemonAnswers(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+fastPolls+nodesOf(sim, ""))

	for path, want := range map[string]int{
		"/node/pg1/primary": 200, "/node/pg2/primary": 503, "/node/pg2/replica": 200, "/cluster/main/node/pg3/replica": 200,
		"/primary": 200, "/cluster/main/replica": 200, "/health": 200, "/livez": 200, "/readyz": 200, "/": 200, "/node/pg4/primary": 404,
		"/node/pg1/nonsense": 404, "/node/pg2/replica?lag=much": 400,
	} {
		if resp, body := ask(t, nil, "GET", "http://"+p.http+path); resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d: %s", path, resp.StatusCode, want, body)
		}
	}
	for send, want := range map[string]string{
		"pg1/primary\n":      "ready up 100% #primary\n",
		"main/pg2/replica\n": "ready up 100% #replica\n",
		"pg2/primary\n":      "maint down #replica\n",
	} {
		if got := askAgent(t, p.agents[0], send); got != want {
			t.Errorf("agent: %q is answered by %q, want %q", send, got, want)
		}
	}

	var body string
	until(t, "pg2's lag is known", func() bool { // its first poll may have come before the primary's
		_, body = ask(t, nil, "GET", "http://"+p.http+"/node/pg2")
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
	sim := newSimulated(t, "pg1", "pg2")
	var text strings.Builder
	text.WriteString("[frontend]\n" + anyPort + fastPolls)
	primary, replica := map[string]string{}, map[string]string{}
	for _, n := range sim.Nodes() {
		primary[n.Name()], replica[n.Name()] = freePort(t), freePort(t)
		fmt.Fprintf(&text, "[[node]]\nname = '%s'\nurl = '%s'\nagent = { primary = '%s', replica = '%s' }\n", n.Name(), n.URL(), primary[n.Name()], replica[n.Name()])
	}
	p := startProgram(t, "c.toml", text.String())
	until(t, "four agents answer", func() bool { return len(p.log.lines("message", "answering agent checks")) == 4 })
	// Whatever is or is not sent.
	for _, send := range []string{"", "pg2/replica\n", "nonsense"} {
		for addr, want := range map[string]string{
			primary["pg1"]: "ready up 100% #primary\n", replica["pg1"]: "maint down #primary\n",
			primary["pg2"]: "maint down #replica\n", replica["pg2"]: "ready up 100% #replica\n",
		} {
			if got := askAgent(t, addr, send); got != want {
				t.Errorf("agent at %s, %q sent: %q, want %q", addr, send, got, want)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+fastPolls+nodesOf(sim, ""))
	check := func(wantCode int, level cluster.Level, wantRows ...string) {
		t.Helper()
		code, stdout, stderr := p.run(t, "status")
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

		code, stdout, stderr = p.run(t, "status", "-json")
		var report statusReport
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("status -json: %v: %s%s", err, stdout, stderr)
		}
		if code != wantCode || report.Health.Level != level || len(report.Nodes) != 3 {
			t.Errorf("status -json: exit code %d, level %s and %d nodes, want %d, %s and 3", code, report.Health.Level, len(report.Nodes), wantCode, level)
		}
	}
	level := func(want string) {
		t.Helper()
		until(t, "health is "+want, func() bool {
			_, body := ask(t, nil, "GET", "http://"+p.http+"/health")
			return strings.Contains(body, `"level":"`+want+`","supervisor"`)
		})
	}

	level("ok")
	until(t, "pg2's lag is known", func() bool { // its first poll may have come before the primary's
		_, body := ask(t, nil, "GET", "http://"+p.http+"/node/pg2")
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
	sim := newSimulated(t, "pg1")
	config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", portOf(sim.Node("pg1").Addr())) + nodesOf(sim, "")
	p := &program{config: writeFile(t, "c.toml", config)}
	code, stdout, stderr := p.run(t, "status")
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
			addrs := []string{freePort(t), freePort(t), freePort(t)}
			addrs[which] = used
			config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n[agent]\nlisten = '%s'\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\nagent = { primary = '%s' }\n",
				portOf(addrs[0]), addrs[1], addrs[2])
			var out bytes.Buffer
			code := command(t.Context(), []string{"-config", writeFile(t, "c.toml", config)}, io.Discard, &out)
			message := out.String()
			if code != 1 || strings.Count(message, "\n") != 1 || !strings.Contains(message, used+": bind: address already in use: want a free port, ") {
				t.Errorf("exit code %d and %q, want 1 and one line that names %s", code, message, used)
			}
			for i, addr := range addrs {
				if i != which && !refuses(addr) {
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
	binary, config := builtBinary(t), writeFile(t, "c.toml", "[frontend]\nhost = '127.0.0.1'\nport = 79\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\n")
	cmd := exec.CommandContext(t.Context(), binary, "-config", config)
	if os.Geteuid() == 0 { // root without its capabilities still reads its own files
		requireProgram(t, "setpriv")
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
	code := command(t.Context(), []string{"-config", writeFile(t, "c.toml", config)}, io.Discard, &out)
	want := "patroniglue: listening for HTTP: listen tcp 192.0.2.1:0: bind: cannot assign requested address: want an address of this machine, or none for all\n"
	if code != 1 || out.String() != want {
		t.Errorf("exit code %d and %s, want 1 and %s", code, &out, want)
	}
}

// A name that is not in the DNS (yet) is that node's trouble alone.
func TestDaemonUnknownHost(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	nowhere := strings.Repeat("x", 64) + ".example" // no name may be so long: nobody is asked
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+fastPolls+nodesOf(sim, "")+"[[node]]\nname = 'pg3'\ncluster = 'main'\nurl = 'http://"+nowhere+":8008'\n")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg3/primary": 503, "/health": 200} {
		resp, body := ask(t, nil, "GET", "http://"+p.http+path)
		if resp.StatusCode != want {
			t.Errorf("GET %s: %s: %s, want %d", path, resp.Status, body, want)
		}
		if path == "/node/pg3/primary" && !strings.Contains(body, "lookup "+nowhere+": no such host") {
			t.Errorf("GET %s: %s, want the reason", path, body)
		}
	}
	if n := len(p.log.lines("node", "pg3", "message", "poll failed")); n != 1 {
		t.Errorf("the failed look-up is logged %d times, want once", n)
	}
}

func TestDaemonLog(t *testing.T) {
	for _, debug := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "debug"}[debug], func(t *testing.T) {
			sim := newSimulated(t, "pg1", "pg2", "pg3")
			var flags []string
			if debug {
				flags = append(flags, "-debug")
			}
			p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+fastPolls+nodesOf(sim, ""), flags...)
			until(t, "health is ok", func() bool { return len(p.log.lines("message", "cluster health is ok")) == 1 })

			before := p.log.lines()
			for i := range 200 {
				name := "pg" + strconv.Itoa(1+i%3)
				if i%2 == 0 {
					ask(t, nil, "OPTIONS", "http://"+p.http+"/node/"+name+"/primary")
				} else {
					askAgent(t, p.agents[0], name+"/replica\n")
				}
			}
			if added := p.log.lines()[len(before):]; !debug && len(added) > 0 {
				t.Errorf("200 checks made %d lines:\n%s", len(added), strings.Join(added, "\n"))
			}

			sim.Kill("pg3")
			down := []string{"node", "pg3", "change", "known", "after", "out", "level", "warn", "message", "node counts as down"}
			until(t, "pg3 counts as down", func() bool { return len(p.log.lines(down...)) > 0 })
			polls := sim.Node("pg1").Requests("/primary")
			until(t, "ten polls", func() bool { return sim.Node("pg1").Requests("/primary") > polls+10 })
			if n := len(p.log.lines(down...)); n != 1 {
				t.Errorf("a node's end is logged %d times", n)
			}
			failed := p.log.values("level", "node", "pg3", "message", "poll failed")
			if !debug && len(failed) != 1 || debug && len(failed) < 3 || failed[0] != "info" || slices.Contains(failed[1:], "info") {
				t.Errorf("failed polls are logged at %q, want info once, then at debug", failed)
			}

			sim.Switchover("pg2")
			until(t, "a new leader", func() bool { return len(p.log.lines("message", "new leader", "after", "pg2")) > 0 })
			until(t, "pg1 is a replica", func() bool { return len(p.log.lines("node", "pg1", "change", "role", "after", "replica")) > 0 })
			for _, fields := range [][]string{
				{"change", "leader", "after", "pg1"}, {"change", "leader", "after", "pg2"}, {"change", "role", "node", "pg2", "after", "primary"},
				{"change", "role", "node", "pg1", "after", "replica"}, {"change", "timeline", "node", "pg2", "after", "2"},
			} {
				if n := len(p.log.lines(fields...)); n != 1 {
					t.Errorf("%q is logged %d times, want once", fields, n)
				}
			}
		})
	}
}

// What was wrong before the start is no change; the log tells it all the same.
func TestDaemonLogBadStart(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	sim.Kill("pg1")
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+fastPolls+nodesOf(sim, ""))
	if n := len(p.log.lines("message", "ready: every node was polled", "level", "error", "leader", "none", "health", "critical")); n != 1 {
		t.Errorf("no primary at start is logged %d times at error, want once", n)
	}
}

func TestDaemonQuiet(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	path := writeFile(t, "c.toml", fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", portOf(freePort(t)))+fastPolls+nodesOf(sim, ""))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log programLog
	ended := make(chan int, 1)
	go func() { ended <- command(ctx, []string{"-quiet", "-config", path}, io.Discard, &log) }()
	until(t, "both are polled", func() bool {
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
	sim := newSimulated(t, "pg1", "pg2")
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+fastPolls+nodesOf(sim, ""))
	p.end()
	until(t, "nothing listens", func() bool { return refuses(p.http) && refuses(p.agents[0]) })
	if err := p.wait(); err != nil {
		t.Errorf("run: %v, want nil", err)
	}
	if got := p.log.values("cause", "message", "stopping"); !slices.Equal(got, []string{"the test ends it"}) {
		t.Errorf("stopping is logged with the causes %q", got)
	}
	until(t, "all goroutines end", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, ours := range []string{"patroniglue/cluster.", "patroniglue/httpapi.", "patroniglue/agentapi.", "patroniglue.(*daemon)", "patroniglue.logChanges"} {
			if bytes.Contains(stacks, []byte(ours)) {
				return false
			}
		}
		return true
	})
}

// looksEvery is how often the daemon looks at the files that its configuration names.
const looksEvery = 2 * time.Second

// halfRequest opens a connection on which a request has begun.
func halfRequest(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// On a new connection: one that has been used already counts as idle until a
	// whole header has come (net/http's Server.Shutdown).
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	ask(t, nil, "GET", "http://"+addr+"/livez") // it came later and is answered: conn was accepted
	return conn
}

// startBinary is startProgram in a process of its own.
func startBinary(t *testing.T, text string) (*program, *exec.Cmd) {
	t.Helper()
	path := writeFile(t, "c.toml", text)
	cmd := exec.Command(builtBinary(t), "-config", path)
	p := startCommand(t, text, cmd)
	p.path = path
	return p, cmd
}

// startCommand is startBinary with a command line of its own; text is the
// configuration there.
func startCommand(t *testing.T, text string, cmd *exec.Cmd) *program {
	t.Helper()
	return startCommandBy(t, text, cmd, cmd.Start)
}

func startCommandBy(t *testing.T, text string, cmd *exec.Cmd, start func() error) *program {
	t.Helper()
	p := &program{log: new(programLog), ended: make(chan struct{})}
	cmd.Stderr = p.log
	if err := start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // its exit code tells
		p.code = cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an error: it has ended
		<-p.ended
		if t.Failed() {
			t.Logf("log:\n%s", p.log)
		}
	})
	p.awaitReady(t, text, strings.Count(text, "listen = ")-strings.Count(text, "[operator]"))
	return p
}

func TestSignals(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	config := "[frontend]\n" + anyPort + fastPolls + nodesOf(sim, "")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p, cmd := startBinary(t, config)
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if err := p.wait(); err != nil {
				t.Errorf("%v, want exit code 0", err)
			}
			if got := p.log.values("cause", "message", "stopping"); len(got) != 1 || !strings.HasPrefix(got[0], s.String()) {
				t.Errorf("stopping is logged with the causes %q, want %q", got, s)
			}
			if n := len(p.log.lines("message", "stopped")); n != 1 {
				t.Errorf("stopped is logged %d times", n)
			}
		})
	}
	t.Run("while a request does not end", func(t *testing.T) {
		p, cmd := startBinary(t, config)
		halfRequest(t, p.http)
		begun := time.Now()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Errorf("%v, want exit code 0", err)
		}
		if took := time.Since(begun); took < 4*time.Second {
			t.Errorf("it took %s, want that it waits for some seconds", took)
		}
	})
	t.Run("twice", func(t *testing.T) {
		p, cmd := startBinary(t, config)
		halfRequest(t, p.http) // else it would end at the first
		begun := time.Now()
		for range 100 {
			if cmd.Process.Signal(syscall.SIGTERM) != nil {
				break // it has ended
			}
			time.Sleep(10 * time.Millisecond)
		}
		err := p.wait()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("%v, want death by SIGTERM", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// maxResident is what an idle daemon may keep in memory.
const maxResident = 30 << 20

func TestResidentMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("MEMORY NOT TESTED: want Linux's /proc")
	}
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	_, cmd := startBinary(t, "[frontend]\n"+anyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+nodesOf(sim, ""))
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
	if kB<<10 > maxResident {
		t.Errorf("%d kB are resident, want at most %d", kB, maxResident>>10)
	}
}

func TestDaemonLegacy(t *testing.T) {
	for _, role := range []string{"primary", "replica"} {
		t.Run(role, func(t *testing.T) {
			sim := newSimulated(t, "one", "two")
			name := map[string]string{"primary": "one", "replica": "two"}[role]
			host, port, err := net.SplitHostPort(sim.Node(name).Addr())
			if err != nil {
				t.Fatal(err)
			}
			p := startProgram(t, "config.yml", fmt.Sprintf("frontend:\n  host: 127.0.0.1\n  port: 0\nbackend:\n  host: %s\n  port: %s\n  scheme: http\n  insecure: false\ncache:\n  ttl: 1\n  interval: 0.25\n", host, port), "-verbose")
			lead, follow := 200, 503
			if role == "replica" {
				lead, follow = follow, lead
			}
			for path, want := range map[string]int{
				"/primary": lead, "/master": lead, "/read-write": lead, "/replica": follow, "/read-only": 200, "/health": 200,
			} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					resp, body := ask(t, nil, method, "http://"+p.http+path)
					if resp.StatusCode != want {
						t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, body)
					}
					if path == "/health" && method == "GET" && !strings.Contains(body, `"healthy":true`) {
						t.Errorf("GET /health: %s, want healthy", body)
					}
				}
			}
			if n := len(p.log.lines("level", "warn", "message", "cache.interval: has no effect, an answer is as old as its TTL allows and never swept")); n != 1 {
				t.Errorf("the note on cache.interval is logged %d times", n)
			}
		})
	}
}

// authority signs certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.make(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// make writes NAME.crt and NAME.key: signed by the authority, or by itself while
// there is none.
func (a *authority) make(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore = time.Now().AddDate(-1, 0, 0)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	parent, parentKey := template, key
	if a.cert != nil {
		parent, parentKey = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		a.file(name + ".crt"): {Type: "CERTIFICATE", Bytes: der},
		a.file(name + ".key"): {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// pair are the keys that name a certificate in the configuration.
func (a *authority) pair(name string) string {
	return fmt.Sprintf("certfile = '%s'\nkeyfile = '%s'\n", a.file(name+".crt"), a.file(name+".key"))
}

func (a *authority) load(t *testing.T, name string) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(a.file(name+".crt"), a.file(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serverCert is for 127.0.0.1, and fit for both sides.
func serverCert() *x509.Certificate {
	return &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func clientCert() *x509.Certificate {
	return &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func TestFrontendTLS(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	self := &authority{dir: t.TempDir()}
	cert, _ := self.make(t, "self", serverCert())
	p := startProgram(t, "c.toml", "[frontend]\ntls-min-version = 'TLSv1.3'\n"+anyPort+self.pair("self")+fastPolls+nodesOf(sim, ""))

	roots := x509.NewCertPool()
	roots.AddCert(cert)
	if resp, body := ask(t, &tls.Config{RootCAs: roots}, "GET", "https://"+p.http+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("GET /node/pg1/primary: %s: %s", resp.Status, body)
	}
	if _, _, err := tryToAsk(t.Context(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}, "GET", "https://"+p.http+"/livez"); err == nil {
		t.Error("TLS 1.2 is taken, though tls-min-version is TLSv1.3")
	}
	until(t, "health is ok", func() bool { code, _, _ := p.run(t, "status"); return code == 0 })
	if n := len(p.log.lines("level", "info")); n > 20 {
		t.Errorf("%d lines at info", n)
	}

	// A renewed certificate that the daemon has not loaded.
	self.make(t, "self", serverCert())
	code, _, stderr := p.run(t, "status")
	if code != 3 || !strings.HasSuffix(stderr, "the certificate there is not the one in "+self.file("self.crt")+"\n") {
		t.Errorf("status with another certificate: exit code %d, %s", code, stderr)
	}
}

// Certificates from before names counted (they had a common name only) will do
// for status: it wants the very certificate.
func TestStatusTLSWithoutNames(t *testing.T) {
	sim := newSimulated(t, "pg1")
	self := &authority{dir: t.TempDir()}
	self.make(t, "self", &x509.Certificate{})
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+self.pair("self")+fastPolls+nodesOf(sim, ""))
	if code, _, stderr := p.run(t, "status"); code != 0 {
		t.Errorf("status: exit code %d: %s", code, stderr)
	}
}

func TestFrontendClientCertificates(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	ca, stranger := newAuthority(t), newAuthority(t)
	ca.make(t, "server", serverCert())
	ca.make(t, "client", clientCert())
	stranger.make(t, "client", clientCert())
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+ca.pair("server")+"client-cafile = '"+ca.file("ca.crt")+"'\n"+fastPolls+nodesOf(sim, ""))
	url := "https://" + p.http + "/node/pg1/primary"

	client := &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.load(t, "client")}}
	if resp, body := ask(t, client, "GET", url); resp.StatusCode != 200 {
		t.Errorf("with a certificate: %s: %s", resp.Status, body)
	}
	for name, certs := range map[string][]tls.Certificate{"no": nil, "a stranger's": {stranger.load(t, "client")}} {
		if resp, body, err := tryToAsk(t.Context(), &tls.Config{RootCAs: ca.pool(), Certificates: certs}, "GET", url); err == nil {
			t.Errorf("with %s certificate: %s: %s, want an error", name, resp.Status, body)
		}
	}
	until(t, "status by the server's own certificate", func() bool { code, _, _ := p.run(t, "status"); return code == 0 })
}

func TestBackendTLS(t *testing.T) {
	ca := newAuthority(t)
	ca.make(t, "server", serverCert())
	ca.make(t, "client", clientCert())
	sim := nodetest.Options{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.load(t, "server")}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	cafile := "cafile = '" + ca.file("ca.crt") + "'\n"
	tests := []struct {
		name, backend string
		want          int
		wantReason    string
	}{
		{"CA and certificate", cafile + ca.pair("client"), 200, ""},
		{"any server and a certificate", "insecure = true\n" + ca.pair("client"), 200, ""},
		{"no certificate", cafile, 503, "certificate required"},
		{"no CA", ca.pair("client"), 503, "unknown authority"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+fastPolls+test.backend+nodesOf(sim, ""))
			resp, body := ask(t, nil, "GET", "http://"+p.http+"/node/pg1/primary")
			if resp.StatusCode != test.want || !strings.Contains(body, test.wantReason) {
				t.Errorf("GET /node/pg1/primary: %s: %s, want %d and %q", resp.Status, body, test.want, test.wantReason)
			}
		})
	}
}

func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, log programLog
	ended := make(chan int, 1)
	go func() {
		ended <- command(ctx, []string{"demo", "-listen", "127.0.0.1:0", "-agent", "127.0.0.1:0"}, &stdout, &log)
	}()
	until(t, "the demo is ready", func() bool {
		return len(log.lines("message", "ready: every node was polled")) > 0 && len(log.lines("message", "answering agent checks")) > 0
	})
	http, agent := log.values("http", "message", "supervising")[0], log.values("listener", "message", "answering agent checks")[0]
	for _, want := range []string{"http://" + http + "/\n", "curl -i http://" + http + "/node/pg1/primary\n", "/dev/tcp/127.0.0.1/" + portOf(agent), "Ctrl-C"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the guide has no %q:\n%s", want, &stdout)
		}
	}
	if resp, body := ask(t, nil, "GET", "http://"+http+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("GET /node/pg1/primary: %s: %s", resp.Status, body)
	}
	if got, want := askAgent(t, agent, "pg1/primary\n"), "ready up 100% #primary\n"; got != want {
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
	if !refuses(http) || !refuses(agent) {
		t.Error("the demo is over, but a port is open")
	}
}
