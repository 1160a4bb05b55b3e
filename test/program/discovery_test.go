package program

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patroniglue/discovery/discoverytest"
	"patroniglue/test/harness"
)

// TestDiscovery: members that Patroni announces are polled without a reload, and one whose key is
// gone is still polled: as long as it answers, its answers count.
func TestDiscovery(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	p := harness.Start(t, "c.toml", harness.DiscoveryConfig(t, e, ""))
	p.AwaitStatus(t, "/cluster/main/node/pg1/primary", 200)
	p.AwaitStatus(t, "/readyz", 200)
	if got := p.Status(t, "/cluster/main/node/pg3/replica"); got != 404 {
		t.Errorf("GET of pg3, which is not announced: %d, want 404", got)
	}
	e.Announce("main", "pg3", sim.Node("pg3").URL())
	p.AwaitStatus(t, "/node/pg3/replica", 200)

	// One that moves is the same node.
	p.AwaitBody(t, "/health", `"level":"ok"`)
	_, before := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/history?node=pg2")
	moved := strings.Replace(sim.Node("pg2").URL(), "127.0.0.1", "localhost", 1)
	e.Announce("main", "pg2", moved)
	p.AwaitBody(t, "/node/pg2", `"url":"`+moved+`"`, `"fresh":true`)
	if _, after := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/history?node=pg2"); after != before {
		t.Errorf("history of a node that moved:\n%s\nbefore:\n%s", after, before)
	}

	e.DeleteAll("/service/")
	p.AwaitBody(t, "/health", `"code":"unlisted"`, `"node":"pg1"`, `"node":"pg2"`, `"node":"pg3"`, "but it answers", `"code":"discovery_problem"`, "no member is listed below")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg3/replica": 200} {
		if got := p.Status(t, path); got != want {
			t.Errorf("GET %s with all keys gone: %d, want %d", path, got, want)
		}
	}
	sim.Node("pg3").Close()
	p.AwaitStatus(t, "/node/pg3/replica", 503)
	p.AwaitBody(t, "/node/pg3/replica", "unlisted: the DCS does not list it since ", "connection refused")
	p.AwaitBody(t, "/metrics", `patroniglue_node_unlisted{cluster="main",node="pg3"} 1`, `patroniglue_discovery_members{state="unlisted"} 3`, "\npatroniglue_discovery_up 1\n", "\npatroniglue_discovery_problems 1\n", "\npatroniglue_discovery_restarts_total 0\n", "\npatroniglue_discovery_last_heard_timestamp_seconds ")
	p.AwaitBody(t, "/ui/main", "the DCS does not list it since")

	e.Announce("main", "pg1", sim.Node("pg1").URL())
	e.Announce("main", "pg2", sim.Node("pg2").URL())
	p.AwaitBody(t, "/metrics", `patroniglue_discovery_members{state="unlisted"} 1`, `patroniglue_discovery_members{state="listed"} 2`)
}

// TestDiscoveryLeader: when a leader key changes the cluster is polled at once, even if its polls
// are far apart.
func TestDiscoveryLeader(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	e.Put("/service/main/leader", "pg1")
	slow := "[backend]\ninterval = '1h'\nprimary-interval = '1h'\nfast-interval = '10ms'\n[cache]\nttl = '3h'\n"
	p := harness.Start(t, "c.toml", strings.Replace(harness.DiscoveryConfig(t, e, ""), harness.FastPolls, slow, 1))
	p.AwaitStatus(t, "/cluster/main/node/pg1/primary", 200)
	p.AwaitStatus(t, "/readyz", 200)
	time.Sleep(1500 * time.Millisecond) // until all is settled, and polls are an hour apart
	sim.Switchover("pg2")
	if got := p.Status(t, "/cluster/main/node/pg1/primary"); got != 200 {
		t.Fatalf("polls are not far apart: pg1 is %d", got)
	}
	e.Put("/service/main/leader", "pg2")
	p.AwaitStatus(t, "/cluster/main/node/pg2/primary", 200)
	if got := p.Status(t, "/cluster/main/node/pg1/primary"); got != 503 {
		t.Errorf("the old primary: %d, want 503", got)
	}
}

// TestDiscoveryRefuses: a member that cannot or may not be polled is listed with the reason and not
// contacted.
func TestDiscoveryRefuses(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	contacted := make(chan struct{}, 10)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			contacted <- struct{}{}
			c.Close()
		}
	}()
	e.Announce("main", "pg1", sim.Node("pg1").URL())
	e.Announce("main", "outside", "http://"+l.Addr().String())
	e.Announce("main", "twin", sim.Node("pg1").URL())
	e.Put("/service/main/members/words", "no json")
	e.Put("/service/main/members/evil\x1b[31m<b>", "{}")
	e.Put("/service/main/0/members/pg1", discoverytest.Document("http://127.0.0.1:1"))
	e.Announce("main", "named", "http://"+strings.Replace(l.Addr().String(), "127.0.0.2", "pg.example", 1))
	p := harness.Start(t, "c.toml", harness.DiscoveryConfig(t, e, "allow = ['127.0.0.1']\nrewrite = { 'pg.example' = '127.0.0.2' }"))
	p.AwaitStatus(t, "/node/pg1/primary", 200)
	p.AwaitBody(t, "/node/outside/replica", "is not asked: it is not in discovery.allow")
	p.AwaitBody(t, "/node/named/replica", "is not asked: it is not in discovery.allow")
	p.AwaitBody(t, "/node/twin/replica", "main/pg1 announces this address too")
	p.AwaitBody(t, "/node/words/replica", "its document is no JSON object")
	p.AwaitBody(t, "/health", `evil\\x1b[31m`, "groups of Citus are not discovered")
	p.AwaitBody(t, "/", "groups of Citus are not discovered", "evil\\x1b[31m&lt;b&gt;")
	select {
	case <-contacted:
		t.Error("an address outside of allow was contacted")
	case <-time.After(500 * time.Millisecond):
	}
	const message = "discovery: problem"
	if got := p.Log.Lines("message", message); len(got) != 6 {
		t.Errorf("%d problems are logged, want each once:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// TestDiscoveryLater: while etcd is away checks of configured nodes are answered, and for all
// others the answer says why nothing is known. When etcd comes, all is well by itself.
func TestDiscoveryLater(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	e.Stop()
	agent := harness.FreePort(t)
	p := harness.Begin(t, "c.toml", harness.DiscoveryConfig(t, e, "")+"[agent]\nlisten = '"+agent+"'\n"+harness.NodeTable(sim.Node("pg1"), "pg1", "cluster = 'main'"))
	p.Log.Await(t, 1, "message", "answering agent checks")
	p.HTTP = p.Log.Values("http", "message", "supervising")[0]
	p.AwaitStatus(t, "/node/pg1/primary", 200)
	p.AwaitBody(t, "/readyz", "discovery: no answer from etcd yet: etcd at "+e.URL+": ", "connection refused")
	p.AwaitBody(t, "/health", `"code":"discovery_stale"`, "no answer from etcd yet")
	if got := p.Status(t, "/cluster/main/node/pg2/replica"); got != 503 {
		t.Errorf("GET of a node that may exist: %d, want 503", got)
	}
	if got := harness.AskAgent(t, agent, "main/pg2/replica\n"); !strings.HasPrefix(got, `ready down #node "pg2" is not known yet: discovery: no answer`) {
		t.Errorf("agent: %q", got)
	}
	e.Run()
	p.AwaitStatus(t, "/cluster/main/node/pg2/replica", 200)
	p.AwaitStatus(t, "/readyz", 200)
	if got := len(p.Log.Lines("message", "discovery: etcd does not answer, keeping the known members")); got != 1 {
		t.Errorf("the loss of etcd is logged %d times, want once", got)
	}
	var body string
	harness.Eventually(t, harness.Soon, func() error {
		_, body = harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health")
		return harness.Want(!strings.Contains(body, "discovery_"), "no problem of discovery (got %s)", body)
	})
	p.Log.Await(t, 1, "message", "discovery: etcd answers")
	if got := len(p.Log.Lines("message", "discovery: etcd answers")); got != 1 {
		t.Errorf("the return of etcd is logged %d times, want once", got)
	}

	// A configured node keeps its configured address.
	e.Announce("main", "pg1", "http://127.0.0.1:1")
	e.Announce("main", "pg2", strings.Replace(sim.Node("pg2").URL(), "127.0.0.1", "localhost", 1)) // seen later
	p.AwaitBody(t, "/node/pg2", `"url":"http://localhost:`)
	p.AwaitBody(t, "/node/pg1", `"url":"`+sim.Node("pg1").URL()+`"`)

	// A reload changes nothing of what is known.
	p.Reload(t, strings.Replace(harness.ReadFile(t, p.Path), "'127.0.0.0/8', '::1'", "'127.0.0.0/8'", 1), harness.Reloaded)
	if got := p.Status(t, "/cluster/main/node/pg2/replica"); got != 200 {
		t.Errorf("GET after a reload: %d", got)
	}
}

// TestDiscoveryCommands: the commands know discovered nodes, too.
func TestDiscoveryCommands(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	e.Put("/service/other/members/pg1", "no json")
	e.Announce("main", "pg3-in-patroni", sim.Node("pg3").URL())
	p := harness.Start(t, "c.toml", harness.DiscoveryConfig(t, e, "")+"[agent]\nlisten = '"+harness.FreePort(t)+"'\n"+harness.NodeTable(sim.Node("pg3"), "pg3", "cluster = 'main'\npostgres = '10.0.0.3:5432'"))
	code, out, errs := p.Command(t, "status")
	if code != 2 || strings.Count(out, "\n  pg") != 5 || !strings.Contains(out, "its document is no JSON object") {
		t.Errorf("status: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := p.Command(t, "status", "-cluster", "main"); code != 1 || strings.Count(out, "\n  pg") != 4 || !strings.Contains(out, "is not asked for it: it is the configured address of main/pg3") {
		t.Errorf("status -cluster main: %d\n%s%s", code, out, errs)
	}
	code, out, errs = p.Command(t, "haproxy", "-cluster", "main")
	if code != 0 || errs != "patroniglue: discovery: main/pg3-in-patroni is left out: "+strings.TrimPrefix(sim.Node("pg3").URL(), "http://")+" is not asked for it: it is the configured address of main/pg3\n"+
		"patroniglue: discovery: other/pg1 is left out: its document is no JSON object: invalid character 'o' in literal null (expecting 'u') (got \"no json\")\n" {
		t.Errorf("haproxy: %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"server pg1 127.0.0.1:5432 ", "server pg2 127.0.0.1:5432 ", "server pg3 10.0.0.3:5432 ", "uri-lf /cluster/main/node/%[srv_name]/primary", `agent-send "main/pg1/primary\n"`} {
		if !strings.Contains(out, want) {
			t.Errorf("haproxy.cfg lacks %q:\n%s", want, out)
		}
	}
	e.Stop()
	if code, _, errs := p.Command(t, "haproxy"); code != 1 || !strings.Contains(errs, "reading members: etcd at "+e.URL+": reading \"/service/\": dial tcp ") {
		t.Errorf("haproxy without etcd: %d %s", code, errs)
	}
}

// TestDiscoveryFile: a program that starts while etcd is down polls the members of its file.
func TestDiscoveryFile(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	file := filepath.Join(t.TempDir(), "members.json")
	text := harness.DiscoveryConfig(t, e, "file = '"+file+"'")
	first := harness.Start(t, "c.toml", text)
	harness.Eventually(t, harness.Soon, func() error {
		kept, err := os.ReadFile(file)
		return harness.Want(strings.Count(string(kept), `"api_url"`) == 3, "three members in the file (got %v, %s)", err, kept)
	})
	first.End()
	<-first.Ended
	e.Stop()

	p := harness.Start(t, "c.toml", text)
	if got := p.Status(t, "/cluster/main/node/pg1/primary"); got != 200 {
		t.Errorf("GET of the primary after a start without etcd: %d", got)
	}
	p.AwaitBody(t, "/health", `"code":"discovery_stale"`, "keeping the known members: etcd at ")
	if got := p.Status(t, "/readyz"); got != 200 {
		t.Errorf("GET /readyz: %d", got)
	}
	e.Run()
	e.Delete("/service/main/members/pg3")
	p.AwaitBody(t, "/health", `"code":"unlisted"`, "but it answers")
	harness.AwaitFile(t, file, `"unlisted"`)
	p.End()
	<-p.Ended
	e.Stop()

	if err := os.WriteFile(file, []byte(`[{"scope":"main","name":"pg1","api_url":"ftp://x"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	p = harness.Begin(t, "c.toml", text)
	p.Log.Await(t, 1, "message", "discovery: cannot read the saved members", "error", `member "pg1" of "main": want each once, with valid names and addresses`)
}
