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

func TestReload(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	pg1, pg2, pg3 := sim.Node("pg1"), sim.Node("pg2"), sim.Node("pg3")
	frontend := "[frontend]\nhost = '127.0.0.1'\nport = " + harness.PortOf(harness.FreePort(t)) + "\n"
	both := harness.NodeTable(pg1, "pg1", "cluster = 'main'") + harness.NodeTable(pg2, "pg2", "cluster = 'main'")
	p := harness.Start(t, "c.toml", frontend+harness.FastPolls+both)
	agent := func(addr, want string) {
		t.Helper()
		if got := harness.AskAgent(t, addr, ""); got != want {
			t.Errorf("agent at %s: %q, want %q", addr, got, want)
		}
	}
	first, second := harness.FreePort(t), harness.FreePort(t)

	t.Run("a node with a port added", func(t *testing.T) {
		p.Reload(t, frontend+harness.FastPolls+both+harness.NodeTable(pg3, "pg3", "cluster = 'main'\nagent = { replica = '"+first+"' }"), harness.LoadedAnew)
		if got := p.Status(t, "/node/pg3/replica"); got != 200 {
			t.Errorf("GET /node/pg3/replica: %d, want 200", got)
		}
		agent(first, "ready up 100% #replica\n")
		if got := p.Log.Values("changed", "message", harness.LoadedAnew); !slices.Equal(got, []string{"[main/pg3 added]"}) {
			t.Errorf("changed: %q", got)
		}
	})
	t.Run("its port answers another question", func(t *testing.T) {
		p.Reload(t, frontend+harness.FastPolls+both+harness.NodeTable(pg3, "pg3", "cluster = 'main'\nagent = { primary = '"+first+"' }"), harness.LoadedAnew)
		agent(first, "maint down #replica\n")
	})
	t.Run("its port moved, a shared one opened", func(t *testing.T) {
		shared := harness.FreePort(t)
		p.Reload(t, frontend+harness.FastPolls+"[agent]\nlisten = '"+shared+"'\n"+both+harness.NodeTable(pg3, "pg3", "cluster = 'main'\nagent = { replica = '"+second+"' }"), harness.LoadedAnew)
		agent(second, "ready up 100% #replica\n")
		harness.Until(t, "the old port is closed", func() bool { return harness.Refuses(first) })
		if got := harness.AskAgent(t, shared, "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("shared agent: %q", got)
		}
	})
	t.Run("renamed", func(t *testing.T) {
		p.Reload(t, frontend+harness.FastPolls+both+harness.NodeTable(pg3, "other", "cluster = 'main'"), harness.LoadedAnew)
		if got := p.Status(t, "/node/pg3/replica"); got != 404 {
			t.Errorf("GET /node/pg3/replica: %d, want 404", got)
		}
		_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/other/replica") // the member says that it is pg3
		if !strings.Contains(body, `member's name is \"pg3\", want \"other\"`) {
			t.Errorf("GET /node/other/replica: %s", body)
		}
		harness.Until(t, "the old port is closed", func() bool { return harness.Refuses(second) })
	})
	t.Run("moved to another cluster", func(t *testing.T) {
		p.Reload(t, frontend+harness.FastPolls+both+harness.NodeTable(pg3, "pg3", ""), harness.LoadedAnew)
		for path, want := range map[string]int{"/cluster/default/node/pg3/replica": 200, "/cluster/main/node/pg3/replica": 404, "/node/pg1/primary": 200} {
			if got := p.Status(t, path); got != want {
				t.Errorf("GET %s: %d, want %d", path, got, want)
			}
		}
		resp, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/metrics")
		if resp.StatusCode != 200 || !strings.Contains(body, `patroniglue_node_up{cluster="default",node="pg3"} 1`) || strings.Contains(body, `cluster="main",node="pg3"`) {
			t.Errorf("GET /metrics: %s: %s", resp.Status, harness.OurLines(body))
		}
	})
	t.Run("url, ttl and rules changed", func(t *testing.T) {
		wrong := strings.Replace(both, pg2.URL(), "http://127.0.0.1:1", 1)
		p.Reload(t, frontend+harness.FastPolls+"[cache]\nttl = '3s'\n[checks]\nfallback = 'primary'\n"+wrong, harness.LoadedAnew)
		harness.Until(t, "pg2 is out, and the primary serves reads", func() bool {
			return p.Status(t, "/node/pg2/replica") == 503 && p.Status(t, "/node/pg1/replica") == 200
		})
		p.Reload(t, frontend+harness.FastPolls+both, harness.LoadedAnew)
		harness.Until(t, "pg2 is back", func() bool { return p.Status(t, "/node/pg2/replica") == 200 && p.Status(t, "/node/pg1/replica") == 503 })
	})
	t.Run("token and allow list", func(t *testing.T) {
		leaving := func() int {
			resp, _ := harness.Ask(t, nil, "POST", "http://"+p.HTTP+"/node/pg2/leaving")
			return resp.StatusCode
		}
		if got := leaving(); got != 403 {
			t.Errorf("POST /node/pg2/leaving without token-file: %d, want 403", got)
		}
		p.Reload(t, frontend+"token-file = '"+harness.WriteFile(t, "token", "secret\n")+"'\n"+harness.FastPolls+both, harness.LoadedAnew)
		if got := leaving(); got != 401 {
			t.Errorf("POST /node/pg2/leaving with token-file: %d, want 401", got)
		}
		p.Reload(t, frontend+"allow = ['192.0.2.0/24']\n"+harness.FastPolls+both, harness.LoadedAnew)
		if _, _, err := harness.TryToAsk(t.Context(), nil, "GET", "http://"+p.HTTP+"/livez"); err == nil {
			t.Error("who is not allowed any more is answered")
		}
		p.Reload(t, frontend+harness.FastPolls+both, harness.LoadedAnew)
		if got := p.Status(t, "/livez"); got != 200 {
			t.Errorf("GET /livez: %d", got)
		}
	})
	t.Run("the frontend on all addresses, and back", func(t *testing.T) {
		p.Reload(t, strings.Replace(frontend, "127.0.0.1", "", 1)+harness.FastPolls+both, harness.LoadedAnew)
		harness.Until(t, "the old port is closed", func() bool {
			return len(p.Log.Lines("message", harness.LoadedAnew, "http", "[::]:"+harness.PortOf(p.HTTP))) == 1
		})
		if got := p.Status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
		p.Reload(t, frontend+harness.FastPolls+both, harness.LoadedAnew)
		if got := p.Status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
		if again, err := net.Listen("tcp", p.HTTP); err == nil {
			again.Close()
			t.Error("another daemon could take connections")
		}
	})
	t.Run("without the short way, and back", func(t *testing.T) {
		shared := "[agent]\nlisten = '" + first + "'\n"
		for _, fast := range []string{"fast-checks = true\n", "fast-checks = false\n", "fast-checks = true\n"} {
			p.Reload(t, frontend+fast+harness.FastPolls+shared+both, harness.LoadedAnew)
			if got := p.Status(t, "/node/pg1/primary"); got != 200 {
				t.Errorf("with %s: GET /node/pg1/primary: %d", fast, got)
			}
			if got := harness.AskAgent(t, first, "pg1/primary\n"); got != "ready up 100% #primary\n" {
				t.Errorf("with %s: agent: %q", fast, got)
			}
		}
		p.Reload(t, frontend+harness.FastPolls+both, harness.LoadedAnew)
	})
	t.Run("the frontend moved", func(t *testing.T) {
		old, moved := p.HTTP, harness.FreePort(t)
		idle, err := net.Dial("tcp", old) // nothing is cut in the middle, but this has nothing open
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		p.Reload(t, strings.Replace(frontend, harness.PortOf(old), harness.PortOf(moved), 1)+harness.FastPolls+both, harness.LoadedAnew)
		p.HTTP = moved
		if got := p.Status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
		harness.Until(t, "the old port is closed", func() bool { return harness.Refuses(old) })
		frontend = strings.Replace(frontend, harness.PortOf(old), harness.PortOf(moved), 1)
	})
	t.Run("history", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.jsonl")
		p.Reload(t, frontend+harness.FastPolls+"[history]\nfile = '"+file+"'\nsize = 5\n"+both, harness.LoadedAnew)
		harness.Until(t, "the file has what is kept", func() bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Count(string(text), "\n") == 5
		})
		p.Reload(t, frontend+harness.FastPolls+both, harness.LoadedAnew)
		sim.Kill("pg2")
		harness.Until(t, "pg2's end is kept", func() bool {
			_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/history?node=pg2")
			return strings.Contains(body, `"kind":"known","before":"fresh","after":"out"`)
		})
		if text := harness.ReadFile(t, file); strings.Count(text, "\n") != 5 {
			t.Errorf("the file that is none any more has\n%s", text)
		}
	})
}

// Whatever is wrong: nothing changes, all say why, and -check says the same.
func TestReloadRefused(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := "[frontend]\n" + harness.AnyPort + harness.FastPolls + harness.NodesOf(sim, "")
	p := harness.Start(t, "c.toml", good)
	metric := func(name string) string {
		_, text := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/metrics")
		return harness.ValueOf(text, name)
	}
	free := harness.FreePort(t)
	for _, tt := range []struct{ name, text, want string }{
		{"mistakes", good + "[cache]\nttl = 'x'\n[[node]]\nname = 'pg 3'\n", "cache.ttl: want a duration"},
		{"no TOML", "[frontend\n", "line 2: "},
		{"a certificate that is not there", strings.Replace(good, "port = 0", "port = 0\ncertfile = '/nowhere/a'\nkeyfile = '/nowhere/b'", 1), "no such file or directory"},
		{"a port in use", good + "[agent]\nlisten = '" + taken.Addr().String() + "'\n" + strings.Replace(harness.NodesOf(sim, "agent = { primary = '"+free+"' }"), "pg1", "pg9", 1), ""},
		{"only a port in use", good + "[agent]\nlisten = '" + taken.Addr().String() + "'\n[[node]]\nname = 'pg9'\nurl = 'http://127.0.0.1:1'\nagent = { primary = '" + free + "' }\n", "address already in use: want a free port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failures := metric(`patroniglue_reloads_total{result="failure"}`)
			p.Reload(t, tt.text, harness.NotLoadedAnew)
			logged := p.Log.Values("error", "message", harness.NotLoadedAnew, "level", "error")
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
			want := "the configuration is not loaded anew, what was before goes on: " + strings.ReplaceAll(said, "\n", "; ")
			if r := health.Supervisor.Reasons; health.Level != cluster.Warning || len(r) != 1 || r[0].Code != "reload_failed" || r[0].Text != want {
				t.Errorf("/health: %s, want %s", body, want)
			}
			if metric("patroniglue_config_last_reload_successful") != "0" || metric(`patroniglue_reloads_total{result="failure"}`) == failures {
				t.Errorf("metrics do not tell")
			}
			if got := p.Status(t, "/node/pg1/primary"); got != 200 || p.Status(t, "/node/pg9") != 404 || !harness.Refuses(free) {
				t.Errorf("GET /node/pg1/primary: %d; something changed", got)
			}
		})
	}
	p.Reload(t, good, harness.LoadedAnew)
	_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health")
	if strings.Contains(body, "reload_failed") || metric("patroniglue_config_last_reload_successful") != "1" || metric(`patroniglue_reloads_total{result="success"}`) != "1" {
		t.Errorf("loaded at last: %s", body)
	}
}

// A client that asks every millisecond, by HTTP over one connection and over new
// ones and by the agent, hears nothing but yes over 100 reloads.
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
		p.Reload(t, texts[(i+1)%2], harness.LoadedAnew)
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
	text := "[frontend]\n" + harness.AnyPort + harness.FastPolls + harness.NodesOf(c, "")
	p := harness.Start(t, "c.toml", text)
	harness.Until(t, "all is well", func() bool { return p.Status(t, "/health?strict") == 200 })
	c.Node("pg1").Set(func(s *nodetest.State) { s.SystemID = "42" })
	p.UntilBody(t, "/health", "identity_changed", "to 42: pg1 leads with it", "not followed by pg2 yet")
	if got := p.Status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("/node/pg1/primary: %d", got)
	}
	if _, history, _ := p.Command(t, "history"); !strings.Contains(history, "42") {
		t.Errorf("the history does not have it: %s", history)
	}
	p.Reload(t, text, "the configuration is loaded anew")
	harness.Until(t, "it is acknowledged", func() bool {
		_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health")
		return !strings.Contains(body, "identity_changed") && strings.Contains(body, "wrong_cluster")
	})
}
