package cluster

import (
	"slices"
	"testing"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

const mb = 1 << 20

func lagRules(c *Config) { c.Rules.MaxLag = 100 * mb }

func TestLag(t *testing.T) {
	behind := func(n int64) clustertest.Script { return follows(1).WithReplayed(1<<30 - n) }
	inBubble(t, "excluded after lag-hold and back after as long", func(t *testing.T) {
		w := three(t, lagRules)
		pg2 := w.fakes["pg2"]
		n := w.change("pg2", behind(212*mb))
		out := func() bool { return w.verdict("pg2", "replica").Outcome == node.Lagging }
		w.until(13*time.Second, "pg2 is out", out)
		polls := pg2.Polls(n)
		if held := polls[len(polls)-1].Sub(polls[0]); held < 10*time.Second || held > 11200*time.Millisecond {
			t.Errorf("out after %s", held)
		}
		if got := w.verdict("pg2", "replica"); got.Reason != "lag 212 MB over 100 MB for 10s" && got.Reason != "lag 212 MB over 100 MB for 11s" || got.Label != got.Reason {
			t.Errorf("%+v", got)
		}
		if h := w.view().Health(time.Now()); h.Level != Warning || h.Reasons[0].Code != "lag" || h.Reasons[0].Node != "pg2" {
			t.Errorf("%+v", h)
		}
		n = w.change("pg2", behind(99*mb))
		w.until(1200*time.Millisecond, "seen", func() bool { return pg2.Count() > n && pg2.Idle() })
		if got, want := w.verdict("pg2", "replica").Reason, "lag 99 MB, but not for 10s yet below 100 MB"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		w.until(13*time.Second, "pg2 is back", func() bool { return !out() })
		polls = pg2.Polls(n)
		if held := polls[len(polls)-1].Sub(polls[0]); held < 10*time.Second || held > 11200*time.Millisecond {
			t.Errorf("back after %s", held)
		}
	})
	inBubble(t, "near a limit no node flaps", func(t *testing.T) {
		w := three(t, lagRules)
		for range 20 {
			w.fakes["pg2"].Set(behind(150 * mb))
			for range 5 {
				time.Sleep(time.Second)
				if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "pg3"}) {
					t.Fatalf("replicas %q", got)
				}
			}
			w.fakes["pg2"].Set(behind(50 * mb))
			time.Sleep(2 * time.Second)
		}
		if got := ofKind(w.drain(), KindReplica); got != nil {
			t.Errorf("%q", got)
		}
	})
	inBubble(t, "counts from the position known when the poll began", func(t *testing.T) {
		w := three(t)
		slow := follows(1)
		slow.Delay = 900 * time.Millisecond
		w.fakes["pg2"].Set(slow)
		ahead := leads(1)
		n := w.fakes["pg2"].Count()
		w.until(2*time.Second, "pg2 is being asked", func() bool { return w.fakes["pg2"].Count() > n && !w.fakes["pg2"].Idle() })
		ahead.Location += 500 * mb
		w.fakes["pg1"].Set(ahead)
		w.until(time.Second, "pg2 answered", w.fakes["pg2"].Idle)
		if got := w.view().Member("pg2").Standing.Lag; got != 0 {
			t.Errorf("lag %d, want 0", got)
		}
		w.settle()
		if got := w.view().Member("pg2").Standing.Lag; got != 500*mb {
			t.Errorf("lag %d, want 500 MB", got)
		}
	})
	inBubble(t, "is still known when there is no primary", func(t *testing.T) {
		w := three(t, lagRules)
		w.fakes["pg1"].Set(hangs)
		w.fakes["pg2"].Set(behind(200 * mb))
		time.Sleep(20 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg3"}) {
			t.Errorf("replicas %q", got)
		}
	})
	inBubble(t, "unknown is no lag", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", follows(1).WithReplayed(1)), clustertest.New(t, "pg2", follows(1).WithReplayed(0))))
		w.settle()
		for _, m := range w.view().Members {
			c, err := node.ParseCheck("replica", "lag=1MB")
			if v := m.Verdict(&c, time.Now()); err != nil || !v.Passes() || m.Standing.Lag != -1 {
				t.Errorf("%s: %+v, lag %d, %v", m.Name, v, m.Standing.Lag, err)
			}
		}
	})
	inBubble(t, "becomes unknown while excluded", func(t *testing.T) {
		w := three(t, lagRules)
		w.fakes["pg2"].Set(behind(200 * mb))
		time.Sleep(14 * time.Second)
		w.fakes["pg2"].Set(follows(1).WithReplayed(0))
		time.Sleep(2 * time.Second)
		if got, want := w.verdict("pg2", "replica").Reason, "lag unknown, but not for 10s yet below 100 MB"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	inBubble(t, "asked with lag= needs no rule and no hold", func(t *testing.T) {
		w := three(t)
		w.fakes["pg2"].Set(behind(20 * mb))
		w.settle()
		for query, want := range map[string]string{
			"lag=20MB": "", "lag=19MB": "lag 20 MB over 19 MB", "lag=0": "lag 20 MB over 0 B",
		} {
			a, err := w.sup.Ask(t.Context(), Question{Node: "pg2", Check: "replica", Query: query})
			if err != nil || a.Verdict.Passes() != (want == "") || want != "" && a.Verdict.Reason != want {
				t.Errorf("%s: %+v, %v", query, a.Verdict, err)
			}
		}
	})
	inBubble(t, "never empties the pool", func(t *testing.T) {
		w := three(t, lagRules, func(c *Config) { c.Rules.MinReplicas = 1 })
		w.fakes["pg2"].Set(behind(300 * mb))
		w.fakes["pg3"].Set(behind(200 * mb))
		time.Sleep(15 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg3"}) {
			t.Errorf("replicas %q", got)
		}
		w.fakes["pg3"].Set(refuses)
		time.Sleep(10 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("replicas %q", got)
		}
	})
}

func TestTimeline(t *testing.T) {
	inBubble(t, "a replica that stays on the old one is no replica", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.LagHold = time.Second })
		w.fakes["pg1"].Set(leads(2))
		w.fakes["pg2"].Set(follows(2))
		w.fakes["pg3"].Set(follows(1).WithField("replication_state", "in archive recovery"))
		time.Sleep(9 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "pg3"}) {
			t.Errorf("at first: %q", got)
		}
		time.Sleep(4 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("then: %q", got)
		}
		want := node.Verdict{Outcome: node.Excluded, Label: "timeline 1", Reason: "timeline 1, the primary is on 2"}
		if got := w.verdict("pg3", "replica"); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if h := w.view().Health(time.Now()); len(h.Reasons) != 1 || h.Reasons[0] != (Reason{"wrong_timeline", Warning, "pg3", want.Reason}) {
			t.Errorf("%+v", h)
		}
		w.fakes["pg3"].Set(follows(2))
		w.until(1200*time.Millisecond, "pg3 is back as soon as it follows", func() bool { return w.verdict("pg3", "replica").Passes() })
	})
	// Patroni's timeline of a replica is that of what it has replayed.
	old := map[string]any{"version": "3.0.2", "scope": "main"}
	receives := func(received int64) clustertest.Script { // before 3.0.4, on timeline 1
		return follows(1).WithField("replication_state", "").WithField("patroni", old).
			WithField("xlog", map[string]any{"received_location": received, "replayed_location": 1 << 20})
	}
	for _, test := range []struct {
		name   string
		script clustertest.Script
		passes bool
	}{
		{"streams, and replays late", follows(1), true},
		{"streams and replays late, in failsafe mode", follows(1).WithField("cluster_unlocked", true).WithField("failsafe_mode_is_active", true), true},
		{"streams, but sees no leader: from the old primary", follows(1).WithField("cluster_unlocked", true), false},
		{"does not stream", follows(1).WithField("replication_state", ""), false},
		{"has received all, by a Patroni that does not tell", receives(1 << 30), true},
		{"has received more than the primary has: another history", receives(1<<30 + 1), false},
		{"receives nothing more", receives(1<<30 - 1), false},
	} {
		inBubble(t, "a replica that "+test.name, func(t *testing.T) {
			w := three(t, func(c *Config) { c.Rules.LagHold = time.Second })
			w.fakes["pg1"].Set(leads(2))
			w.fakes["pg2"].Set(follows(2))
			w.fakes["pg3"].Set(test.script)
			time.Sleep(time.Minute)
			if got := w.verdict("pg3", "replica"); got.Passes() != test.passes {
				t.Errorf("%+v, passes: want %t", got, test.passes)
			}
			if h := w.view().Health(time.Now()); test.passes && slices.ContainsFunc(h.Reasons, func(r Reason) bool { return r.Code == CodeWrongTimeline }) {
				t.Errorf("%+v", h)
			}
		})
	}
	inBubble(t, "a replica that receives on, by a Patroni that does not tell, follows", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.LagHold = time.Second })
		w.fakes["pg1"].Set(leads(2))
		w.fakes["pg2"].Set(follows(2))
		for i := range int64(30) {
			w.fakes["pg3"].Set(receives(1<<29 + i*mb))
			time.Sleep(2 * time.Second)
		}
		if got := w.verdict("pg3", "replica"); !got.Passes() {
			t.Errorf("%+v", got)
		}
		time.Sleep(15 * time.Second) // and then no more, though the primary has more
		if got := w.verdict("pg3", "replica"); got.Passes() {
			t.Errorf("%+v", got)
		}
	})
	inBubble(t, "does not matter when the rule is off", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.SameTimeline = false })
		w.fakes["pg1"].Set(leads(2))
		time.Sleep(time.Minute)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "pg3"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestStreamingOnly(t *testing.T) {
	inBubble(t, "a node that does not stream is no replica", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.Streaming = true })
		w.fakes["pg2"].Set(follows(1).WithField("replication_state", "in archive recovery"))
		w.fakes["pg3"].Set(follows(1).WithField("replication_state", "").WithField("patroni", map[string]any{"version": "3.0.2", "scope": "main"}))
		w.settle()
		for name, want := range map[string]string{
			"pg2": "not streaming: in archive recovery",
			"pg3": "not known to stream: Patroni 3.0.2 does not report it, 3.0.4 and newer do",
		} {
			if got := w.verdict(name, "replica"); got != (node.Verdict{Outcome: node.Excluded, Label: "not streaming", Reason: want}) {
				t.Errorf("%s: %+v, want %q", name, got, want)
			}
		}
		if w.primary() != "pg1" {
			t.Error("the primary does not stream either, but is primary")
		}
	})
}

func TestFallback(t *testing.T) {
	inBubble(t, "the primary serves reads only while no replica can", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.Fallback = true })
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "pg3"}) {
			t.Errorf("%q", got)
		}
		w.fakes["pg2"].Set(refuses)
		w.fakes["pg3"].Set(follows(1).WithState(node.StateStarting))
		time.Sleep(10 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("%q", got)
		}
		if got := w.verdict("pg1", "replica").Reason; got != "no replica is eligible: the primary serves reads" {
			t.Errorf("%q", got)
		}
		w.fakes["pg3"].Set(follows(1))
		w.until(1200*time.Millisecond, "pg3 is back", func() bool { return slices.Equal(w.passing("replica"), []string{"pg3"}) })
	})
	inBubble(t, "a stale last replica makes way too", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.Fallback = true })
		w.fakes["pg2"].Set(hangs)
		w.fakes["pg3"].Set(hangs)
		time.Sleep(7 * time.Second)
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("%q", got)
		}
	})
}
