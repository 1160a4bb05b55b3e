package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/node/nodetest"
)

const (
	loadedAnew    = "the configuration is loaded anew"
	notLoadedAnew = "the configuration is not loaded anew: all stays as it was"
)

// reload writes another configuration and sends SIGHUP, to this process where
// the program runs in it, and waits for the log to say what became of it.
func (p *program) reload(t *testing.T, text, message string) {
	t.Helper()
	p.reloadBy(t, os.Getpid(), text, message)
}

func (p *program) reloadBy(t *testing.T, pid int, text, message string) {
	t.Helper()
	before := len(p.log.lines("message", message))
	if err := os.WriteFile(p.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, message, func() bool { return len(p.log.lines("message", message)) > before })
}

// status is that of a GET.
func (p *program) status(t *testing.T, path string) int {
	t.Helper()
	resp, _ := ask(t, nil, "GET", "http://"+p.http+path)
	return resp.StatusCode
}

func nodeTable(n *nodetest.Node, name, more string) string {
	return fmt.Sprintf("[[node]]\nname = '%s'\nurl = '%s'\n%s\n", name, n.URL(), more)
}

func TestReload(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	pg1, pg2, pg3 := sim.Node("pg1"), sim.Node("pg2"), sim.Node("pg3")
	frontend := "[frontend]\nhost = '127.0.0.1'\nport = " + portOf(freePort(t)) + "\n"
	both := nodeTable(pg1, "pg1", "cluster = 'main'") + nodeTable(pg2, "pg2", "cluster = 'main'")
	p := startProgram(t, "c.toml", frontend+fastPolls+both)
	agent := func(addr, want string) {
		t.Helper()
		if got := askAgent(t, addr, ""); got != want {
			t.Errorf("agent at %s: %q, want %q", addr, got, want)
		}
	}
	first, second := freePort(t), freePort(t)

	t.Run("a node with a port added", func(t *testing.T) {
		p.reload(t, frontend+fastPolls+both+nodeTable(pg3, "pg3", "cluster = 'main'\nagent = { replica = '"+first+"' }"), loadedAnew)
		if got := p.status(t, "/node/pg3/replica"); got != 200 {
			t.Errorf("GET /node/pg3/replica: %d, want 200", got)
		}
		agent(first, "ready up 100% #replica\n")
		if got := p.log.values("changed", "message", loadedAnew); !slices.Equal(got, []string{"[main/pg3 added]"}) {
			t.Errorf("changed: %q", got)
		}
	})
	t.Run("its port answers another question", func(t *testing.T) {
		p.reload(t, frontend+fastPolls+both+nodeTable(pg3, "pg3", "cluster = 'main'\nagent = { primary = '"+first+"' }"), loadedAnew)
		agent(first, "maint down #replica\n")
	})
	t.Run("its port moved, a shared one opened", func(t *testing.T) {
		shared := freePort(t)
		p.reload(t, frontend+fastPolls+"[agent]\nlisten = '"+shared+"'\n"+both+nodeTable(pg3, "pg3", "cluster = 'main'\nagent = { replica = '"+second+"' }"), loadedAnew)
		agent(second, "ready up 100% #replica\n")
		until(t, "the old port is closed", func() bool { return refuses(first) })
		if got := askAgent(t, shared, "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("shared agent: %q", got)
		}
	})
	t.Run("renamed", func(t *testing.T) {
		p.reload(t, frontend+fastPolls+both+nodeTable(pg3, "other", "cluster = 'main'"), loadedAnew)
		if got := p.status(t, "/node/pg3/replica"); got != 404 {
			t.Errorf("GET /node/pg3/replica: %d, want 404", got)
		}
		_, body := ask(t, nil, "GET", "http://"+p.http+"/node/other/replica") // the member says that it is pg3
		if !strings.Contains(body, `member's name is \"pg3\", want \"other\"`) {
			t.Errorf("GET /node/other/replica: %s", body)
		}
		until(t, "the old port is closed", func() bool { return refuses(second) })
	})
	t.Run("moved to another cluster", func(t *testing.T) {
		p.reload(t, frontend+fastPolls+both+nodeTable(pg3, "pg3", ""), loadedAnew)
		for path, want := range map[string]int{"/cluster/default/node/pg3/replica": 200, "/cluster/main/node/pg3/replica": 404, "/node/pg1/primary": 200} {
			if got := p.status(t, path); got != want {
				t.Errorf("GET %s: %d, want %d", path, got, want)
			}
		}
		resp, body := ask(t, nil, "GET", "http://"+p.http+"/metrics")
		if resp.StatusCode != 200 || !strings.Contains(body, `patroniglue_node_up{cluster="default",node="pg3"} 1`) || strings.Contains(body, `cluster="main",node="pg3"`) {
			t.Errorf("GET /metrics: %s: %s", resp.Status, ourLines(body))
		}
	})
	t.Run("url, ttl and rules changed", func(t *testing.T) {
		wrong := strings.Replace(both, pg2.URL(), "http://127.0.0.1:1", 1)
		p.reload(t, frontend+fastPolls+"[cache]\nttl = '3s'\n[checks]\nfallback = 'primary'\n"+wrong, loadedAnew)
		until(t, "pg2 is out, and the primary serves reads", func() bool {
			return p.status(t, "/node/pg2/replica") == 503 && p.status(t, "/node/pg1/replica") == 200
		})
		p.reload(t, frontend+fastPolls+both, loadedAnew)
		until(t, "pg2 is back", func() bool { return p.status(t, "/node/pg2/replica") == 200 && p.status(t, "/node/pg1/replica") == 503 })
	})
	t.Run("token and allow list", func(t *testing.T) {
		leaving := func() int {
			resp, _ := ask(t, nil, "POST", "http://"+p.http+"/node/pg2/leaving")
			return resp.StatusCode
		}
		if got := leaving(); got != 403 {
			t.Errorf("POST /node/pg2/leaving without token-file: %d, want 403", got)
		}
		p.reload(t, frontend+"token-file = '"+writeFile(t, "token", "secret\n")+"'\n"+fastPolls+both, loadedAnew)
		if got := leaving(); got != 401 {
			t.Errorf("POST /node/pg2/leaving with token-file: %d, want 401", got)
		}
		p.reload(t, frontend+"allow = ['192.0.2.0/24']\n"+fastPolls+both, loadedAnew)
		if _, _, err := tryToAsk(t.Context(), nil, "GET", "http://"+p.http+"/livez"); err == nil {
			t.Error("who is not allowed any more is answered")
		}
		p.reload(t, frontend+fastPolls+both, loadedAnew)
		if got := p.status(t, "/livez"); got != 200 {
			t.Errorf("GET /livez: %d", got)
		}
	})
	t.Run("the frontend on all addresses, and back", func(t *testing.T) {
		p.reload(t, strings.Replace(frontend, "127.0.0.1", "", 1)+fastPolls+both, loadedAnew)
		until(t, "the old port is closed", func() bool { return len(p.log.lines("message", loadedAnew, "http", "[::]:"+portOf(p.http))) == 1 })
		if got := p.status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
		p.reload(t, frontend+fastPolls+both, loadedAnew)
		if got := p.status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
		if again, err := net.Listen("tcp", p.http); err == nil {
			again.Close()
			t.Error("another daemon could take connections")
		}
	})
	t.Run("without the short way, and back", func(t *testing.T) {
		shared := "[agent]\nlisten = '" + first + "'\n"
		for _, fast := range []string{"fast-checks = true\n", "fast-checks = false\n", "fast-checks = true\n"} {
			p.reload(t, frontend+fast+fastPolls+shared+both, loadedAnew)
			if got := p.status(t, "/node/pg1/primary"); got != 200 {
				t.Errorf("with %s: GET /node/pg1/primary: %d", fast, got)
			}
			if got := askAgent(t, first, "pg1/primary\n"); got != "ready up 100% #primary\n" {
				t.Errorf("with %s: agent: %q", fast, got)
			}
		}
		p.reload(t, frontend+fastPolls+both, loadedAnew)
	})
	t.Run("the frontend moved", func(t *testing.T) {
		old, moved := p.http, freePort(t)
		idle, err := net.Dial("tcp", old) // nothing is cut in the middle, but this has nothing open
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		p.reload(t, strings.Replace(frontend, portOf(old), portOf(moved), 1)+fastPolls+both, loadedAnew)
		p.http = moved
		if got := p.status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
		until(t, "the old port is closed", func() bool { return refuses(old) })
		frontend = strings.Replace(frontend, portOf(old), portOf(moved), 1)
	})
	t.Run("history", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.jsonl")
		p.reload(t, frontend+fastPolls+"[history]\nfile = '"+file+"'\nsize = 5\n"+both, loadedAnew)
		until(t, "the file has what is kept", func() bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Count(string(text), "\n") == 5
		})
		p.reload(t, frontend+fastPolls+both, loadedAnew)
		sim.Kill("pg2")
		until(t, "pg2's end is kept", func() bool {
			_, body := ask(t, nil, "GET", "http://"+p.http+"/history?node=pg2")
			return strings.Contains(body, `"kind":"known","before":"fresh","after":"out"`)
		})
		if text := readFile(t, file); strings.Count(text, "\n") != 5 {
			t.Errorf("the file that is none any more has\n%s", text)
		}
	})
}

// Whatever is wrong: nothing changes, all say why, and -check says the same.
func TestReloadRefused(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := "[frontend]\n" + anyPort + fastPolls + nodesOf(sim, "")
	p := startProgram(t, "c.toml", good)
	metric := func(name string) string {
		_, text := ask(t, nil, "GET", "http://"+p.http+"/metrics")
		return valueOf(text, name)
	}
	free := freePort(t)
	for _, tt := range []struct{ name, text, want string }{
		{"mistakes", good + "[cache]\nttl = 'x'\n[[node]]\nname = 'pg 3'\n", "cache.ttl: want a duration"},
		{"no TOML", "[frontend\n", "line 2: "},
		{"a certificate that is not there", strings.Replace(good, "port = 0", "port = 0\ncertfile = '/nowhere/a'\nkeyfile = '/nowhere/b'", 1), "no such file or directory"},
		{"a port in use", good + "[agent]\nlisten = '" + taken.Addr().String() + "'\n" + strings.Replace(nodesOf(sim, "agent = { primary = '"+free+"' }"), "pg1", "pg9", 1), ""},
		{"only a port in use", good + "[agent]\nlisten = '" + taken.Addr().String() + "'\n[[node]]\nname = 'pg9'\nurl = 'http://127.0.0.1:1'\nagent = { primary = '" + free + "' }\n", "address already in use: want a free port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failures := metric(`patroniglue_reloads_total{result="failure"}`)
			p.reload(t, tt.text, notLoadedAnew)
			logged := p.log.values("error", "message", notLoadedAnew, "level", "error")
			said := logged[len(logged)-1]
			if !strings.Contains(said, tt.want) {
				t.Errorf("the log says %q, want %q", said, tt.want)
			}
			var stdout, stderr bytes.Buffer
			code := command(t.Context(), []string{"-config", p.path, "-check"}, &stdout, &stderr)
			if check := strings.ReplaceAll(strings.TrimSuffix(stderr.String(), "\n"), "patroniglue: ", ""); tt.name != "only a port in use" && (code != 1 || check != said) {
				t.Errorf("-check: %d\n%s\nwant what the reload said\n%s", code, check, said)
			}
			var health struct {
				Level      cluster.Level
				Supervisor cluster.Health
			}
			_, body := ask(t, nil, "GET", "http://"+p.http+"/health")
			if err := json.Unmarshal([]byte(body), &health); err != nil {
				t.Fatal(err)
			}
			want := "the configuration is not loaded anew, what was before goes on: " + strings.ReplaceAll(said, "\n", "; ")
			if r := health.Supervisor.Reasons; health.Level != cluster.Warning || len(r) != 1 || r[0].Code != "reload_failed" || r[0].Text != want {
				t.Errorf("/health: %s, want %s", body, want)
			}
			if metric("patroniglue_config_last_reload_successful") != "0" || metric(`patroniglue_reloads_total{result="failure"}`) == failures {
				t.Errorf("metrics do not tell")
			}
			if got := p.status(t, "/node/pg1/primary"); got != 200 || p.status(t, "/node/pg9") != 404 || !refuses(free) {
				t.Errorf("GET /node/pg1/primary: %d; something changed", got)
			}
		})
	}
	p.reload(t, good, loadedAnew)
	_, body := ask(t, nil, "GET", "http://"+p.http+"/health")
	if strings.Contains(body, "reload_failed") || metric("patroniglue_config_last_reload_successful") != "1" || metric(`patroniglue_reloads_total{result="success"}`) != "1" {
		t.Errorf("loaded at last: %s", body)
	}
}

// A client that asks every millisecond, by HTTP over one connection and over new
// ones and by the agent, hears nothing but yes over 100 reloads.
func TestReloadInterruptsNobody(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	pg := func(name, more string) string { return nodeTable(sim.Node(name), name, "cluster = 'main'\n"+more) }
	agentPort, spare := freePort(t), freePort(t)
	frontend := "[frontend]\n" + anyPort + fastPolls
	texts := []string{
		frontend + pg("pg1", "agent = { primary = '"+agentPort+"' }") + pg("pg2", ""),
		frontend + "[checks]\nmax-lag = '1GB'\n" + pg("pg3", "agent = { replica = '"+spare+"' }") + pg("pg2", "timeout = '2s'") + pg("pg1", "interval = '300ms'\nagent = { primary = '"+agentPort+"' }"),
	}
	p := startProgram(t, "c.toml", texts[0])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	var asked [3]atomic.Int64
	client := func(i int, ask func() error) {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := ask(); err != nil {
					t.Errorf("client %d, after %d answers: %v", i, asked[i].Load(), err)
					return
				}
				asked[i].Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	conn, err := net.Dial("tcp", p.http)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	client(0, func() error { // one connection, which nobody may cut
		if _, err := io.WriteString(conn, "GET /node/pg1/primary HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			return fmt.Errorf("%s, %v", resp.Status, err)
		}
		return nil
	})
	client(1, func() error {
		resp, body, err := tryToAsk(context.Background(), nil, "GET", "http://"+p.http+"/node/pg2/replica")
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status + ": " + body)
		}
		return err
	})
	client(2, func() error {
		c, err := net.Dial("tcp", agentPort)
		if err != nil {
			return err
		}
		defer c.Close()
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "ready up 100% #primary\n" {
			return fmt.Errorf("%q, %v", line, err)
		}
		return nil
	})
	for i := range 100 {
		p.reload(t, texts[(i+1)%2], loadedAnew)
	}
	cancel()
	clients.Wait()
	for i := range asked {
		if n := asked[i].Load(); n < 100 {
			t.Errorf("client %d was answered %d times only", i, n)
		}
	}
	if got := p.log.lines("change", "leader"); len(got) != 1 { // the election at start
		t.Errorf("elections: %q", got)
	}
}

// A thousand reloads leave nothing behind: no goroutine, no descriptor, no
// memory, no series of a metric.
func TestReloadLeaksNothing(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	ca := newAuthority(t)
	ca.make(t, "server", serverCert())
	port, spare := freePort(t), freePort(t)
	p := startQuiet(t, "[frontend]\n"+anyPort+fastPolls+nodeTable(sim.Node("pg1"), "pg1", ""))
	text := func(i int) string {
		frontend := "[frontend]\n" + anyPort
		if i%4 == 1 {
			frontend += ca.pair("server")
		}
		frontend += "[history]\nsize = 100\n"
		return frontend + fastPolls + "cafile = '" + ca.file("ca.crt") + "'\n" + nodeTable(sim.Node("pg1"), "pg1", "agent = { primary = '"+[]string{port, spare}[i%2]+"' }") +
			nodeTable(sim.Node("pg2"), fmt.Sprintf("node%d", i), "") + nodeTable(sim.Node("pg3"), "pg3", fmt.Sprintf("cluster = 'c%d'", i%3))
	}
	type counts struct{ goroutines, files, heap, series int }
	measure := func() (c counts) {
		t.Helper()
		p.reload(t, text(0)) // without TLS
		for range 3 {        // for what ends soon
			time.Sleep(200 * time.Millisecond)
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return counts{runtime.NumGoroutine(), len(fds), int(m.HeapAlloc), strings.Count(scrape(t, p.d.http.Handler()), "\npatroniglue_")}
	}
	for i := range 100 {
		p.reload(t, text(i))
	}
	before := measure()
	for i := range 1000 {
		p.reload(t, text(i))
	}
	after := measure()
	t.Logf("before %+v, after 1000 reloads %+v", before, after)
	if after.goroutines > before.goroutines+5 || after.files > before.files+5 || after.series != before.series || after.heap > before.heap+1<<20 {
		t.Errorf("before %+v, after 1000 reloads %+v", before, after)
	}
}

// quietDaemon runs in this process without a log.
type quietDaemon struct {
	d    *daemon
	path string
}

func startQuiet(t *testing.T, text string) *quietDaemon {
	t.Helper()
	path := writeFile(t, "c.toml", text)
	cfg, err := readConfigAt(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(path, cfg, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	d.opened = func(_, _ []net.Addr) { close(opened) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	<-opened
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return &quietDaemon{d, path}
}

// reload sends SIGHUP and waits until the configuration was loaded.
func (q *quietDaemon) reload(t *testing.T, text string) {
	t.Helper()
	loaded := func() uint64 {
		r := &q.d.reloads
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.config != nil {
			t.Fatal(r.config)
		}
		return r.succeeded
	}
	before := loaded()
	if err := os.WriteFile(q.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); loaded() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not loaded anew")
		}
	}
}

// Certificates are renewed by programs that tell nobody, and that write one file
// after the other.
func TestCertificatesRenewed(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	self := &authority{dir: t.TempDir()}
	self.make(t, "self", serverCert())
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+self.pair("self")+fastPolls+nodesOf(sim, ""))
	shown := func() *x509.Certificate {
		t.Helper()
		c, err := tls.Dial("tcp", p.http, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	old := shown()
	kept, err := tls.Dial("tcp", p.http, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	r := bufio.NewReader(kept)
	stillOpen := func() {
		t.Helper()
		if _, err := io.WriteString(kept, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatalf("the open connection: %v", err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("the open connection: %v", err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	stillOpen()

	other := &authority{dir: t.TempDir()}
	renewed, _ := other.make(t, "self", serverCert())
	replace := func(name string) {
		t.Helper()
		if err := os.WriteFile(self.file(name), []byte(readFile(t, other.file(name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const unusable = "files that the configuration names have changed and cannot be used: all stays as it was"
	replace("self.crt") // its key has not come yet
	until(t, "half a pair is refused", func() bool { return len(p.log.lines("message", unusable, "level", "error")) == 1 })
	if !shown().Equal(old) {
		t.Error("half a pair is shown")
	}
	_, body := ask(t, &tls.Config{InsecureSkipVerify: true}, "GET", "https://"+p.http+"/health")
	if !strings.Contains(body, "reload_failed") || !strings.Contains(body, "frontend.certfile: want a certificate and its key in PEM") {
		t.Errorf("/health: %s", body)
	}
	time.Sleep(2 * looksEvery)
	if n := len(p.log.lines("message", unusable)); n != 1 {
		t.Errorf("half a pair is logged %d times, want once", n)
	}
	replace("self.key")
	until(t, "the renewed certificate is shown", func() bool { return shown().Equal(renewed) })
	stillOpen()
	if _, body := ask(t, &tls.Config{InsecureSkipVerify: true}, "GET", "https://"+p.http+"/health"); strings.Contains(body, "reload_failed") {
		t.Errorf("/health: %s", body)
	}
	until(t, "the log says that half a pair is over, once", func() bool {
		return len(p.log.lines("message", "no longer wrong with the supervisor itself")) == 1
	})
	if got := p.log.values("changed", "message", loadedAnew); len(got) != 1 || !strings.Contains(got[0], "self.crt") || strings.Contains(got[0], "frontend") {
		t.Errorf("changed: %q, want the two files", got)
	}

	again, _ := other.make(t, "self", serverCert())
	replace("self.crt")
	replace("self.key")
	p.reload(t, readFile(t, p.path), loadedAnew) // at once
	if !shown().Equal(again) {
		t.Error("after SIGHUP the renewed certificate is not shown")
	}
	p.reload(t, "[frontend]\n"+anyPort+fastPolls+nodesOf(sim, ""), loadedAnew) // without TLS, on the same port
	if got := p.status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("GET /node/pg1/primary: %d", got)
	}
	stillOpen()
}

// The authority of the nodes' certificates is another.
func TestAuthorityRenewed(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	ca.make(t, "server", serverCert())
	sim := nodetest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{ca.load(t, "server")}}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	file := writeFile(t, "ca.crt", readFile(t, stranger.file("ca.crt")))
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+fastPolls+"cafile = '"+file+"'\n"+nodesOf(sim, ""))
	if got := p.status(t, "/node/pg1/primary"); got != 503 {
		t.Fatalf("GET /node/pg1/primary: %d, want 503: its authority is a stranger", got)
	}
	if err := os.WriteFile(file, []byte(readFile(t, ca.file("ca.crt"))), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "pg1 is believed", func() bool { return p.status(t, "/node/pg1/primary") == 200 })
}

// activated starts the binary as systemd does, with listening sockets.
func activated(t *testing.T, text string, sockets ...*os.File) (*program, *exec.Cmd) {
	t.Helper()
	path := writeFile(t, "c.toml", text)
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=`+fmt.Sprint(len(sockets))+` exec "$0" -config "$1"`, builtBinary(t), path)
	cmd.ExtraFiles = sockets
	p := startCommand(t, text, cmd)
	p.path = path
	return p, cmd
}

// With sockets from systemd no connection is refused while the daemon restarts:
// they wait.
func TestSocketActivation(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	var files []*os.File
	var addrs []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		t.Cleanup(func() { f.Close() })
		files, addrs = append(files, f), append(addrs, ln.Addr().String())
	}
	text := "[frontend]\nhost = 'localhost'\nport = " + portOf(addrs[0]) + "\n[agent]\nlisten = '" + addrs[1] + "'\n" + fastPolls + nodesOf(sim, "")
	p, cmd := activated(t, text, files...)
	if got := p.log.values("socket", "level", "error", "message", "systemd passed a socket that fits no address of the configuration, so nobody answers there: want localhost:"+
		portOf(addrs[0])+" (frontend.port), "+addrs[1]+" (agent.listen)"); !slices.Equal(got, addrs[2:]) {
		t.Errorf("the socket that fits nothing is logged as %q, want %s", got, addrs[2])
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	var asked atomic.Int64
	for _, ask := range []func() error{
		func() error {
			resp, body, err := tryToAsk(context.Background(), nil, "GET", "http://"+addrs[0]+"/node/pg1/primary")
			if err == nil && resp.StatusCode != 200 {
				err = errors.New(resp.Status + body)
			}
			return err
		},
		func() error {
			c, err := net.Dial("tcp", addrs[1])
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := io.WriteString(c, "pg1/primary\n"); err != nil {
				return err
			}
			// One that stops says nothing: HAProxy keeps what it knows.
			if line, err := bufio.NewReader(c).ReadString('\n'); line != "ready up 100% #primary\n" && line != "" {
				return fmt.Errorf("%q, %v", line, err)
			}
			return nil
		},
	} {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := ask(); err != nil {
					t.Errorf("after %d answers: %v", asked.Load(), err)
					return
				}
				asked.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 5 {
		time.Sleep(200 * time.Millisecond)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // RestartSec
		p, cmd = activated(t, text, files...)
	}

	// A reload to the socket that was of no use, and back.
	other := strings.Replace(text, addrs[1], addrs[2], 1)
	cancel()
	clients.Wait()
	for range 2 {
		p.reloadBy(t, cmd.Process.Pid, other, loadedAnew)
		if got := askAgent(t, addrs[2], "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("agent: %q", got)
		}
		p.reloadBy(t, cmd.Process.Pid, text, loadedAnew)
		if got := askAgent(t, addrs[1], "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("agent: %q", got)
		}
	}
	if n := asked.Load(); n < 200 {
		t.Errorf("%d answers only", n)
	}
}

// What a socket of systemd's is for is told by its address, however that is written.
func TestPassedTo(t *testing.T) {
	all, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	p := newPorts(zerolog.Nop())
	for _, ln := range []net.Listener{all, one} {
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p.passed = append(p.passed, &passedSocket{file: f, addr: ln.Addr()})
	}
	allPort, onePort := portOf(all.Addr().String()), portOf(one.Addr().String())
	for addr, want := range map[string]net.Listener{
		":" + allPort: all, "0.0.0.0:" + allPort: all, "[::]:" + allPort: all, "127.0.0.1:" + allPort: nil,
		"127.0.0.1:" + onePort: one, "localhost:" + onePort: one, ":" + onePort: nil, "[::1]:" + onePort: nil, strings.Repeat("x", 64) + ".example:1": nil,
	} {
		got, err := p.passedTo(addr)
		if err != nil || (got == nil) != (want == nil) || got != nil && got.Addr().String() != want.Addr().String() {
			t.Errorf("%s: %v, %v, want %v", addr, got, err, want)
		}
		if got != nil {
			got.Close()
		}
	}
}
