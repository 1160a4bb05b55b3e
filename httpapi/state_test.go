package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
	"patroniglue/node/nodetest"
)

func TestNodeState(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		c.Node("pg2").Set(func(s *nodetest.State) { s.Tags = map[string]any{"weight": json.Number("10")} })
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		c.Node("pg2").SetLag(2048)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		var st httpapi.NodeState
		if status := s.decode("/node/pg2", &st); status != 200 {
			t.Errorf("status %d", status)
		}
		if len(st.Checks) != len(node.CheckNames()) {
			t.Errorf("%d checks, want %d", len(st.Checks), len(node.CheckNames()))
		}
		if got := st.Checks["replica"]; got != (httpapi.CheckVerdict{Pass: true, Outcome: node.Pass, Label: "replica", Reason: "running replica"}) {
			t.Errorf("replica: %+v", got)
		}
		if st.Node != "pg2" || st.Cluster != "main" || st.URL != "http://main-pg2:8008" || st.Postgres != "10.0.0.1:5432" || st.Leader || !st.Fresh ||
			*st.Role != "replica" || *st.State != "running" || *st.Timeline != 1 || *st.Lag != 2048 || st.Patroni != "4.1.4" || st.Server != 150020 ||
			st.TTL != 5 || st.Failures != 0 || st.Error != "" || *st.Age > 1.2 || *st.Took > 0.1 || fmt.Sprint(st.Tags) != "map[weight:10]" {
			t.Errorf("got %s", s.get("/node/pg2").body)
		}
		s.decode("/node/pg1", &st)
		if !st.Leader {
			t.Errorf("pg1 does not lead")
		}
		c.Node("pg2").SetFault(nodetest.Status500)
		settle()
		var stale httpapi.NodeState
		if status := s.decode("/node/pg2", &stale); status != 200 || stale.Fresh || stale.Failures < 2 || stale.Error != "status code 500, want 200 or 503" || *stale.Role != "replica" {
			t.Errorf("stale: %d %+v", status, stale)
		}
		if stale.Checks["liveness"].Pass {
			t.Error("a stale node is alive")
		}
	})
}

func TestNodeStateUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1")
		c.Node("pg1").Freeze()
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		var st map[string]any
		if status := s.decode("/node/pg1", &st); status != 200 {
			t.Errorf("status %d", status)
		}
		for _, key := range []string{"role", "state", "timeline", "lag_bytes", "since", "polled_at", "age_seconds", "poll_seconds"} {
			if v, ok := st[key]; !ok || v != nil {
				t.Errorf("%s is %v, want null; keys %v", key, v, slices.Sorted(maps.Keys(st)))
			}
		}
		if st["error"] != "no answer within 3s" {
			t.Errorf("error %v", st["error"])
		}
	})
}

// With two claims at most one node passes; every refusal says why, and health is critical.
func TestSplitBrain(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		c.SplitBrain(false, "pg1", "pg2")
		settle()
		passing := 0
		for _, n := range c.Nodes() {
			if s.get("/node/"+n.Name()+"/primary").status == 200 {
				passing++
			}
		}
		if passing > 1 {
			t.Errorf("%d primaries", passing)
		}
		if a := s.get("/health"); a.status != 503 || !strings.Contains(a.body, "split_brain") {
			t.Errorf("%d %s", a.status, a.body)
		}
		var ours clusterAnswer
		s.decode("/cluster", &ours)
		leaders := 0
		for _, m := range ours.Members {
			if m["role"] == "leader" {
				leaders++
			}
		}
		if leaders > 1 {
			t.Errorf("%d leaders in /cluster", leaders)
		}
	})
}

// The cluster's rules apply over HTTP.
func TestFallback(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := startAt(t, nw, address, nil, cluster.Rules{Fallback: true}, partOf(c, "main"))
		c.Kill("pg2")
		settle()
		if a := s.get("/node/pg1/replica"); a.status != 200 || !strings.Contains(a.body, "the primary serves reads") {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}
