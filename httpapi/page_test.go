package httpapi_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// page gets a page.
func (s *stack) page(target string) string {
	s.Helper()
	a := s.get(target)
	if a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" || a.header.Get("Cache-Control") != "no-store" {
		s.Fatalf("GET %s = %d %v %s", target, a.status, a.header, a.body)
	}
	return a.body
}

// element cuts the element with this id out of a page, up to the next of the same name.
func (s *stack) element(page, id string) string {
	s.Helper()
	m := regexp.MustCompile(`(?s)<(\w+) id="` + regexp.QuoteMeta(id) + `".*?</`).FindStringSubmatchIndex(page)
	if m == nil {
		s.Fatalf("no element %q in the page: %s", id, page)
	}
	text := page[m[0]:]
	return text[:strings.Index(text, "</"+page[m[2]:m[3]]+">")]
}

func contains(t testing.TB, where, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %s: %s", w, where, text)
		}
	}
}

func containsNot(t testing.TB, where, text string, bad ...string) {
	t.Helper()
	for _, b := range bad {
		if strings.Contains(text, b) {
			t.Errorf("%q in %s: %s", b, where, text)
		}
	}
}

func TestPage(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "4.1.4", "main", "pg1", "pg2", "pg3")
		c.Node("pg2").Set(func(s *nodetest.State) {
			s.Tags = map[string]any{"zone": "a", "noloadbalance": true}
			s.Extra = map[string]any{"pending_restart": true}
		})
		withAgent := func(cfg *httpapi.Config) {
			cfg.AgentLine = func(b []byte, a cluster.Answer) []byte {
				return fmt.Appendf(b, "words for %s/%s #%s\n", a.Member.Name, a.Check.Name, a.Verdict.Label)
			}
		}
		s := start(t, nw, withAgent, partOf(c, "main"))
		contains(t, "the page without data", s.page("/"), "Not known yet", "the first polls are under way", `data-level="critical"`)
		began := time.Now()
		settle()
		time.Sleep(12 * time.Minute)
		p := s.page("/")
		contains(t, "the page", p, `<title>ok: main, pg1 · patroniglue</title>`, "2.0.0-test", "assets/ok.svg")
		contains(t, "the verdict", s.element(p, "banner"), `data-level="ok"`, ">ok</span>", "<b>pg1</b> is primary, at least since <time", began.UTC().Format("15:04:"), "(12 min ", "timeline 1")
		contains(t, "pg1", s.element(p, "node-pg1"), " data-leader", ">primary</b>", ">running<", "timeline 1", "none: it leads",
			"holds the leader lock", "words for pg1/primary #primary<", "words for pg1/replica #primary<", "Patroni 4.1.4", "PostgreSQL 15.20")
		pg2 := s.element(p, "node-pg2")
		contains(t, "pg2", pg2, ">replica</b>", "tag noloadbalance is set", `data-check="replica" data-outcome="excluded"`, "words for pg2/replica #noloadbalance<",
			"zone: a", "noloadbalance: true", "restart pending", "lag, last 15 minutes: ", "poll latency, last 15 minutes: ", ">0 B<", " of 5.0 s<", "10.0.0.1:5432")
		containsNot(t, "pg2", pg2, "data-leader", "unknown")
		contains(t, "the settings", s.element(p, "settings"), "An answer is believed for 5.0 s; Patroni&#39;s ttl is 30 s, its loop_wait 10 s. Patroni calls this cluster main.")
		for _, check := range []string{"read-write", "standby_leader", "read-only-quorum", "liveness", "readiness"} {
			contains(t, "every check of pg2", pg2[strings.Index(pg2, "<dl>"):], check)
		}
		c.Switchover("pg3")
		settle()
		p = s.page("/")
		contains(t, "the verdict", s.element(p, "banner"), "<b>pg3</b> is primary since <time", "timeline 2")
		contains(t, "the changes", s.element(p, "changes"), "<b>pg3</b> role", ">replica</span>", "<b>primary</b>")
		contains(t, "the intervals", s.element(p, "intervals"), "<b>pg3 was primary</b>", "<b>pg1 was primary</b>")

		c.Kill("pg3")
		settle()
		p = s.page("/")
		contains(t, "the verdict", s.element(p, "banner"), `data-level="critical"`, "No primary", "nobody can write", `data-code="no_primary"`)
		contains(t, "pg3", s.element(p, "node-pg3"), ">was primary</b>", ">was running<", "was timeline 2", `data-level="warning"`, "not answering: ", "polls in a row failed<", `data-check="primary" data-outcome="fault"`)
		containsNot(t, "pg3", s.element(p, "node-pg3"), ">primary</b>", "data-leader")
		c.Promote("pg2")
		settle()
		if changes := s.element(s.page("/"), "changes"); !regexp.MustCompile(`<b>pg2</b> <span class="gap">after \S+ s without`).MatchString(changes) {
			t.Errorf("the changes do not tell for how long there was no primary: %s", changes)
		}
	})
}

// What was not measured is unknown, and never 0.
func TestPageUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		c.Node("pg2").Freeze()
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		pg2 := s.element(s.page("/"), "node-pg2")
		contains(t, "pg2", pg2, `<b class="role">unknown</b>`, "timeline unknown", `id="lag-pg2" role="cell" data-label="Lag"><span class="unknown">unknown<`, ">never<",
			"PostgreSQL unknown", "Patroni unknown", "lag, last 15 minutes: unknown", "no answer within 3s")
		if m := regexp.MustCompile(`>[^<]*\b0( |<)`).FindString(pg2); m != "" {
			t.Errorf("%q in what is not known: %s", m, pg2)
		}
	})
}

// Whatever nodes report, the page shows it as text.
func TestPageHostileNode(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		const evil = "<script>alert(1)</script>\x1b[31m\r\n\ndata: \"'><img src=x onerror=alert(1)>"
		c.Node("pg2").Set(func(s *nodetest.State) {
			s.State, s.ReplicationState, s.Version = evil, evil, evil
			s.Tags = map[string]any{evil: evil, "list": []any{evil}}
		})
		c.Node("pg3").Set(func(s *nodetest.State) { s.Role, s.Scope, s.SystemID = evil, evil, evil })
		s := start(t, nw, nil, partOf(c, "main"), partOf(members(t, nw, "", "other", "db1"), "other"))
		settle()
		l := s.listen("/ui/main/live", "")
		for what, text := range map[string]string{"the page": s.page("/ui/main"), "the overview": s.page("/?q=main"), "the stream": l.must().data} {
			containsNot(t, what, strings.Replace(text, "<script src=", "", 1), "<script", "\x1b", "\r", "<img", evil)
			contains(t, what, text, "pg2")
		}
		contains(t, "the page", s.page("/ui/main"), "&lt;script&gt;alert(1)")
		for _, target := range []string{"/node/pg2", "/node/pg2/health", "/cluster/main", "/health"} {
			if a := s.get(target); strings.Contains(a.body, "\x1b") || !json.Valid([]byte(a.body)) {
				t.Errorf("%s: %s", target, a.body)
			}
		}
	})
}

// Each reason of /health is on the page, with its code and its text. The clusters of this
// test have all reasons that there are.
func TestPageReasons(t *testing.T) {
	codes := map[string]bool{}
	for name, tt := range map[string]struct {
		make  func(*stack, *nodetest.Cluster)
		rules cluster.Rules
	}{
		"split brain": {make: func(_ *stack, c *nodetest.Cluster) { c.SplitBrain(false, "pg1", "pg2") }},
		"all down": {make: func(_ *stack, c *nodetest.Cluster) {
			for _, n := range c.Nodes() {
				c.Kill(n.Name())
			}
		}},
		"lag": {rules: cluster.Rules{MaxLag: 1 << 20}, make: func(_ *stack, c *nodetest.Cluster) {
			c.Node("pg2").Set(func(s *nodetest.State) { s.Replayed = new(*s.Replayed - 5<<20) })
			c.Write(10 << 20)
		}},
		"old timeline": {rules: cluster.Rules{SameTimeline: true}, make: func(_ *stack, c *nodetest.Cluster) {
			c.Node("pg1").Set(func(s *nodetest.State) { s.Timeline = new(int64(7)) })
			c.Node("pg2").Set(func(s *nodetest.State) { s.ReplicationState = "in archive recovery" })
			time.Sleep(20 * time.Second)
		}},
		"wrong cluster, crashed": {make: func(_ *stack, c *nodetest.Cluster) {
			c.Node("pg2").Set(func(s *nodetest.State) { s.SystemID = "42" })
			c.Node("pg3").Set(func(s *nodetest.State) { s.State, s.SQL = "crashed", false })
		}},
		"upgraded":    {make: func(_ *stack, c *nodetest.Cluster) { c.Node("pg1").Set(func(s *nodetest.State) { s.SystemID = "42" }) }},
		"other scope": {make: func(_ *stack, c *nodetest.Cluster) { c.Node("pg3").Set(func(s *nodetest.State) { s.Scope = "dr" }) }},
		"SQL that fails": {make: func(_ *stack, c *nodetest.Cluster) {
			c.Node("pg1").Set(func(s *nodetest.State) { s.SQL = false })
			settle()
		}},
		"paused":   {make: func(_ *stack, c *nodetest.Cluster) { c.SetPause(true) }},
		"failsafe": {make: func(_ *stack, c *nodetest.Cluster) { c.LoseDCS(true); time.Sleep(30 * time.Second) }},
		"leaving":  {make: func(s *stack, _ *nodetest.Cluster) { s.leaving("POST", "/node/pg1/leaving?for=60s") }},
		"ttl not below": {make: func(_ *stack, c *nodetest.Cluster) {
			c.SetConfig(func(m map[string]any) { m["ttl"] = "12" }) // Patroni casts it
			time.Sleep(10 * time.Minute)
		}},
		"ttl no number": {make: func(_ *stack, c *nodetest.Cluster) {
			c.SetConfig(func(m map[string]any) { m["ttl"] = "12s" })
			time.Sleep(10 * time.Minute)
		}},
	} {
		bubble(t, func(t *testing.T, nw *nodetest.Net) {
			c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
			s := startAt(t, nw, address, withToken, tt.rules, partOf(c, "main"))
			settle()
			tt.make(s, c)
			settle()
			var h httpapi.Health
			s.decode("/health", &h)
			banner := s.element(s.page("/"), "banner")
			if len(h.Clusters[0].Reasons) == 0 {
				t.Errorf("%s: nothing is wrong", name)
			}
			for _, r := range h.Clusters[0].Reasons {
				codes[r.Code] = true
				contains(t, name, banner, `data-code="`+r.Code+`"`, "<code>"+r.Code+"</code>", html.EscapeString(r.Text))
			}
			contains(t, name, banner, `data-level="`+h.Level.String()+`"`, `class="level">`+h.Level.String())
		})
	}
	for _, code := range cluster.Codes {
		own := []string{cluster.CodeCertificateExpiring, cluster.CodeCertificateExpired, cluster.CodeReloadFailed, // see TestPageOfTheSupervisor
			cluster.CodeUnlisted, cluster.CodeDiscoveryStale, cluster.CodeDiscoveryProblem} // see main's TestDiscovery
		if !codes[code] && !slices.Contains(own, code) {
			t.Errorf("no cluster here has the reason %s", code)
		}
	}
}

func TestOverview(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		var parts []part
		clusters := map[string]*nodetest.Cluster{}
		for _, name := range []string{"Alpha", "beta", "gamma", "delta"} {
			clusters[name] = members(t, nw, "", name, name+"-1", name+"-2", name+"-3")
			parts = append(parts, partOf(clusters[name], name))
		}
		s := start(t, nw, nil, parts...)
		settle()
		clusters["gamma"].SplitBrain(false, "gamma-1", "gamma-2")
		clusters["beta"].Kill("beta-2")
		settle()
		for _, tt := range []struct {
			query string
			want  []string // in their order
		}{
			{"", []string{"gamma", "beta", "Alpha", "delta"}},
			{"?trouble=1", []string{"gamma", "beta"}},
			{"?trouble=0&q=", []string{"gamma", "beta", "Alpha", "delta"}},
			{"?q=ALPH", []string{"Alpha"}},
			{"?q=%20ta-3%20", []string{"beta", "delta"}}, // of nodes
			{"?q=ta&trouble=1", []string{"beta"}},
			{"?q=nothing", nil},
		} {
			p := s.page("/" + tt.query)
			var got []string
			for _, m := range regexp.MustCompile(`<tr id="cluster-[^"]*" role="row" data-cluster="([^"]*)"`).FindAllStringSubmatch(p, -1) {
				got = append(got, m[1])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q shows %q, want %q", tt.query, got, tt.want)
			}
			// The filter does not change the verdict.
			contains(t, "the page "+tt.query, p, `<html lang="en" data-level="critical"`, "1 critical, 1 warning of 4 clusters")
		}
		p := s.page("/?q=a%22%3E&trouble=1")
		contains(t, "the form", p, `value="a&#34;&gt;"`, `name="trouble" value="1" checked`, "0 of 4 shown")
		p = s.page("/")
		contains(t, "gamma", s.element(p, "cluster-gamma"), `data-level="critical"`, "No primary", "3/3", "split_brain", "and 1 more")
		contains(t, "beta", s.element(p, "cluster-beta"), `data-level="warning"`, "<b>beta-1</b>", "since", "2/3", "node_down", "<b>beta-2</b>: ")

		for query, want := range map[string]string{
			"?cluster=beta":        "parameter cluster: unknown, want q, trouble",
			"?trouble=yes":         `parameter trouble: want 1 or 0 (got "yes")`,
			"?q=a&q=b":             "parameter q: want it once",
			"?q=%zz":               `parameter query: want name=value&name=value (got "q=%zz")`,
			"ui/beta?q=a":          `parameter query: want none here (got "q=a")`,
			"live?trouble=yes":     `parameter trouble: want 1 or 0 (got "yes")`,
			"ui/beta/live?level=1": `parameter query: want none here (got "level=1")`,
		} {
			s.want("/"+query, 400, errorBody("%s", want))
		}
		s.want("/ui/nowhere/live", 404, errorBody(`unknown cluster "nowhere", want one of Alpha, beta, gamma, delta`))
		a := s.get("/ui/nowhere%3Cb%3E")
		if a.status != 404 || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("/ui/nowhere: %d %v", a.status, a.header)
		}
		contains(t, "/ui/nowhere", a.body, `unknown cluster &#34;nowhere&lt;b&gt;&#34;, want one of Alpha, beta`, `<a href="../ui/Alpha">Alpha</a>`)
	})
}

// With one cluster / is its page, but a search shows the overview.
func TestPageOfOneCluster(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		contains(t, "/", s.page("/"), `id="node-pg1"`, `data-stream="live"`)
		contains(t, "/ui/main", s.page("/ui/main"), `id="node-pg1"`, `data-stream="../ui/main/live"`)
		contains(t, "/?q=ma", s.page("/?q=ma"), `id="cluster-main"`, "nothing wrong in 1 cluster")
		for _, method := range []string{"HEAD", "OPTIONS"} {
			if a := s.ask(method, "/ui/main"); a.status != 200 || a.body != "" || a.header.Get("Content-Security-Policy") == "" {
				t.Errorf("%s /ui/main: %+v", method, a)
			}
		}
	})
}

var link = regexp.MustCompile(` (href|src|action|data-stream)="([^"]*)"`)

// Not every cluster has a primary, and that is not always wrong.
func TestPageWithoutPrimary(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		standby := members(t, nw, "", "standby", "pg1", "pg2")
		standby.SetStandbyCluster(true)
		replica := members(t, nw, "", "replica", "db1")
		replica.Node("db1").Set(func(s *nodetest.State) { *s = nodetest.Replica("replica", "db1") })
		s := start(t, nw, nil, partOf(standby, "standby"), partOf(replica, "replica"))
		settle()
		p := s.page("/ui/standby")
		contains(t, "the verdict", s.element(p, "banner"), `data-level="ok"`, "<b>pg1</b> leads this standby cluster, at least since <time", ", timeline 1, and takes no writes")
		contains(t, "the last hour", s.element(p, "hour"), "now pg1")
		contains(t, "pg1", s.element(p, "node-pg1"), "standby_leader", `data-check="primary" data-outcome="other-role"`)
		p = s.page("/ui/replica")
		contains(t, "the verdict", s.element(p, "banner"), `data-level="ok"`, "<b>No primary here</b>, only one node is watched: another one may be it")
		contains(t, "the last hour", s.element(p, "hour"), "not known who is")
	})
}

// What is wrong with the supervisor itself is on every page, and in its title.
func TestPageOfTheSupervisor(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		expired := func(c *httpapi.Config) {
			c.Certificates = func() []httpapi.Certificate {
				return []httpapi.Certificate{{Use: "frontend", File: "/etc/front.crt", Ends: time.Date(1999, 12, 30, 0, 0, 0, 0, time.UTC)}}
			}
			c.Reasons = func() []cluster.Reason {
				return []cluster.Reason{{Code: cluster.CodeReloadFailed, Level: cluster.Warning, Text: `c.toml: cache.ttl: want a duration (got "<b>")`}}
			}
		}
		s := start(t, nw, expired, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		for _, target := range []string{"/", "/?q=main", "/ui/main"} {
			p := s.page(target)
			contains(t, target, p, "<title>critical: patroniglue itself · patroniglue</title>", `data-level="ok"`)
			contains(t, "its banner", p[strings.Index(p, `id="own"`):strings.Index(p, "<main")], `data-level="critical"`, `data-code="certificate_expired"`, "/etc/front.crt",
				`data-code="reload_failed"`, "cache.ttl: want a duration (got &#34;&lt;b&gt;&#34;)")
		}
	})
}

// A primary that has not answered for longer than the TTL is shown as a former one, also
// when no poll has ended since that could elect another one.
func TestPageStalePrimary(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		for _, n := range c.Nodes() {
			n.Freeze()
		}
		time.Sleep(ttl + time.Millisecond)
		for range 50 {
			p := s.page("/")
			pg1 := s.element(p, "node-pg1")
			contains(t, "pg1", pg1, ">was primary</b>", "stale: last answer")
			containsNot(t, "pg1", pg1, "data-leader", "it leads", ">primary</b>", `class="pass"`)
			containsNot(t, "the verdict", s.element(p, "banner"), "is primary")
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// Behind a proxy that serves us below a path every link must stay below it, and
// lead somewhere.
func TestPageBelowAPath(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		withMetrics := func(cfg *httpapi.Config) { cfg.Metrics = http.NotFoundHandler() }
		s := start(t, nw, withMetrics, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"), partOf(members(t, nw, "", "other", "db1"), "other"))
		settle()
		for _, target := range []string{"/", "/?q=main", "/ui/main", "/ui/nowhere"} {
			base, _ := url.Parse("https://proxy/some/path" + target)
			a := s.get(target)
			links := link.FindAllStringSubmatch(a.body, -1)
			if len(links) < 5 {
				t.Errorf("%s has %d links: %s", target, len(links), a.body)
			}
			for _, l := range links {
				if l[2] == "#main" {
					continue
				}
				u, err := base.Parse(strings.ReplaceAll(l[2], "&amp;", "&"))
				below, ok := strings.CutPrefix(u.String(), "https://proxy/some/path/")
				if err != nil || !ok {
					t.Errorf("%s has %s, which leads to %s", target, l[0], u)
					continue
				}
				if below == "metrics" {
					continue // its handler is another's
				}
				if a := s.ask("OPTIONS", "/"+below); a.status != 200 && a.status != 503 && below != "" {
					t.Errorf("%s has %s: /%s = %d", target, l[0], below, a.status)
				}
			}
		}
	})
}

func TestPageAssets(t *testing.T) {
	s := httpapi.New(httpapi.Config{Supervisor: ready(t), Version: "2.0.0-test"})
	st := &stack{TB: t, server: s}
	p := st.page("/")
	policy := st.get("/").header.Get("Content-Security-Policy")
	if policy != "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'" {
		t.Errorf("the page's policy is %q", policy)
	}
	icon := "ok.svg"
	if strings.Contains(p, "warning.svg") { // Patroni's settings are known already: the ttl is not safe
		icon = "warning.svg"
	}
	for file, kind := range map[string]string{
		"page.css": "text/css; charset=utf-8", "graph.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", icon: "image/svg+xml",
	} {
		m := regexp.MustCompile(`"(assets/` + file + `\?\w+)"`).FindStringSubmatch(p)
		if m == nil {
			t.Errorf("the page does not name %s", file)
			continue
		}
		a := st.get("/" + m[1])
		if a.status != 200 || a.header.Get("Content-Type") != kind || a.body == "" || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", m[1], a.status, a.header)
		}
		// Of another build: not to be kept under this name.
		if a := st.get("/assets/" + file + "?0"); a.status != 200 || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s of another build: %d %v", file, a.status, a.header)
		}
	}
	if a := st.get("/assets/page.html"); a.status != 404 {
		t.Errorf("/assets/page.html: status code %d, want 404", a.status)
	}
	// Neither may be inline: the policy forbids it.
	containsNot(t, "the page", p, " style=", "<style", "<script>", " onclick=", " onload=")
}
