package httpapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
	"patroniglue/node/nodetest"
)

// Checks below /node/X have the answers of that Patroni. One difference is intended:
// Patroni answers liveness and readiness by HEAD and OPTIONS with 503, in whatever
// state the member is (Patroni's #2035).
func TestChecksAreThoseOfPatroni(t *testing.T) {
	stories := []struct {
		name string
		tell func(*nodetest.Cluster)
	}{
		{"all is well", func(*nodetest.Cluster) {}},
		{"a synchronous standby", func(c *nodetest.Cluster) { c.Node("pg2").Set(func(s *nodetest.State) { s.SyncStandby = true }) }},
		{"a quorum standby", func(c *nodetest.Cluster) { c.Node("pg3").Set(func(s *nodetest.State) { s.QuorumStandby = true }) }},
		{"noloadbalance", func(c *nodetest.Cluster) {
			c.Node("pg2").Set(func(s *nodetest.State) { s.Tags = map[string]any{"noloadbalance": true} })
		}},
		{"a replica starts", func(c *nodetest.Cluster) {
			c.Node("pg3").Set(func(s *nodetest.State) { s.State, s.SQL = "starting", false })
		}},
		{"a standby cluster", func(c *nodetest.Cluster) { c.SetStandbyCluster(true) }},
		{"after a switchover", func(c *nodetest.Cluster) { c.Switchover("pg2") }},
		{"paused", func(c *nodetest.Cluster) { c.SetPause(true) }},
		{"failsafe", func(c *nodetest.Cluster) { c.LoseDCS(true) }},
	}
	for _, version := range []string{"3.0.2", "4.1.4"} {
		for _, story := range stories {
			t.Run(version+"/"+story.name, func(t *testing.T) {
				if version == "3.0.2" && story.name == "a quorum standby" {
					t.Skip("not in this release")
				}
				bubble(t, func(t *testing.T, nw *nodetest.Net) {
					c := members(t, nw, version, "main", "pg1", "pg2", "pg3")
					story.tell(c)
					s := start(t, nw, nil, partOf(c, "main"))
					settle()
					settle() // a lost DCS shows only when a round of Patroni's loop is over
					for _, n := range c.Nodes() {
						for _, check := range node.CheckNames() {
							for _, query := range []string{"", "?lag=1MB", "?tag_zone=a"} {
								compareWithPatroni(s, n, version, check, query)
							}
						}
					}
				})
			})
		}
	}
}

func compareWithPatroni(s *stack, n *nodetest.Node, version, check, query string) {
	s.Helper()
	if strings.Contains(query, "tag_") && (check == "liveness" || check == "readiness") {
		return
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		asked := method
		if check == "liveness" || check == "readiness" {
			asked = "GET"
		}
		want := patroniAnswer(n, asked, "/"+check+query)
		if version == "3.0.2" && check == "read-only-quorum" {
			continue // there it is read-only, because it contains the word
		}
		a := s.ask(method, "/node/"+n.Name()+"/"+check+query)
		if a.status != want {
			s.Errorf("%s /node/%s/%s%s = %d, the member says %d: %s", method, n.Name(), check, query, a.status, want, a.body)
		}
		if method == "GET" && !json.Valid([]byte(a.body)) {
			s.Errorf("GET %s of %s: not JSON: %s", check, n.Name(), a.body)
		}
		if method != "GET" && a.body != "" {
			s.Errorf("%s %s of %s has a body: %s", method, check, n.Name(), a.body)
		}
	}
}

func TestCheckBody(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		// What JSON may be written as, the document keeps.
		c.Node("pg2").Set(func(s *nodetest.State) {
			s.Tags = map[string]any{"zone": "<a> & \"ü\"", "patroniglue": "x"}
			s.DCSLastSeen = time.Now()
			s.Extra = map[string]any{"number": json.Number("1.50e3"), "x": "patroniglue"}
		})
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		raw := document(c.Node("pg2"))
		const glue = `"patroniglue":{"node":"pg2","cluster":"main","check":"%s","pass":%t,"reason":"%s","polled_at":"2000-01-01T00:00:0%s"}}`
		body := func(check string) string { return strings.TrimSuffix(s.get("/node/pg2/"+check).body, "\n") }
		for _, tt := range []struct {
			check, reason string
			pass          bool
		}{
			{"replica", "running replica", true},
			{"master", "role is replica", false},
			{"primary", "role is replica", false},
		} {
			got := body(tt.check)
			at := got[strings.LastIndex(got, `T00:00:0`)+len(`T00:00:0`):]
			at = at[:strings.Index(at, `"`)]
			want := strings.TrimSuffix(raw, "}") + "," + fmt.Sprintf(glue, tt.check, tt.pass, tt.reason, at)
			if got != want {
				t.Errorf("%s\n got %s\nwant %s", tt.check, got, want)
			}
			if len(at) != len("9.123Z") {
				t.Errorf("polled_at ends in %q, want milliseconds and Z", at)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("not JSON: %s", got)
			}
		}
		if a := s.get("/node/pg2/patroni"); a.status != 200 || a.body != raw {
			t.Errorf("/node/pg2/patroni = %d %s\nwant %s", a.status, a.body, raw)
		}
		if a := s.get("/node/pg2/replica"); a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
			t.Errorf("Content-Length %q of %d bytes", a.header.Get("Content-Length"), len(a.body))
		}
	})
}

// A supervisor that polls another one knows what that one says, and no more.
func TestStacked(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		c.Node("pg1").Set(func(s *nodetest.State) { s.DCSLastSeen = time.Now() })
		inner := startAt(t, nw, "inner:8009", nil, cluster.Rules{}, partOf(c, "main"))
		outer := start(t, nw, nil, part{name: "top", order: []string{"a", "b"}, urls: map[string]string{
			"a": "http://inner:8009/node/pg1", "b": "http://inner:8009/cluster/main/node/pg2/",
		}})
		settle()
		for target, want := range map[string]int{
			"/node/a/primary": 200, "/node/a/replica": 503, "/node/b/primary": 503, "/node/b/replica": 200, "/primary": 200, "/health": 200,
		} {
			if a := outer.get(target); a.status != want {
				t.Errorf("GET %s = %d, want %d: %s", target, a.status, want, a.body)
			}
		}
		got := outer.get("/node/a/primary").body
		if strings.Count(got, `"patroniglue"`) != 1 || !strings.Contains(got, `"patroniglue":{"node":"a","cluster":"top","check":"primary","pass":true,`) {
			t.Errorf("the verdict is not the outer one alone: %s", got)
		}
		own := strings.TrimSuffix(document(c.Node("pg1")), "}")
		if !strings.HasPrefix(got, own+`,"patroniglue":`) {
			t.Errorf("got %s\nwant the document as it is: %s", got, own)
		}

		// A third one above. A report is equally old everywhere, so all three stop believing it at the same time.
		top := startAt(t, nw, "top:8009", nil, cluster.Rules{}, part{name: "top", order: []string{"x", "y"}, urls: map[string]string{
			"x": "http://" + address + "/node/a", "y": "http://" + address + "/node/b",
		}})
		settle()
		c.Node("pg2").Freeze()
		time.Sleep(2 * time.Second) // an answer may have been under way
		var st struct {
			PolledAt time.Time `json:"polled_at"`
			Age      float64   `json:"age_seconds"`
		}
		inner.decode("/node/pg2", &st)
		known := st.PolledAt
		for what, s := range map[string]*stack{"/node/b": outer, "/node/y": top} {
			s.decode(what, &st)
			if early := known.Sub(st.PolledAt); early < 0 || early > 3*time.Millisecond {
				t.Errorf("%s is known from %s, want %s or some milliseconds earlier", what, st.PolledAt, known)
			}
		}
		replica := func(want int, reason string) {
			t.Helper()
			for what, s := range map[string]*stack{"/node/pg2": inner, "/node/b": outer, "/node/y": top} {
				if a := s.get(what + "/replica"); a.status != want || !strings.Contains(a.body, reason) {
					t.Errorf("%s = %d %s, want %d with %q", what, a.status, a.body, want, reason)
				}
			}
		}
		time.Sleep(time.Until(known.Add(ttl - 4*time.Millisecond)))
		replica(200, "running replica")
		time.Sleep(4 * time.Millisecond)
		replica(503, "stale: last answer 5.0s ago, ttl 5s")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		replica(503, "ttl 5s: no answer within 3s") // why, from the bottom
		if a := outer.get("/node/a/primary"); a.status != 200 {
			t.Errorf("the other node: %d %s", a.status, a.body)
		}
		c.Node("pg2").SetFault(nodetest.None)
		settle()
		replica(200, "running replica")

		// What the lowest one knows to be bad is bad above, from the next poll on.
		c.Node("pg2").SetFault(nodetest.Refuse)
		time.Sleep(ttl - 500*time.Millisecond)
		if a := outer.get("/node/b/replica"); a.status != 503 || !strings.Contains(a.body, `does not believe it: not answering: `) || !strings.Contains(a.body, `"refuted":true`) {
			t.Errorf("the node that refuses: %d %s", a.status, a.body)
		}
		c.Node("pg2").SetFault(nodetest.None)
		settle()

		// What one supervisor does not believe, those above it do not believe either.
		inner.stop()
		time.Sleep(ttl + time.Second)
		for what, s := range map[string]*stack{"/node/a": outer, "/node/x": top} {
			if a := s.get(what + "/primary"); a.status != 503 {
				t.Errorf("%s = %d %s", what, a.status, a.body)
			}
		}
		top.stop()
		outer.stop()
		inner.stop()
	})
}

func TestStaleAtTheTTL(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		c.Node("pg2").Freeze()
		var st struct {
			Age float64 `json:"age_seconds"`
		}
		s.decode("/node/pg2", &st)
		var body struct {
			Glue struct {
				PolledAt time.Time `json:"polled_at"`
			} `json:"patroniglue"`
		}
		s.decode("/node/pg2/replica", &body)
		// The clock of the bubble has nanoseconds, polled_at milliseconds.
		almost := body.Glue.PolledAt.Add(ttl - time.Millisecond)
		time.Sleep(time.Until(almost))
		if a := s.get("/node/pg2/replica"); a.status != 200 {
			t.Errorf("shortly before the ttl: %d %s", a.status, a.body)
		}
		if a := s.get("/node/pg2/patroni"); a.status != 200 {
			t.Errorf("shortly before the ttl: /patroni %d", a.status)
		}
		time.Sleep(time.Millisecond + 999*time.Microsecond)
		polled := body.Glue.PolledAt.Format("2006-01-02T15:04:05.000Z")
		s.want("/node/pg2/replica", 503, `{"patroniglue":{"node":"pg2","cluster":"main","check":"replica","pass":false,`+
			`"reason":"stale: last answer 5.0s ago, ttl 5s: no answer within 3s","refuted":false,"polled_at":"`+polled+`"}}`)
		for _, check := range node.CheckNames() {
			if a := s.get("/node/pg2/" + check); a.status != 503 {
				t.Errorf("%s of a stale node: %d", check, a.status)
			}
		}
		if a := s.get("/node/pg2/patroni"); a.status != 503 || !strings.HasPrefix(a.body, `{"state": "running"`) {
			t.Errorf("/patroni of a stale node: %d %s", a.status, a.body)
		}
		if a := s.get("/node/pg1/primary"); a.status != 200 {
			t.Errorf("the other node: %d", a.status)
		}
	})
}

func TestNotAnswering(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		c.Node("pg2").SetFault(nodetest.Refuse)
		s := start(t, nw, nil, partOf(c, "main"))
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		const reason = "no answer yet: dial tcp main-pg2:8008: connect: connection refused"
		s.want("/node/pg2/replica", 503, `{"patroniglue":{"node":"pg2","cluster":"main","check":"replica","pass":false,"reason":"`+reason+`","refuted":false,"polled_at":null}}`)
		s.want("/node/pg2/patroni", 503, errorBody(reason))
	})
}

func TestWrongCluster(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c, other := members(t, nw, "", "main", "pg1", "pg2"), members(t, nw, "", "other", "pg1")
		s := start(t, nw, nil, part{name: "main", scope: "main", nodes: c, order: []string{"pg3"}, urls: map[string]string{"pg3": other.Node("pg1").URL()}})
		settle()
		a := s.get("/node/pg3/primary")
		const reason = `"reason":"wrong cluster: scope is \"other\", want \"main\""`
		if a.status != 503 || !strings.HasPrefix(a.body, `{"patroniglue":{"node":"pg3",`) || !strings.Contains(a.body, reason) {
			t.Errorf("got %d %s\nwant %s alone", a.status, a.body, reason)
		}
		if a := s.get("/node/pg1/primary"); a.status != 200 {
			t.Errorf("pg1 = %d", a.status)
		}
		if a := s.get("/cluster"); strings.Contains(a.body, "pg3") {
			t.Errorf("/cluster has a foreign node: %s", a.body)
		}
	})
}

const (
	allChecks = "primary, master, read-write, leader, standby-leader, standby_leader, replica, read-only, sync, synchronous, async, asynchronous, quorum, " +
		"read-only-sync, read-only-synchronous, read-only-quorum, health, liveness, readiness"
	allRoutes = "/node/{node}/{check}, /node/{node}, /cluster, /cluster/{cluster}/{check}, /health, /history, /events, /livez, /readyz, /metrics, /ui/{cluster} or /"
)

func TestErrors(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		unknownCheck := `unknown check "frimary", want one of ` + allChecks
		for _, tt := range []struct {
			target string
			status int
			want   string
		}{
			{"/node/pgX/primary", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/node/pgX", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/node/pgX/patroni", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/node/pgX/cluster", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/node/pg1/frimary", 404, unknownCheck},
			{"/cluster/main/frimary", 404, unknownCheck},
			{"/frimary", 404, unknownCheck},
			{"/cluster/prod", 404, `unknown cluster "prod", want one of main`},
			{"/primary?lag=much", 400, `parameter lag: want bytes such as 1048576, 16kB, 1.5MB or 2GB (got "much")`},
			{"/cluster/prod/primary", 404, `unknown cluster "prod", want one of main`},
			{"/cluster/prod/node/pg1/primary", 404, `unknown cluster "prod", want one of main`},
			{"/cluster/main/node/pgX/primary", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/health?cluster=prod", 404, `unknown cluster "prod", want one of main`},
			{"/node/pg1/primary/x", 404, `no route "/node/pg1/primary/x", want ` + allRoutes},
			{"/node//primary", 404, `no route "/node//primary", want ` + allRoutes},
			{"/node/a%2Fb/primary", 404, `unknown node "a/b", want one of pg1, pg2`},
			{"/node/pg1/primary?lag=much", 400, `parameter lag: want bytes such as 1048576, 16kB, 1.5MB or 2GB (got "much")`},
			{"/cluster/main/replica?lag=much", 400, `parameter lag: want bytes such as 1048576, 16kB, 1.5MB or 2GB (got "much")`},
			{"/node/pg1/primary?lga=1", 400, `parameter "lga": unknown, want lag, replication_state, mode or tag_NAME`},
			{"/node/pg1/primary?lag=1&lag=2", 400, `parameter lag: want it once`},
			{"/node/pg1/primary?a=%zz", 400, `parameter query: want name=value&name=value (got "a=%zz")`},
		} {
			s.want(tt.target, tt.status, errorBody("%s", tt.want))
			for _, method := range []string{"HEAD", "OPTIONS"} {
				if a := s.ask(method, tt.target); a.status != tt.status || a.body != "" {
					t.Errorf("%s %s = %d %q", method, tt.target, a.status, a.body)
				}
			}
		}
	})
}

func TestSeveralClusters(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		a, b := members(t, nw, "", "a", "pg1", "pg2"), members(t, nw, "", "b", "pg1", "pg3")
		s := start(t, nw, nil, partOf(a, "a"), partOf(b, "b"))
		settle()
		several := func(rest string) string {
			return errorBody("several clusters are watched, want one of /cluster/a%[1]s, /cluster/b%[1]s", rest)
		}
		s.want("/primary", 404, several("/primary"))
		s.want("/cluster", 404, several(""))
		s.want("/frimary", 404, errorBody(`unknown check "frimary", want one of %s`, allChecks))
		s.want("/cluster/c/frimary", 404, errorBody(`unknown check "frimary", want one of %s`, allChecks))
		ambiguous := func(rest string) string {
			return errorBody(`node "pg1" is in several clusters, want one of /cluster/a/node/pg1%[1]s, /cluster/b/node/pg1%[1]s`, rest)
		}
		for _, rest := range []string{"/primary", "", "/patroni", "/cluster"} {
			s.want("/node/pg1"+rest, 404, ambiguous(rest))
		}
		if got := s.ask("POST", "/node/pg1/refresh"); got.status != 404 || strings.TrimSpace(got.body) != ambiguous("/refresh") {
			t.Errorf("refresh = %d %s", got.status, got.body)
		}
		for target, want := range map[string]int{
			"/cluster/a/node/pg1/primary": 200, "/cluster/b/node/pg1/primary": 200, "/cluster/b/node/pg2/primary": 404, "/node/pg2/replica": 200, "/node/pg3/replica": 200,
			"/cluster/a/primary": 200, "/cluster/b/replica": 200, "/cluster/a": 200, "/cluster/a/node/pg1": 200, "/cluster/b/node/pg1/cluster": 200,
			"/cluster/b/node/pg1/patroni": 200, "/health": 200, "/": 200,
		} {
			if got := s.get(target); got.status != want {
				t.Errorf("GET %s = %d, want %d: %s", target, got.status, want, got.body)
			}
		}
		if got := s.ask("OPTIONS", "/"); got.status != 404 {
			t.Errorf("OPTIONS / = %d, want 404: which cluster?", got.status)
		}
	})
}

func TestWholeCluster(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		s.want("/cluster/main/primary", 200, `{"cluster":"main","nodes":["pg1"],"primary":true,"reasons":{"pg1":"holds the leader lock","pg2":"role is replica","pg3":"role is replica"}}`)
		s.want("/master", 200, `{"cluster":"main","master":true,"nodes":["pg1"],"reasons":{"pg1":"holds the leader lock","pg2":"role is replica","pg3":"role is replica"}}`)
		s.want("/replica", 200, `{"cluster":"main","nodes":["pg2","pg3"],"reasons":{"pg1":"role is primary","pg2":"running replica","pg3":"running replica"},"replica":true}`)
		s.want("/sync", 503, `{"cluster":"main","nodes":[],"reasons":{"pg1":"role is primary","pg2":"not a synchronous standby","pg3":"not a synchronous standby"},"sync":false}`)
		for _, name := range node.CheckNames() {
			if name == "health" {
				continue // is about all clusters
			}
			for _, target := range []string{"/" + name, "/cluster/main/" + name} {
				var body map[string]any
				status := s.decode(target, &body)
				if body[name] != (status == 200) {
					t.Errorf("GET %s = %d %v", target, status, body)
				}
			}
		}
		for method, want := range map[string]int{"OPTIONS": 200, "HEAD": 200} {
			if a := s.ask(method, "/"); a.status != want || a.body != "" {
				t.Errorf("%s / = %d %q", method, a.status, a.body)
			}
		}
		c.Kill("pg1")
		settle()
		for _, method := range []string{"OPTIONS", "HEAD"} {
			if a := s.ask(method, "/"); a.status != 503 {
				t.Errorf("%s / = %d without a primary", method, a.status)
			}
		}
	})
}

// As in patroniglue 1.x: one node, which is a replica.
func TestLegacy(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := start(t, nw, nil, part{name: "local", order: []string{"local"}, urls: map[string]string{"local": c.Node("pg2").URL()}})
		settle()
		s.want("/primary", 503, `{"cluster":"local","nodes":[],"primary":false,"reasons":{"local":"role is replica"}}`)
		s.want("/replica", 200, `{"cluster":"local","nodes":["local"],"reasons":{"local":"running replica"},"replica":true}`)
		s.want("/health", 200, `{"healthy":true,"level":"ok","supervisor":{"level":"ok","reasons":[]},"clusters":[{"cluster":"local","scope":"main","leader":"","level":"ok","reasons":[]}]}`)
	})
}

func TestFirstPoll(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		c.Node("pg1").SetDelay(time.Second)
		c.Node("pg3").Freeze()
		s := start(t, nw, nil, partOf(c, "main"))
		began := time.Now()
		type result struct {
			target string
			answer answer
			after  time.Duration
		}
		results := make(chan result)
		targets := []string{"/node/pg1/primary", "/node/pg2/replica", "/node/pg3/replica", "/cluster/main/primary", "/standby-leader", "/livez", "/readyz", "/"}
		for _, target := range targets {
			go func() { a := s.get(target); results <- result{target, a, time.Since(began)} }()
		}
		want := map[string]struct {
			status   int
			from, to time.Duration
		}{
			"/node/pg1/primary":     {200, time.Second, 1003 * time.Millisecond},
			"/node/pg2/replica":     {200, 0, 3 * time.Millisecond},
			"/node/pg3/replica":     {503, timeout, timeout},
			"/cluster/main/primary": {200, time.Second, 1003 * time.Millisecond}, // as soon as a node passes
			"/standby-leader":       {503, timeout, timeout},
			"/livez":                {200, 0, 0},
			"/readyz":               {503, 0, 0},
			"/":                     {200, 0, 0},
		}
		for range targets {
			r := <-results
			w := want[r.target]
			if r.answer.status != w.status || r.after < w.from || r.after > w.to+3*time.Millisecond {
				t.Errorf("%s = %d after %s, want %d after %s to %s: %s", r.target, r.answer.status, r.after, w.status, w.from, w.to, r.answer.body)
			}
		}
		time.Sleep(time.Second)
		s.want("/readyz", 200, `{"ready":true}`)
		s.want("/livez", 200, `{"alive":true}`)
	})
}

func TestMethods(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		for _, tt := range []struct{ method, target, allow string }{
			{"POST", "/node/pg1/primary", "GET, HEAD, OPTIONS"},
			{"PUT", "/primary", "GET, HEAD, OPTIONS"},
			{"DELETE", "/", "GET, HEAD, OPTIONS"},
			{"PATCH", "/health", "GET, HEAD, OPTIONS"},
			{"GET", "/node/pg1/refresh", "POST"},
			{"HEAD", "/node/pg1/refresh", "POST"},
			{"GET", "/node/pg1/leaving", "POST, DELETE"},
			{"PUT", "/cluster/main/node/pg1/leaving", "POST, DELETE"},
			{"get", "/primary", "GET, HEAD, OPTIONS"},
		} {
			a := s.ask(tt.method, tt.target)
			if a.status != 405 || a.header.Get("Allow") != tt.allow {
				t.Errorf("%s %s = %d, Allow %q", tt.method, tt.target, a.status, a.header.Get("Allow"))
			}
			want := errorBody("method %s is not for this route, want %s", tt.method, tt.allow)
			if tt.method != "HEAD" && strings.TrimSpace(a.body) != want {
				t.Errorf("%s %s: %s", tt.method, tt.target, a.body)
			}
		}
	})
}

// A supervisor that has just started does not know yet: that takes no node out above it.
func TestStackedRestart(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		begin := func() *stack { return startAt(t, nw, "inner:8009", nil, cluster.Rules{}, partOf(c, "main")) }
		inner := begin()
		outer := start(t, nw, nil, part{name: "top", order: []string{"a", "b"}, urls: map[string]string{
			"a": "http://inner:8009/node/pg1", "b": "http://inner:8009/node/pg2",
		}})
		settle()
		inner.stop()
		c.Node("pg1").SetDelay(ttl/2 + 10*time.Millisecond) // so late that it counts as none
		begin()
		for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > time.Second {
				c.Node("pg1").SetDelay(0)
			}
			if a := outer.get("/node/a/primary"); a.status != 200 {
				t.Fatalf("the primary: %d %s", a.status, a.body)
			}
		}
	})
}
