package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/discovery"
	"patroniglue/discovery/discoverytest"
	"patroniglue/node"
)

// discovering is a configuration without any node.
func discovering(t testing.TB, e *discoverytest.Etcd, more string) string {
	return "[frontend]\nhost = '127.0.0.1'\nport = " + portOf(freePort(t)) + "\n" + fastPolls + "[discovery]\netcd = ['" + e.URL + "']\n" + more + "\n"
}

// untilBody waits for an answer to GET path that has all of the parts.
func (p *program) untilBody(t *testing.T, path string, parts ...string) {
	t.Helper()
	var body string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, body = ask(t, nil, "GET", "http://"+p.http+path)
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
			t.Fatalf("GET %s lacks %q for 30 s:\n%s\nlog:\n%s", path, missing, body, p.log)
		}
	}
}

// Members that Patroni announces are watched without a reload, and one whose key is
// gone is asked on: as long as it answers, its answers count.
func TestDiscovery(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	p := startProgram(t, "c.toml", discovering(t, e, ""))
	until(t, "the primary is known", func() bool { return p.status(t, "/cluster/main/node/pg1/primary") == 200 })
	until(t, "all is ready", func() bool { return p.status(t, "/readyz") == 200 })
	if got := p.status(t, "/cluster/main/node/pg3/replica"); got != 404 {
		t.Errorf("GET of pg3, which nobody announced: %d, want 404", got)
	}
	e.Announce("main", "pg3", sim.Node("pg3").URL())
	until(t, "pg3 is watched", func() bool { return p.status(t, "/node/pg3/replica") == 200 })

	// One that moves is the same node.
	until(t, "all is quiet", func() bool {
		_, body := ask(t, nil, "GET", "http://"+p.http+"/health")
		return strings.Contains(body, `"level":"ok"`)
	})
	_, before := ask(t, nil, "GET", "http://"+p.http+"/history?node=pg2")
	moved := strings.Replace(sim.Node("pg2").URL(), "127.0.0.1", "localhost", 1)
	e.Announce("main", "pg2", moved)
	p.untilBody(t, "/node/pg2", `"url":"`+moved+`"`, `"fresh":true`)
	if _, after := ask(t, nil, "GET", "http://"+p.http+"/history?node=pg2"); after != before {
		t.Errorf("history of a node that moved:\n%s\nbefore:\n%s", after, before)
	}

	e.DeleteAll("/service/")
	p.untilBody(t, "/health", `"code":"unlisted"`, `"node":"pg1"`, `"node":"pg2"`, `"node":"pg3"`, "but it answers", `"code":"discovery_problem"`, "no member is listed below")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg3/replica": 200} {
		if got := p.status(t, path); got != want {
			t.Errorf("GET %s with all keys gone: %d, want %d", path, got, want)
		}
	}
	sim.Node("pg3").Close()
	until(t, "pg3 answers no more", func() bool { return p.status(t, "/node/pg3/replica") == 503 })
	p.untilBody(t, "/node/pg3/replica", "unlisted: the DCS does not list it since ", "connection refused")
	p.untilBody(t, "/metrics", `patroniglue_node_unlisted{cluster="main",node="pg3"} 1`, `patroniglue_discovery_members{state="unlisted"} 3`, "\npatroniglue_discovery_up 1\n", "\npatroniglue_discovery_problems 1\n", "\npatroniglue_discovery_restarts_total 0\n", "\npatroniglue_discovery_last_heard_timestamp_seconds ")
	p.untilBody(t, "/ui/main", "the DCS does not list it since")

	e.Announce("main", "pg1", sim.Node("pg1").URL())
	e.Announce("main", "pg2", sim.Node("pg2").URL())
	p.untilBody(t, "/metrics", `patroniglue_discovery_members{state="unlisted"} 1`, `patroniglue_discovery_members{state="listed"} 2`)
}

// A leader key that changes makes its cluster be polled at once, also when its polls
// are far apart.
func TestDiscoveryLeader(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	e.Put("/service/main/leader", "pg1")
	slow := "[backend]\ninterval = '1h'\nprimary-interval = '1h'\nfast-interval = '10ms'\n[cache]\nttl = '2h'\n"
	p := startProgram(t, "c.toml", strings.Replace(discovering(t, e, ""), fastPolls, slow, 1))
	until(t, "the primary is known", func() bool { return p.status(t, "/cluster/main/node/pg1/primary") == 200 })
	until(t, "all is ready", func() bool { return p.status(t, "/readyz") == 200 })
	time.Sleep(1500 * time.Millisecond) // until all is settled, and polls are an hour apart
	sim.Switchover("pg2")
	if got := p.status(t, "/cluster/main/node/pg1/primary"); got != 200 {
		t.Fatalf("polls are not far apart: pg1 is %d", got)
	}
	e.Put("/service/main/leader", "pg2")
	until(t, "the new primary is known", func() bool { return p.status(t, "/cluster/main/node/pg2/primary") == 200 })
	if got := p.status(t, "/cluster/main/node/pg1/primary"); got != 503 {
		t.Errorf("the old primary: %d, want 503", got)
	}
}

// What cannot be asked, or may not, is listed with the reason and not contacted.
func TestDiscoveryRefuses(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
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
	p := startProgram(t, "c.toml", discovering(t, e, "allow = ['127.0.0.1']\nrewrite = { 'pg.example' = '127.0.0.2' }"))
	until(t, "the primary is known", func() bool { return p.status(t, "/node/pg1/primary") == 200 })
	p.untilBody(t, "/node/outside/replica", "is not asked: it is not in discovery.allow")
	p.untilBody(t, "/node/named/replica", "is not asked: it is not in discovery.allow")
	p.untilBody(t, "/node/twin/replica", "main/pg1 announces this address too")
	p.untilBody(t, "/node/words/replica", "its document is no JSON object")
	p.untilBody(t, "/health", `evil\\x1b[31m`, "groups of Citus are not discovered")
	p.untilBody(t, "/", "groups of Citus are not discovered", "evil\\x1b[31m&lt;b&gt;")
	select {
	case <-contacted:
		t.Error("an address outside of allow was contacted")
	case <-time.After(500 * time.Millisecond):
	}
	const message = "discovery: something that the DCS lists cannot be used"
	if got := p.log.lines("message", message); len(got) != 6 {
		t.Errorf("%d problems are logged, want each once:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// Without etcd configured nodes are answered for, and of all others it is said why
// nothing is known; with it all is well by itself.
func TestDiscoveryLater(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	e.Stop()
	agent := freePort(t)
	p := beginProgram(t, "c.toml", discovering(t, e, "")+"[agent]\nlisten = '"+agent+"'\n"+nodeTable(sim.Node("pg1"), "pg1", "cluster = 'main'"))
	until(t, "its ports are open", func() bool { return len(p.log.lines("message", "answering agent checks")) > 0 })
	p.http = p.log.values("http", "message", "supervising")[0]
	until(t, "the configured node is known", func() bool { return p.status(t, "/node/pg1/primary") == 200 })
	p.untilBody(t, "/readyz", "discovery: no answer from etcd yet: etcd at "+e.URL+": ", "connection refused")
	p.untilBody(t, "/health", `"code":"discovery_stale"`, "no answer from etcd yet")
	if got := p.status(t, "/cluster/main/node/pg2/replica"); got != 503 {
		t.Errorf("GET of a node that may exist: %d, want 503", got)
	}
	if got := askAgent(t, agent, "main/pg2/replica\n"); !strings.HasPrefix(got, `ready down #node "pg2" is not known yet: discovery: no answer`) {
		t.Errorf("agent: %q", got)
	}
	e.Run()
	until(t, "the others are known", func() bool { return p.status(t, "/cluster/main/node/pg2/replica") == 200 })
	until(t, "all is ready", func() bool { return p.status(t, "/readyz") == 200 })
	if got := len(p.log.lines("message", "discovery: etcd is not heard, members stay as known")); got != 1 {
		t.Errorf("that etcd is not heard is logged %d times, want once", got)
	}
	if got := len(p.log.lines("message", "discovery: etcd is heard")); got != 1 {
		t.Errorf("that etcd is heard is logged %d times, want once", got)
	}
	_, body := ask(t, nil, "GET", "http://"+p.http+"/health")
	if strings.Contains(body, "discovery_") {
		t.Errorf("/health: %s", body)
	}

	// A configured node is where the configuration says.
	e.Announce("main", "pg1", "http://127.0.0.1:1")
	e.Announce("main", "pg2", strings.Replace(sim.Node("pg2").URL(), "127.0.0.1", "localhost", 1)) // seen later
	p.untilBody(t, "/node/pg2", `"url":"http://localhost:`)
	p.untilBody(t, "/node/pg1", `"url":"`+sim.Node("pg1").URL()+`"`)

	// A reload changes nothing of what is known.
	p.reload(t, strings.Replace(readFile(t, p.path), "[discovery]", "[discovery]\nallow = ['127.0.0.0/8']", 1), loadedAnew)
	if got := p.status(t, "/cluster/main/node/pg2/replica"); got != 200 {
		t.Errorf("GET after a reload: %d", got)
	}
}

// A name that is announced may resolve to anything: who dials looks at the address.
func TestDiscoveryDials(t *testing.T) {
	contacted := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { contacted <- struct{}{}; io.WriteString(w, "{}") }))
	defer server.Close()
	p := &plan{cfg: defaultConfig(), transports: make(map[backendTLS]*node.Transport), sums: make(map[[3]string][sha256.Size]byte)}
	for _, tc := range []struct {
		allow, err string
	}{
		{"10.0.0.0/8", "is not asked: it is not in discovery.allow"},
		{"127.0.0.0/8", ""},
	} {
		transport, _, err := p.transport(&p.cfg.Backend, []netip.Prefix{netip.MustParsePrefix(tc.allow), netip.MustParsePrefix("fe80::/10")}, &plan{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = node.NewClient(node.Options{URL: u, Timeout: time.Minute, Transport: transport}).Settings(t.Context())
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("allow %s: %v, want %q", tc.allow, err, tc.err)
		}
		if got := len(contacted) > 0; got != (tc.err == "") {
			t.Errorf("allow %s: contacted: %t", tc.allow, got)
		}
	}
}

// The commands know discovered nodes, too.
func TestDiscoveryCommands(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	e.Put("/service/other/members/pg1", "no json")
	e.Announce("main", "pg3-in-patroni", sim.Node("pg3").URL())
	p := startProgram(t, "c.toml", discovering(t, e, "")+"[agent]\nlisten = '"+freePort(t)+"'\n"+nodeTable(sim.Node("pg3"), "pg3", "cluster = 'main'\npostgres = '10.0.0.3:5432'"))
	code, out, errs := p.run(t, "status")
	if code != 2 || strings.Count(out, "\n  pg") != 5 || !strings.Contains(out, "its document is no JSON object") {
		t.Errorf("status: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := p.run(t, "status", "-cluster", "main"); code != 1 || strings.Count(out, "\n  pg") != 4 || !strings.Contains(out, "is not asked for it: it is that of main/pg3, as configured") {
		t.Errorf("status -cluster main: %d\n%s%s", code, out, errs)
	}
	code, out, errs = p.run(t, "haproxy", "-cluster", "main")
	if code != 0 || errs != "patroniglue: discovery: main/pg3-in-patroni is left out: "+strings.TrimPrefix(sim.Node("pg3").URL(), "http://")+" is not asked for it: it is that of main/pg3, as configured\n"+
		"patroniglue: discovery: other/pg1 is left out: its document is no JSON object: invalid character 'o' in literal null (expecting 'u') (got \"no json\")\n" {
		t.Errorf("haproxy: %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"server pg1 127.0.0.1:5432 ", "server pg2 127.0.0.1:5432 ", "server pg3 10.0.0.3:5432 ", "uri-lf /cluster/main/node/%[srv_name]/primary", `agent-send "main/pg1/primary\n"`} {
		if !strings.Contains(out, want) {
			t.Errorf("haproxy.cfg lacks %q:\n%s", want, out)
		}
	}
	e.Stop()
	if code, _, errs := p.run(t, "haproxy"); code != 1 || !strings.Contains(errs, "reading members: etcd at "+e.URL+": reading \"/service/\": dial tcp ") {
		t.Errorf("haproxy without etcd: %d %s", code, errs)
	}
}

// With a file a start while etcd is down knows whom to ask.
func TestDiscoveryFile(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	file := filepath.Join(t.TempDir(), "members.json")
	text := discovering(t, e, "file = '"+file+"'")
	first := startProgram(t, "c.toml", text)
	until(t, "members are kept", func() bool { kept, _ := os.ReadFile(file); return strings.Count(string(kept), `"api_url"`) == 3 })
	first.end()
	<-first.ended
	e.Stop()

	p := startProgram(t, "c.toml", text)
	if got := p.status(t, "/cluster/main/node/pg1/primary"); got != 200 {
		t.Errorf("GET of the primary after a start without etcd: %d", got)
	}
	p.untilBody(t, "/health", `"code":"discovery_stale"`, "members stay as known: etcd at ")
	if got := p.status(t, "/readyz"); got != 200 {
		t.Errorf("GET /readyz: %d", got)
	}
	e.Run()
	e.Delete("/service/main/members/pg3")
	p.untilBody(t, "/health", `"code":"unlisted"`, "but it answers")
	until(t, "that it is unlisted is kept", func() bool { kept, _ := os.ReadFile(file); return strings.Contains(string(kept), `"unlisted"`) })
	p.end()
	<-p.ended
	e.Stop()

	if err := os.WriteFile(file, []byte(`[{"scope":"main","name":"pg1","api_url":"ftp://x"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	p = beginProgram(t, "c.toml", text)
	until(t, "the file is refused", func() bool {
		return len(p.log.lines("message", "discovery: the members that were known are not read", "error", `member "pg1" of "main": want each once, with valid names and addresses`)) == 1
	})
}

// An unlisted member that answers no more is forgotten after an hour, and only then.
func TestDiscoveryForgets(t *testing.T) {
	e := discoverytest.Start(t)
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	cfg, err := parseConfig([]byte(discovering(t, e, "")), files{}.read)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon("", cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { d.sup.Run(ctx) })
	running.Go(func() { d.discovered.watcher.Run(ctx) })
	d.discovered.watcher.Apply(d.plan.Load().source)
	names := func() string {
		var all []string
		for _, v := range d.sup.Views() {
			for _, m := range v.Members {
				name := m.Name
				if !m.Unlisted.IsZero() {
					name += " unlisted"
				}
				all = append(all, name)
			}
		}
		return strings.Join(all, ", ")
	}
	is := func(want string) {
		t.Helper()
		until(t, want, func() bool { d.discovered.look(time.Now()); return names() == want })
	}
	is("pg1, pg2, pg3")
	if err := d.sup.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	e.Delete("/service/main/members/pg2")
	e.Delete("/service/main/members/pg3")
	is("pg1, pg2 unlisted, pg3 unlisted")
	sim.Node("pg3").Close()
	until(t, "pg3 answers no more", func() bool { return d.sup.Views()[0].Members[2].Entry.Failures > 0 })
	d.discovered.look(time.Now().Add(discovery.ForgetAfter - time.Minute))
	if got := names(); got != "pg1, pg2 unlisted, pg3 unlisted" {
		t.Errorf("after 59 minutes: %s", got)
	}
	// By this clock pg2 has not answered for an hour either: give it what it would have.
	gone := time.Now()
	until(t, "pg2 answered since", func() bool { return d.sup.Views()[0].Members[1].Entry.Began.After(gone.Add(time.Second)) })
	d.discovered.look(gone.Add(discovery.ForgetAfter + 500*time.Millisecond))
	if got := names(); got != "pg1, pg2 unlisted" {
		t.Errorf("after an hour: %s", got)
	}
}

// fleet is a daemon that discovered clusters of three, without ports and polls.
func fleet(b testing.TB, clusters int) (*daemon, []discovery.Member) {
	cfg, err := parseConfig([]byte("discovery.etcd = ['http://127.0.0.1:1']"), files{}.read)
	if err != nil {
		b.Fatal(err)
	}
	d, err := newDaemon("", cfg, zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	var members []discovery.Member
	for n := range 3 * clusters {
		members = append(members, discovery.Member{
			Scope: fmt.Sprintf("c%04d", n/3), Name: fmt.Sprintf("pg%d", n%3+1), Postgres: "10.0.0.1:5432",
			API: &url.URL{Scheme: "http", Host: fmt.Sprintf("10.%d.%d.%d:8008", n>>16, n>>8&255, n&255)},
		})
	}
	return d, members
}

// What it costs that one member of 3,000 moves.
func BenchmarkDiscoveryMove(b *testing.B) { benchmarkDiscovery(b, 1) }

// What it costs that all of them leave, or come back.
func BenchmarkDiscoveryLeave(b *testing.B) { benchmarkDiscovery(b, 3000) }

func benchmarkDiscovery(b *testing.B, change int) {
	d, members := fleet(b, 1000)
	n := 0
	for b.Loop() {
		n++
		next := slices.Clone(members)
		for i := range change {
			if change == 1 {
				next[i].API = &url.URL{Scheme: "http", Host: fmt.Sprintf("10.0.0.1:%d", 1000+n%2)}
			} else if n%2 == 0 {
				next[i].Unlisted = time.Unix(1e9, 0)
			}
		}
		p, err := d.plan.Load().with(found{members: next}, d.metrics)
		if err != nil {
			b.Fatal(err)
		}
		d.watch(p)
	}
}
