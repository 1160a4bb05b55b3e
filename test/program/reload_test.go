package program

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// reloading is a program that is reloaded, over nodes pg1 and pg2 that are always configured.
// Its methods are the subtests, which run in order, each on what the one before left.
type reloading struct {
	*harness.Program
	sim            *nodetest.Cluster
	frontend, both string // parts of the configuration: [frontend], and the nodes
	first, second  string // host:port for agents
}

func TestReload(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	r := &reloading{
		sim:      sim,
		frontend: "[frontend]\nhost = '127.0.0.1'\nport = " + harness.PortOf(harness.FreePort(t)) + "\n",
		both:     harness.NodeTable(sim.Node("pg1"), "pg1", "cluster = 'main'") + harness.NodeTable(sim.Node("pg2"), "pg2", "cluster = 'main'"),
		first:    harness.FreePort(t), second: harness.FreePort(t),
	}
	r.Program = harness.Start(t, "c.toml", r.frontend+harness.FastPolls+r.both)
	t.Run("a node with a port added", r.nodeAdded)
	t.Run("its port answers another question", r.portAnswersAnother)
	t.Run("its port moved, a shared one opened", r.portMoved)
	t.Run("renamed", r.nodeRenamed)
	t.Run("moved to another cluster", r.nodeMoved)
	t.Run("url, ttl and rules changed", r.rulesChanged)
	t.Run("token and allow list", r.tokenAndAllow)
	t.Run("the frontend on all addresses, and back", r.allAddresses)
	t.Run("without fast checks, and back", r.fastChecks)
	t.Run("the frontend moved", r.frontendMoved)
	t.Run("history", r.historyFile)
}

func agentSays(t *testing.T, addr, want string) {
	t.Helper()
	if got := harness.AskAgent(t, addr, ""); got != want {
		t.Errorf("agent at %s: %q, want %q", addr, got, want)
	}
}

func (r *reloading) nodeAdded(t *testing.T) {
	r.Reload(t, r.frontend+harness.FastPolls+r.both+harness.NodeTable(r.sim.Node("pg3"), "pg3", "cluster = 'main'\nagent = { replica = '"+r.first+"' }"), harness.Reloaded)
	if got := r.Status(t, "/node/pg3/replica"); got != 200 {
		t.Errorf("GET /node/pg3/replica: %d, want 200", got)
	}
	agentSays(t, r.first, "ready up 100% #replica\n")
	if got := r.Log.Values("changed", "message", harness.Reloaded); !slices.Equal(got, []string{"[main/pg3 added]"}) {
		t.Errorf("changed: %q", got)
	}
}

func (r *reloading) portAnswersAnother(t *testing.T) {
	r.Reload(t, r.frontend+harness.FastPolls+r.both+harness.NodeTable(r.sim.Node("pg3"), "pg3", "cluster = 'main'\nagent = { primary = '"+r.first+"' }"), harness.Reloaded)
	agentSays(t, r.first, "maint down #replica\n")
}

func (r *reloading) portMoved(t *testing.T) {
	shared := harness.FreePort(t)
	r.Reload(t, r.frontend+harness.FastPolls+"[agent]\nlisten = '"+shared+"'\n"+r.both+harness.NodeTable(r.sim.Node("pg3"), "pg3", "cluster = 'main'\nagent = { replica = '"+r.second+"' }"), harness.Reloaded)
	agentSays(t, r.second, "ready up 100% #replica\n")
	harness.AwaitClosed(t, r.first)
	if got := harness.AskAgent(t, shared, "pg1/primary\n"); got != "ready up 100% #primary\n" {
		t.Errorf("shared agent: %q", got)
	}
}

func (r *reloading) nodeRenamed(t *testing.T) {
	r.Reload(t, r.frontend+harness.FastPolls+r.both+harness.NodeTable(r.sim.Node("pg3"), "other", "cluster = 'main'"), harness.Reloaded)
	if got := r.Status(t, "/node/pg3/replica"); got != 404 {
		t.Errorf("GET /node/pg3/replica: %d, want 404", got)
	}
	_, body := harness.Ask(t, nil, "GET", "http://"+r.HTTP+"/node/other/replica") // the member says that it is pg3
	if !strings.Contains(body, `member's name is \"pg3\", want \"other\"`) {
		t.Errorf("GET /node/other/replica: %s", body)
	}
	harness.AwaitClosed(t, r.second)
}

func (r *reloading) nodeMoved(t *testing.T) {
	r.Reload(t, r.frontend+harness.FastPolls+r.both+harness.NodeTable(r.sim.Node("pg3"), "pg3", ""), harness.Reloaded)
	for path, want := range map[string]int{"/cluster/default/node/pg3/replica": 200, "/cluster/main/node/pg3/replica": 404, "/node/pg1/primary": 200} {
		if got := r.Status(t, path); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	resp, body := harness.Ask(t, nil, "GET", "http://"+r.HTTP+"/metrics")
	if resp.StatusCode != 200 || !strings.Contains(body, `patroniglue_node_up{cluster="default",node="pg3"} 1`) || strings.Contains(body, `cluster="main",node="pg3"`) {
		t.Errorf("GET /metrics: %s: %s", resp.Status, harness.OurMetrics(body))
	}
}

func (r *reloading) rulesChanged(t *testing.T) {
	wrong := strings.Replace(r.both, r.sim.Node("pg2").URL(), "http://127.0.0.1:1", 1)
	r.Reload(t, r.frontend+harness.FastPolls+"[cache]\nttl = '3s'\n[checks]\nfallback = 'primary'\n"+wrong, harness.Reloaded)
	r.AwaitStatus(t, "/node/pg2/replica", 503)
	r.AwaitStatus(t, "/node/pg1/replica", 200) // there is no other
	r.Reload(t, r.frontend+harness.FastPolls+r.both, harness.Reloaded)
	r.AwaitStatus(t, "/node/pg2/replica", 200)
	r.AwaitStatus(t, "/node/pg1/replica", 503)
}

func (r *reloading) tokenAndAllow(t *testing.T) {
	leaving := func() int {
		resp, _ := harness.Ask(t, nil, "POST", "http://"+r.HTTP+"/node/pg2/leaving")
		return resp.StatusCode
	}
	if got := leaving(); got != 403 {
		t.Errorf("POST /node/pg2/leaving without token-file: %d, want 403", got)
	}
	r.Reload(t, r.frontend+"token-file = '"+harness.WriteFile(t, "token", "secret\n")+"'\n"+harness.FastPolls+r.both, harness.Reloaded)
	if got := leaving(); got != 401 {
		t.Errorf("POST /node/pg2/leaving with token-file: %d, want 401", got)
	}
	r.Reload(t, r.frontend+"allow = ['192.0.2.0/24']\n"+harness.FastPolls+r.both, harness.Reloaded)
	if _, _, err := harness.TryToAsk(t.Context(), nil, "GET", "http://"+r.HTTP+"/livez"); err == nil {
		t.Error("a client that is no longer allowed is answered")
	}
	r.Reload(t, r.frontend+harness.FastPolls+r.both, harness.Reloaded)
	if got := r.Status(t, "/livez"); got != 200 {
		t.Errorf("GET /livez: %d", got)
	}
}

func (r *reloading) allAddresses(t *testing.T) {
	r.Reload(t, strings.Replace(r.frontend, "127.0.0.1", "", 1)+harness.FastPolls+r.both, harness.Reloaded)
	r.Log.Await(t, 1, "message", harness.Reloaded, "http", "[::]:"+harness.PortOf(r.HTTP))
	if got := r.Status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("GET /node/pg1/primary: %d", got)
	}
	r.Reload(t, r.frontend+harness.FastPolls+r.both, harness.Reloaded)
	if got := r.Status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("GET /node/pg1/primary: %d", got)
	}
	if again, err := net.Listen("tcp", r.HTTP); err == nil {
		again.Close()
		t.Error("another daemon could take connections")
	}
}

func (r *reloading) fastChecks(t *testing.T) {
	shared := "[agent]\nlisten = '" + r.first + "'\n"
	for _, fast := range []string{"fast-checks = true\n", "fast-checks = false\n", "fast-checks = true\n"} {
		r.Reload(t, r.frontend+fast+harness.FastPolls+shared+r.both, harness.Reloaded)
		if got := r.Status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("with %s: GET /node/pg1/primary: %d", fast, got)
		}
		if got := harness.AskAgent(t, r.first, "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("with %s: agent: %q", fast, got)
		}
	}
	r.Reload(t, r.frontend+harness.FastPolls+r.both, harness.Reloaded)
}

func (r *reloading) frontendMoved(t *testing.T) {
	old, moved := r.HTTP, harness.FreePort(t)
	idle, err := net.Dial("tcp", old) // an idle connection, which may be closed
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	r.Reload(t, strings.Replace(r.frontend, harness.PortOf(old), harness.PortOf(moved), 1)+harness.FastPolls+r.both, harness.Reloaded)
	r.HTTP = moved
	if got := r.Status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("GET /node/pg1/primary: %d", got)
	}
	harness.AwaitClosed(t, old)
	r.frontend = strings.Replace(r.frontend, harness.PortOf(old), harness.PortOf(moved), 1)
}

func (r *reloading) historyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history.jsonl")
	r.Reload(t, r.frontend+harness.FastPolls+"[history]\nfile = '"+file+"'\nsize = 5\n"+r.both, harness.Reloaded)
	harness.Eventually(t, harness.Soon, func() error {
		text, err := os.ReadFile(file)
		return harness.Want(strings.Count(string(text), "\n") == 5, "five changes in the file (got %v, %s)", err, text)
	})
	r.Reload(t, r.frontend+harness.FastPolls+r.both, harness.Reloaded)
	r.sim.Kill("pg2")
	r.AwaitBody(t, "/history?node=pg2", `"kind":"known","before":"fresh","after":"out"`)
	if text := harness.ReadFile(t, file); strings.Count(text, "\n") != 5 {
		t.Errorf("the file that is no longer configured has\n%s", text)
	}
}

// TestReloadRefused: a reload that fails changes nothing. Log, health and -check say why.
func TestReloadRefused(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := "[frontend]\n" + harness.AnyPort + harness.FastPolls + harness.NodeTables(sim, "")
	p := harness.Start(t, "c.toml", good)
	metric := func(name string) string {
		_, text := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/metrics")
		return harness.MetricValue(text, name)
	}
	free := harness.FreePort(t)
	for _, tt := range []struct{ name, text, want string }{
		{"mistakes", good + "[cache]\nttl = 'x'\n[[node]]\nname = 'pg 3'\n", "cache.ttl: want a duration"},
		{"no TOML", "[frontend\n", "line 2: "},
		{"a certificate that is not there", strings.Replace(good, "port = 0", "port = 0\ncertfile = '/nowhere/a'\nkeyfile = '/nowhere/b'", 1), "no such file or directory"},
		{"a port in use", good + "[agent]\nlisten = '" + taken.Addr().String() + "'\n" + strings.Replace(harness.NodeTables(sim, "agent = { primary = '"+free+"' }"), "pg1", "pg9", 1), ""},
		{"only a port in use", good + "[agent]\nlisten = '" + taken.Addr().String() + "'\n[[node]]\nname = 'pg9'\nurl = 'http://127.0.0.1:1'\nagent = { primary = '" + free + "' }\n", "address already in use: want a free port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failures := metric(`patroniglue_reloads_total{result="failure"}`)
			p.Reload(t, tt.text, harness.ReloadFailed)
			logged := p.Log.Values("error", "message", harness.ReloadFailed, "level", "error")
			said := logged[len(logged)-1]
			if !strings.Contains(said, tt.want) {
				t.Errorf("the log says %q, want %q", said, tt.want)
			}
			var stdout, stderr bytes.Buffer
			code := harness.Command(t.Context(), []string{"-config", p.Path, "-check"}, &stdout, &stderr)
			if check := strings.ReplaceAll(strings.TrimSuffix(stderr.String(), "\n"), "patroniglue: ", ""); tt.name != "only a port in use" && (code != 1 || check != said) {
				t.Errorf("-check: %d\n%s\nwant what the reload said\n%s", code, check, said)
			}
			var health struct {
				Level      cluster.Level
				Supervisor cluster.Health
			}
			_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health")
			if err := json.Unmarshal([]byte(body), &health); err != nil {
				t.Fatal(err)
			}
			want := "reload failed, keeping the old configuration: " + strings.ReplaceAll(said, "\n", "; ")
			if r := health.Supervisor.Reasons; health.Level != cluster.Warning || len(r) != 1 || r[0].Code != "reload_failed" || r[0].Text != want {
				t.Errorf("/health: %s, want %s", body, want)
			}
			if metric("patroniglue_config_last_reload_successful") != "0" || metric(`patroniglue_reloads_total{result="failure"}`) == failures {
				t.Errorf("/metrics does not show it")
			}
			if got := p.Status(t, "/node/pg1/primary"); got != 200 || p.Status(t, "/node/pg9") != 404 || !harness.Refuses(free) {
				t.Errorf("GET /node/pg1/primary: %d; something changed", got)
			}
		})
	}
	p.Reload(t, good, harness.Reloaded)
	_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health")
	if strings.Contains(body, "reload_failed") || metric("patroniglue_config_last_reload_successful") != "1" || metric(`patroniglue_reloads_total{result="success"}`) != "1" {
		t.Errorf("in the end it has loaded: %s", body)
	}
}

// TestReloadInterruptsNobody: clients that ask every millisecond, by HTTP over one connection and
// over new ones and by the agent, get only good answers during 100 reloads.
func TestReloadInterruptsNobody(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	pg := func(name, more string) string {
		return harness.NodeTable(sim.Node(name), name, "cluster = 'main'\n"+more)
	}
	agentPort, spare := harness.FreePort(t), harness.FreePort(t)
	frontend := "[frontend]\n" + harness.AnyPort + harness.FastPolls
	texts := []string{
		frontend + pg("pg1", "agent = { primary = '"+agentPort+"' }") + pg("pg2", ""),
		frontend + "[checks]\nmax-lag = '1GB'\n" + pg("pg3", "agent = { replica = '"+spare+"' }") + pg("pg2", "timeout = '2s'") + pg("pg1", "interval = '300ms'\nagent = { primary = '"+agentPort+"' }"),
	}
	p := harness.Start(t, "c.toml", texts[0])
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
	conn, err := net.Dial("tcp", p.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	client(0, func() error { // one connection, which must not be closed
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
		resp, body, err := harness.TryToAsk(context.Background(), nil, "GET", "http://"+p.HTTP+"/node/pg2/replica")
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
		p.Reload(t, texts[(i+1)%2], harness.Reloaded)
	}
	cancel()
	clients.Wait()
	for i := range asked {
		if n := asked[i].Load(); n < 100 {
			t.Errorf("client %d was answered %d times only", i, n)
		}
	}
	if got := p.Log.Lines("change", "leader"); len(got) != 1 { // the election at start
		t.Errorf("elections: %q", got)
	}
}

// A reload acknowledges another system identifier, as pg_upgrade makes one.
func TestReloadAcknowledgesAnIdentity(t *testing.T) {
	c := harness.NewSimulated(t, "pg1", "pg2")
	text := "[frontend]\n" + harness.AnyPort + harness.FastPolls + harness.NodeTables(c, "")
	p := harness.Start(t, "c.toml", text)
	p.AwaitStatus(t, "/health?strict", 200)
	c.Node("pg1").Set(func(s *nodetest.State) { s.SystemID = "42" })
	p.AwaitBody(t, "/health", "identity_changed", "to 42: pg1 leads with it", "not followed by pg2 yet")
	if got := p.Status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("/node/pg1/primary: %d", got)
	}
	if _, history, _ := p.Command(t, "history"); !strings.Contains(history, "42") {
		t.Errorf("the history does not have it: %s", history)
	}
	p.Reload(t, text, harness.Reloaded)
	harness.Eventually(t, harness.Soon, func() error {
		_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health")
		return harness.Want(!strings.Contains(body, "identity_changed") && strings.Contains(body, "wrong_cluster"), "that it is acknowledged (got %s)", body)
	})
}
