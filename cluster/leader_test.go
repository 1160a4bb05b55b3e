package cluster

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestStart(t *testing.T) {
	inBubble(t, "an election does not wait for a silent node", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", hangs), clustertest.New(t, "pg2", leads(1)), clustertest.New(t, "pg3", hangs)))
		w.until(3*time.Millisecond+clustertest.ShortDelay, "pg2 is primary", func() bool { return w.primary() == "pg2" })
	})
	inBubble(t, "a question before the first poll waits for that node alone", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", hangs), clustertest.New(t, "pg2", leads(1))))
		ask := func(name string) (node.Verdict, time.Duration) {
			start := time.Now()
			a, err := w.sup.Ask(t.Context(), Question{Node: name, Check: "primary"})
			if err != nil {
				t.Error(err)
			}
			return a.Verdict, time.Since(start)
		}
		go func() {
			if v, took := ask("pg2"); !v.Passes() || took > 10*time.Millisecond {
				t.Errorf("pg2: %+v after %s", v, took)
			}
			start := time.Now()
			answers, err := w.sup.AskAll(t.Context(), "main", "primary", "")
			if err != nil || !answers[1].Verdict.Passes() || time.Since(start) != 0 {
				t.Errorf("all: %+v, %v after %s", answers, err, time.Since(start))
			}
		}()
		v, took := ask("pg1")
		if want := node.FaultFor("unknown: not polled yet"); v != want || took != 3*time.Second {
			t.Errorf("pg1: %+v after %s, want %+v after 3s", v, took, want)
		}
		w.tick()
		w.tick()
		if v, took := ask("pg1"); took != 0 || v.Reason != "no answer yet: no answer within 3s" {
			t.Errorf("pg1: %+v after %s", v, took)
		}
	})
	inBubble(t, "a question about all nodes waits only until one passes", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", hangs), clustertest.New(t, "pg2", leads(1)), clustertest.New(t, "pg3", hangs)))
		start := time.Now()
		answers, err := w.sup.AskAll(t.Context(), "main", "primary", "")
		if took := time.Since(start); err != nil || !answers[1].Verdict.Passes() || took > 10*time.Millisecond {
			t.Errorf("primary: %+v, %v after %s", answers, err, took)
		}
		if answers, err = w.sup.AskAll(t.Context(), "main", "replica", ""); err != nil || time.Since(start) > 3*time.Second+3*time.Millisecond {
			t.Errorf("replica: %+v, %v after %s", answers, err, time.Since(start))
		}
		for _, a := range answers {
			if a.Verdict.Passes() {
				t.Errorf("%s passes replica", a.Member.Name)
			}
		}
	})
	inBubble(t, "ready once every node was polled", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", hangs)))
		w.settle()
		if !w.sup.Ready() {
			t.Error("not ready")
		}
		w = begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", hangs)))
		start := time.Now()
		if err := w.sup.WaitReady(t.Context()); err != nil || time.Since(start) < 3*time.Second || !w.sup.Ready() {
			t.Errorf("WaitReady: %v after %s", err, time.Since(start))
		}
	})
	inBubble(t, "a question with little time gets its answer in time", func(t *testing.T) {
		s := New(config(clustertest.New(t, "pg1", leads(1)))) // does not run
		ctx, cancel := contextFor(t, 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		a, err := s.Ask(ctx, Question{Node: "pg1", Check: "replica"})
		if err != nil || a.Verdict.Reason != "unknown: not polled yet" || time.Since(start) != 50*time.Millisecond {
			t.Errorf("%+v, %v after %s", a.Verdict, err, time.Since(start))
		}
	})
}

// As measured in the lab (S1): the old primary stops with 200, says 503, then
// the new one says 200 first as a replica.
func TestSwitchoverNeverHasTwoPrimariesAndIsSeenWithinAFastInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		pg1, pg2 := w.fakes["pg1"], w.fakes["pg2"]
		pg1.Set(leads(1).WithState(node.StateStopping))
		w.until(275*time.Millisecond+2*clustertest.ShortDelay, "pg1 is out", func() bool { return w.primary() == "" })
		if got := w.verdict("pg1", "primary"); got != (node.Verdict{Outcome: node.Transient, Label: "stopping", Reason: "PostgreSQL is stopping"}) {
			t.Errorf("pg1: %+v", got)
		}
		if got := w.primaries(2 * time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("while it stops: %q", got)
		}
		pg1.Set(clustertest.Script{Status: 503, Role: node.RoleDemoted, State: node.StateStopping, Delay: clustertest.ShortDelay})
		if got := w.primaries(250 * time.Millisecond); !slices.Equal(got, []string{""}) {
			t.Errorf("with nobody: %q", got)
		}
		pg2.Set(leads(1).WithRole(node.RoleReplica))
		if got := w.primaries(130 * time.Millisecond); !slices.Equal(got, []string{""}) {
			t.Errorf("while promoting: %q", got)
		}
		if got := w.verdict("pg2", "primary"); got.Outcome != node.Transient || got.Label != "promoting" {
			t.Errorf("pg2: %+v", got)
		}
		pg2.Set(leads(2))
		w.until(100*time.Millisecond+2*clustertest.ShortDelay, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		pg1.Set(follows(2).WithState(node.StateStarting))
		if got := w.primaries(2 * time.Second); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("after: %q", got)
		}
		pg1.Set(follows(2))
		w.fakes["pg3"].Set(follows(2))
		if got := w.primaries(8 * time.Second); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("after: %q", got)
		}
		changes := w.drain()
		if got, want := ofKind(changes, KindLeader), []string{": pg1 -> none", ": none -> pg2"}; !slices.Equal(got, want) {
			t.Errorf("leader: %q, want %q", got, want)
		}
		if got := ofKind(changes, KindSplit); got != nil {
			t.Errorf("split: %q", got)
		}
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg1", "pg3"}) {
			t.Errorf("replicas %q", got)
		}
	})
}

// As in a stop of Patroni (S7): its REST API hangs while another takes over.
func TestSilentOldPrimaryLosesToTheNewOne(t *testing.T) {
	takeOver := func(t *testing.T, hungFor time.Duration) *world {
		w := three(t)
		w.fakes["pg1"].Set(hangs)
		if got := w.primaries(hungFor); !slices.Equal(got, []string{"pg1"}) {
			t.Fatalf("while silent: %q", got)
		}
		w.fakes["pg2"].Set(leads(2))
		w.until(2*(100*time.Millisecond+clustertest.ShortDelay), "pg2 is primary", func() bool { return w.primary() == "pg2" })
		if !w.view().Member("pg1").Entry.Fresh(time.Now()) {
			t.Fatal("pg1's report is stale: the test shows nothing")
		}
		return w
	}
	inBubble(t, "with its poll under way", func(t *testing.T) {
		w := takeOver(t, 2200*time.Millisecond)
		if got, want := w.verdict("pg1", "primary").Reason, "not elected: pg2 holds timeline 2, pg1 claims timeline 1"; got != want {
			t.Errorf("pg1: %q, want %q", got, want)
		}
		if got := w.primaries(8 * time.Second); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("after: %q", got)
		}
	})
	inBubble(t, "after its poll timed out", func(t *testing.T) {
		w := takeOver(t, 3500*time.Millisecond)
		w.fakes["pg1"].Set(refuses)
		if got := w.primaries(8 * time.Second); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("after: %q", got)
		}
	})
	inBubble(t, "and does not come back when the new one goes, until it answers", func(t *testing.T) {
		w := takeOver(t, 2200*time.Millisecond)
		w.fakes["pg2"].Set(follows(2))
		w.until(300*time.Millisecond, "pg2 is out", func() bool { return w.primary() == "" })
		w.tick()
		if !w.view().Member("pg1").Entry.Fresh(time.Now()) {
			t.Fatal("pg1's report is stale: the test shows nothing")
		}
		if got, want := w.verdict("pg1", "primary").Reason, "not elected: another node claimed while pg1 was silent"; got != want {
			t.Errorf("pg1: %q, want %q", got, want)
		}
		if got := w.primaries(10 * time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("after: %q", got)
		}
		w.fakes["pg1"].Set(leads(3))
		w.until(12*time.Second, "pg1 is primary", func() bool { return w.primary() == "pg1" })
	})
	inBubble(t, "and a clean switchover right after is no split", func(t *testing.T) {
		w := takeOver(t, 2200*time.Millisecond)
		pg2 := w.fakes["pg2"]
		n := pg2.Count()
		w.until(time.Second, "pg2 was just polled", func() bool { return pg2.Count() > n && pg2.Idle() })
		pg2.Set(follows(2))
		w.fakes["pg3"].Set(leads(3))
		w.until(2*(100*time.Millisecond+clustertest.ShortDelay), "pg3 is primary", func() bool { return w.primary() == "pg3" })
		if !w.view().Member("pg1").Entry.Fresh(time.Now()) {
			t.Fatal("pg1's report is stale: the test shows nothing")
		}
		if got := ofKind(w.drain(), KindSplit); got != nil {
			t.Errorf("split: %q", got)
		}
	})
	inBubble(t, "and is judged again when it answers late", func(t *testing.T) {
		w := takeOver(t, 2200*time.Millisecond)
		w.fakes["pg2"].Set(leads(2))
		w.fakes["pg1"].Set(leads(1))
		if got := w.primaries(8 * time.Second); !slices.Equal(got, []string{"pg2"}) {
			t.Errorf("after: %q", got)
		}
		if !w.view().Split {
			t.Error("no split")
		}
	})
}

// blip is what a leader in failsafe mode says when the DCS comes back (S4).
func blip() clustertest.Script {
	return leads(1).WithStatus(503).WithField("cluster_unlocked", true).WithField("failsafe_mode_is_active", true)
}

func TestFailsafeBlip(t *testing.T) {
	inBubble(t, "one or two 503 take no node out", func(t *testing.T) {
		w := three(t)
		pg1 := w.fakes["pg1"]
		for blips := range 2 {
			n := w.change("pg1", blip())
			w.until(time.Second, "the blip is seen", func() bool { return pg1.Count() > n+blips && w.primary() == "pg1" && w.fakes["pg1"].Idle() })
			pg1.Set(leads(1))
			if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{"pg1"}) {
				t.Errorf("after %d: %q", blips+1, got)
			}
		}
		if got := ofKind(w.drain(), KindLeader); got != nil {
			t.Errorf("leader: %q", got)
		}
	})
	inBubble(t, "three in a row are believed", func(t *testing.T) {
		w := three(t)
		pg1 := w.fakes["pg1"]
		n := w.change("pg1", blip())
		w.until(time.Second, "nobody is primary", func() bool { return w.primary() == "" })
		if got := pg1.Count() - n; got != 3 {
			t.Errorf("after %d polls, want 3", got)
		}
		polls := pg1.Polls(n)
		if took := polls[2].Sub(polls[0]); took > 2*100*time.Millisecond+3*clustertest.ShortDelay {
			t.Errorf("took %s, want fast polls", took)
		}
		if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("after: %q", got)
		}
		pg1.Set(leads(1))
		w.until(102*time.Millisecond+clustertest.ShortDelay, "pg1 is primary", func() bool { return w.primary() == "pg1" })
	})
	inBubble(t, "another claim ends it at once", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Clusters[0].Nodes[0].Fall = 1000 })
		w.fakes["pg1"].Set(blip())
		w.until(time.Second, "the blip is seen", func() bool { return w.view().Member("pg1").Entry.Value.Status == 503 })
		w.fakes["pg2"].Set(leads(2))
		w.until(102*time.Millisecond+clustertest.ShortDelay, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		w.fakes["pg2"].Set(follows(2))
		if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{"pg2", ""}) {
			t.Errorf("after: %q", got)
		}
	})
	inBubble(t, "what another claim ended does not come back by itself", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(blip())
		w.until(time.Second, "the blip is seen", func() bool { return w.view().Member("pg1").Entry.Value.Status == 503 })
		w.fakes["pg1"].Set(hangs)
		w.fakes["pg2"].Set(leads(2))
		w.until(102*time.Millisecond+clustertest.ShortDelay, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		w.fakes["pg2"].Set(follows(2))
		if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{"pg2", ""}) {
			t.Errorf("after: %q", got)
		}
	})
	for name, s := range map[string]clustertest.Script{
		"another role is believed at once":  follows(1),
		"another state is believed at once": leads(1).WithStatus(503).WithState(node.StateStopping),
	} {
		inBubble(t, name, func(t *testing.T) {
			w := three(t)
			n := w.change("pg1", s)
			w.until(time.Second, "nobody is primary", func() bool { return w.primary() == "" })
			if got := w.fakes["pg1"].Count() - n; got != 1 {
				t.Errorf("after %d polls, want 1", got)
			}
		})
	}
}

func TestTwoClaims(t *testing.T) {
	unlocked := func(s clustertest.Script) clustertest.Script {
		return s.WithField("cluster_unlocked", true).WithField("pause", true)
	}
	tests := []struct {
		name     string
		pg1, pg2 clustertest.Script
		want     []string // primaries from when both claim
		why      string
	}{
		{"the higher timeline wins", leads(1), leads(2), []string{"pg1", "pg2"},
			"claims by pg1 (timeline 1) and pg2 (timeline 2): pg2 has the highest timeline"},
		{"the incumbent with the higher timeline stays", leads(3), leads(2), []string{"pg1"},
			"claims by pg1 (timeline 3) and pg2 (timeline 2): pg1 has the highest timeline"},
		{"equal timelines elect nobody", leads(1), leads(1), []string{"pg1", ""},
			"claims by pg1 (timeline 1) and pg2 (timeline 1): their timelines are equal: no node is elected"},
		{"who sees no lock loses", unlocked(leads(9)), leads(2), []string{"pg1", "pg2"},
			"claims by pg1 (timeline 9) and pg2 (timeline 2): pg2 alone sees the cluster locked"},
		{"with nobody locked the incumbent stays", unlocked(leads(4)), unlocked(leads(5)), []string{"pg1"},
			"claims by pg1 (timeline 4) and pg2 (timeline 5): no claimant sees the cluster locked: pg1 stays"},
	}
	for _, test := range tests {
		inBubble(t, test.name, func(t *testing.T) {
			w := three(t)
			w.fakes["pg1"].Set(test.pg1)
			w.settle()
			w.fakes["pg2"].Set(test.pg2)
			got := w.primaries(5 * time.Second)
			time.Sleep(2 * time.Minute) // nor does it change when polls become slow again
			if got = slices.Compact(append(got, w.primaries(3*time.Second)...)); !slices.Equal(got, test.want) {
				t.Errorf("primaries %q, want %q", got, test.want)
			}
			if v := w.view(); !v.Split || v.Judging || v.Why != test.why {
				t.Errorf("split %t, judging %t, why %q, want %q", v.Split, v.Judging, v.Why, test.why)
			}
			h := w.view().Health(time.Now())
			if h.Level != Critical || h.Reasons[0].Code != "split_brain" || h.Reasons[0].Text != test.why {
				t.Errorf("health %+v", h)
			}
			if len(h.Reasons) > 1 && h.Reasons[1].Text == test.why {
				t.Errorf("health says the same twice: %+v", h.Reasons)
			}
			w.fakes["pg2"].Set(follows(1))
			w.until(1200*time.Millisecond, "the split ends", func() bool { return !w.view().Split })
			w.until(time.Second, "pg1 is primary", func() bool { return w.primary() == "pg1" })
			changes := w.drain()
			if got, want := ofKind(changes, KindSplit), []string{": no -> yes", ": yes -> no"}; !slices.Equal(got, want) {
				t.Errorf("split: %q, want %q", got, want)
			}
			for _, c := range changes {
				if c.Kind == KindSplit && c.After == "yes" && c.Reason != test.why {
					t.Errorf("reason %q, want %q", c.Reason, test.why)
				}
			}
		})
	}
	inBubble(t, "a claimant that answers slowly does not make the primary flap", func(t *testing.T) {
		w := three(t)
		slow := leads(2)
		slow.Delay = 700 * time.Millisecond
		w.fakes["pg1"].Set(slow)
		w.settle()
		w.fakes["pg2"].Set(leads(1))
		w.primaries(10 * time.Second)
		if got := w.primaries(8 * time.Second); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("primaries %q, want pg1", got)
		}
	})
	inBubble(t, "an old claim is no claim", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(hangs)
		w.primaries(6 * time.Second)
		w.fakes["pg2"].Set(leads(2))
		w.until(102*time.Millisecond+clustertest.ShortDelay, "pg2 is primary without asking again", func() bool { return w.primary() == "pg2" })
		if changes := w.drain(); ofKind(changes, KindSplit) != nil {
			t.Errorf("%+v", changes)
		}
	})
	inBubble(t, "both claimants are asked again before judging", func(t *testing.T) {
		w := three(t)
		pg1, pg2 := w.fakes["pg1"], w.fakes["pg2"]
		pg2.Set(leads(2))
		w.until(2*time.Second, "both are being asked", func() bool { return w.view().Judging })
		n1, n2 := pg1.Count(), pg2.Count()
		if got := w.verdict("pg2", "primary"); got.Outcome != node.Transient || got.Label != "judging" || w.primary() != "pg1" {
			t.Errorf("pg2 %+v, primary %q", got, w.primary())
		}
		took := w.until(102*time.Millisecond+clustertest.ShortDelay, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		if pg1.Count() == n1 && pg1.Idle() || pg2.Count() == n2 {
			t.Errorf("not asked again in %s", took)
		}
	})
}

func TestPause(t *testing.T) {
	inBubble(t, "a Patroni that is down on purpose does not take its node out before the TTL", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(leads(1).WithField("pause", true))
		w.settle()
		w.fakes["pg1"].Set(refuses)
		began := w.view().Member("pg1").Entry.Began
		w.until(6*time.Second, "pg1 is out", func() bool {
			if b := w.view().Member("pg1").Entry.Began; b.After(began) {
				began = b
			}
			return w.primary() == ""
		})
		if age := time.Since(began); age < 5*time.Second || age > 5*time.Second+2*time.Millisecond {
			t.Errorf("believed for %s, want 5s", age)
		}
		if n := w.view().Member("pg1").Entry.Failures; n < 10 {
			t.Errorf("%d failures", n)
		}
	})
	inBubble(t, "is told once", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(leads(1).WithField("pause", true))
		w.fakes["pg2"].Set(follows(1).WithField("pause", true))
		w.settle()
		want := []Reason{{"paused", Warning, "", "Patroni is paused: there is no automatic failover"}}
		if h := w.view().Health(time.Now()); h.Level != Warning || !slices.Equal(h.Reasons, want) {
			t.Errorf("%+v", h)
		}
	})
}

func TestLagInAStandbyClusterIsBehindItsLeader(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		standby := follows(1).WithRole(node.RoleStandbyLeader)
		standby.StandbyLeader = true
		w := begin(t, config(clustertest.New(t, "pg1", standby), clustertest.New(t, "pg2", follows(1).WithReplayed(1<<30-5*mb)), clustertest.New(t, "pg3", follows(1))))
		w.settle()
		time.Sleep(2 * time.Second) // the position is known when the next poll begins
		if got, want := w.view().Member("pg2").Standing.Lag, int64(5*mb); got != want {
			t.Errorf("lag %d, want %d", got, want)
		}
	})
}

func TestStandbyClusterHasALeaderButNoPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		standby := follows(1).WithRole(node.RoleStandbyLeader)
		standby.StandbyLeader = true
		w := begin(t, config(clustertest.New(t, "pg1", standby), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", follows(1))))
		w.settle()
		for check, want := range map[string][]string{
			"primary": nil, "leader": {"pg1"}, "standby-leader": {"pg1"}, "standby_leader": {"pg1"},
			"replica": {"pg2", "pg3"}, "read-only": {"pg1", "pg2", "pg3"}, "readiness": {"pg1", "pg2", "pg3"},
		} {
			if got := w.passing(check); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", check, got, want)
			}
		}
		if h := w.view().Health(time.Now()); h.Level != OK {
			t.Errorf("%+v", h)
		}
		standby.StandbyLeader = false
		n := w.change("pg1", standby)
		w.until(time.Second, "the leader is out", func() bool { return len(w.passing("leader")) == 0 })
		if got := w.fakes["pg1"].Count() - n; got != 3 {
			t.Errorf("after %d polls, want 3", got)
		}
	})
}

// A primary cluster and its standby cluster in one section: the same scope, each with its own DCS.
func TestPrimaryBesideAStandbyLeader(t *testing.T) {
	standby := follows(1).WithRole(node.RoleStandbyLeader)
	standby.StandbyLeader = true
	sites := func(t *testing.T) *world {
		return begin(t, config(clustertest.New(t, "dr1", standby), clustertest.New(t, "dr2", follows(1)), clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1))))
	}
	wantPassing := func(w *world, want map[string][]string) {
		w.t.Helper()
		for check, want := range want {
			if got := w.passing(check); !slices.Equal(got, want) {
				w.t.Errorf("%s: %q, want %q", check, got, want)
			}
		}
	}
	inBubble(t, "the primary is elected, and nothing is wrong", func(t *testing.T) {
		w := sites(t)
		w.settle()
		wantPassing(w, map[string][]string{
			"primary": {"pg1"}, "leader": {"pg1"}, "standby-leader": {"dr1"}, "replica": {"dr2", "pg2"}, "read-only": {"dr1", "dr2", "pg1", "pg2"},
			"readiness": {"dr1", "dr2", "pg1", "pg2"},
		})
		if h := w.view().Health(time.Now()); h.Level != OK {
			t.Errorf("%+v", h)
		}
		if got, want := w.verdict("dr1", "leader"), (node.Verdict{Outcome: node.OtherRole, Label: "standby_leader", Reason: "leads a standby cluster; pg1 is the primary"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		w.drain()
		if got := w.primaries(time.Minute); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("primaries %q", got)
		}
		if got := w.drain(); len(got) > 0 {
			t.Errorf("changes: %+v", got)
		}
		polls := w.fakes["pg1"].Polls(0)
		if n := busiest(polls[len(polls)-100:]); n > 6 {
			t.Errorf("pg1 is polled %d times in a second, as if something were wrong", n)
		}
	})
	inBubble(t, "without a primary the standby leader leads, until it is promoted", func(t *testing.T) {
		w := sites(t)
		w.settle()
		w.fakes["pg1"].Set(refuses)
		w.fakes["pg2"].Set(refuses)
		w.until(time.Second, "dr1 leads", func() bool { return slices.Equal(w.passing("leader"), []string{"dr1"}) })
		wantPassing(w, map[string][]string{"primary": nil, "standby-leader": {"dr1"}})
		w.fakes["dr1"].Set(leads(2))
		w.until(time.Second, "dr1 is primary", func() bool { return w.primary() == "dr1" })
		w.fakes["pg1"].Set(standby) // the old site follows
		w.settle()
		wantPassing(w, map[string][]string{"primary": {"dr1"}, "leader": {"dr1"}, "standby-leader": {"pg1"}})
	})
	inBubble(t, "a blip of the primary elects no standby leader", func(t *testing.T) {
		w := sites(t)
		w.settle()
		w.fakes["pg1"].Set(leads(1).WithStatus(503))
		w.until(time.Second, "one 503", func() bool {
			g := w.sup.group()
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.byName["pg1"].blips > 0
		})
		wantPassing(w, map[string][]string{"leader": {"pg1"}})
	})
	inBubble(t, "a silent primary loses to none", func(t *testing.T) {
		w := sites(t)
		w.settle()
		w.fakes["pg1"].Set(hangs)
		if got := w.primaries(4 * time.Second); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("primaries %q", got)
		}
	})
	inBubble(t, "of two standby leaders none is the one", func(t *testing.T) {
		w := sites(t)
		w.fakes["dr2"].Set(standby)
		w.settle()
		wantPassing(w, map[string][]string{"primary": {"pg1"}, "leader": {"pg1"}, "standby-leader": nil, "read-only": {"dr1", "dr2", "pg1", "pg2"}})
	})
	inBubble(t, "two primaries are a split brain", func(t *testing.T) {
		w := sites(t)
		w.settle()
		w.fakes["pg2"].Set(leads(2))
		w.settle()
		wantPassing(w, map[string][]string{"primary": {"pg2"}, "leader": {"pg2"}, "standby-leader": {"dr1"}})
		if v := w.view(); !v.Split || strings.Contains(v.Why, "dr1") {
			t.Errorf("split %t, why %q", v.Split, v.Why)
		}
	})
}

func TestPostgresCrashed(t *testing.T) {
	inBubble(t, "takes the primary down though Patroni says 200", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(leads(1).WithState(node.StateUnknown))
		if got := w.primaries(time.Second); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("unknown: %q", got)
		}
		w.fakes["pg1"].Set(leads(1).WithState(node.StateCrashed))
		w.until(275*time.Millisecond+2*clustertest.ShortDelay, "pg1 is out", func() bool { return w.primary() == "" })
		if got, want := w.verdict("pg1", "primary"), (node.Verdict{Outcome: node.Fault, Label: "crashed", Reason: "PostgreSQL: crashed"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if w.view().Leader != "pg1" {
			t.Errorf("leader %q", w.view().Leader)
		}
		h := w.view().Health(time.Now())
		if h.Level != Critical || h.Reasons[0].Text != "elected last, but: PostgreSQL: crashed" {
			t.Errorf("%+v", h)
		}
	})
	inBubble(t, "does not in lock mode", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.Lock = true })
		for _, state := range []node.State{node.StateCrashed, node.StateStopping, node.StateStarting} {
			w.fakes["pg1"].Set(leads(1).WithState(state))
			if got := w.primaries(time.Second); !slices.Equal(got, []string{"pg1"}) {
				t.Errorf("%s: %q", state, got)
			}
		}
		w.fakes["pg1"].Set(leads(1).WithRole(node.RoleReplica))
		if got := w.primaries(time.Second); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("promoting: %q", got)
		}
	})
}

func TestPromotionThatNeverEndsBecomesAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(leads(1).WithRole(node.RoleReplica))
		w.until(time.Second, "pg1 is out", func() bool { return w.primary() == "" })
		since := w.view().Member("pg1").Since
		time.Sleep(58 * time.Second)
		w.until(3*time.Second, "a fault", func() bool { return w.verdict("pg1", "primary").Outcome == node.Fault })
		if d := time.Since(since); d < node.PassingFor || d > node.PassingFor+300*time.Millisecond {
			t.Errorf("a fault after %s", d)
		}
		if got, want := w.verdict("pg1", "primary").Reason, "holds the leader lock, but is not promoted yet: role replica for 1m0s"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestTTL(t *testing.T) {
	inBubble(t, "a frozen primary passes until then and not a moment longer, though nothing sweeps", func(t *testing.T) {
		var fakes []*clustertest.Poller
		for i, s := range []clustertest.Script{leads(1), follows(1), follows(1)} {
			f := clustertest.New(t, "pg"+string(rune('1'+i)), s)
			f.SetTimeout(time.Hour)
			fakes = append(fakes, f)
		}
		w := begin(t, config(fakes...))
		w.settle()
		for _, f := range fakes {
			w.until(time.Second, "no poll is under way", f.Idle)
			f.Set(hangs)
		}
		time.Sleep(2 * time.Second)
		began := w.view().Member("pg1").Entry.Began
		if d := time.Until(began.Add(5*time.Second - 1)); d <= 0 {
			t.Fatal("too late")
		} else {
			time.Sleep(d)
		}
		if w.primary() != "pg1" {
			t.Error("out before its time")
		}
		view := w.view()
		time.Sleep(time.Nanosecond)
		if w.primary() != "" {
			t.Error("believed too long")
		}
		if w.view() != view {
			t.Error("something swept")
		}
		if got, want := w.verdict("pg1", "primary"), node.FaultFor("stale: last answer 5.0s ago, ttl 5s"); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
	inBubble(t, "a node that becomes stale is reported although others answer", func(t *testing.T) {
		w := three(t)
		w.fakes["pg3"].Set(hangs)
		w.primaries(7 * time.Second)
		if got, want := ofKind(w.drain(), KindKnown), []string{"pg3: fresh -> out"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		w.fakes["pg3"].Set(follows(1))
		time.Sleep(15 * time.Second)
		if got, want := ofKind(w.drain(), KindKnown), []string{"pg3: out -> fresh"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
	for _, test := range []struct {
		kind  node.Kind
		polls int // 0 = only the TTL counts
	}{{node.KindRefused, 3}, {node.KindReset, 3}, {node.KindNoRoute, 0}, {node.KindStatus, 0}, {node.KindDNS, 0}, {node.KindTLS, 0}, {node.KindDocument, 0}} {
		inBubble(t, string(test.kind), func(t *testing.T) {
			w := three(t)
			n := w.change("pg1", fails(test.kind))
			took := w.until(6*time.Second, "pg1 is out", func() bool { return w.primary() == "" })
			polls := w.fakes["pg1"].Count() - n
			switch {
			case test.polls > 0 && (polls != test.polls || took > 480*time.Millisecond):
				t.Errorf("out after %d polls and %s, want %d", polls, took, test.polls)
			case test.polls == 0 && took < 4700*time.Millisecond:
				t.Errorf("out after %s", took)
			}
			want := "not answering: connection " + string(test.kind) + " (3 times in a row)"
			if test.polls == 0 {
				want = "stale: last answer 5.0s ago, ttl 5s: connection " + string(test.kind)
			}
			if got := w.verdict("pg1", "primary").Reason; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if !strings.Contains(w.view().Health(time.Now()).Reasons[0].Text, "claims to be primary") && test.polls > 0 {
				t.Errorf("%+v", w.view().Health(time.Now()))
			}
		})
	}
}
