package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// anyScript is whatever a member may do, likely or not.
func anyScript(r *rand.Rand) clustertest.Script {
	timeline := 1 + r.Int64N(4)
	s := []func() clustertest.Script{
		func() clustertest.Script { return leads(timeline) },
		func() clustertest.Script { return leads(timeline) },
		func() clustertest.Script { return leads(timeline).WithRole(node.RoleReplica) },
		func() clustertest.Script { return follows(timeline) },
		func() clustertest.Script { return follows(timeline).WithReplayed(1<<30 - r.Int64N(1<<30)) },
		func() clustertest.Script { return hangs },
		func() clustertest.Script { return fails(node.Kinds[r.IntN(len(node.Kinds))]) },
		blip,
		func() clustertest.Script {
			s := follows(timeline).WithRole(node.RoleStandbyLeader)
			s.StandbyLeader = r.IntN(3) > 0
			return s
		},
	}[r.IntN(9)]()
	if r.IntN(4) == 0 {
		s.State = []node.State{node.StateUnknown, node.StateStopping, node.StateStarting, node.StateCrashed, "never heard of"}[r.IntN(5)]
	}
	if r.IntN(5) == 0 {
		s = s.WithField("cluster_unlocked", true)
	}
	if r.IntN(8) == 0 {
		s = s.WithField("pause", true)
	}
	if r.IntN(4) == 0 {
		s = with([]string{"6666", "8888"}[r.IntN(2)], s)
	}
	if r.IntN(15) == 0 {
		s = s.WithField("patroni", map[string]any{"version": "4.1.4", "scope": "other"})
	}
	s.Delay = time.Duration(r.ExpFloat64() * float64(50*time.Millisecond))
	return s
}

func TestWhateverHappensThereIsOnePrimaryAtMost(t *testing.T) {
	walks, steps := uint64(40), 100
	if clustertest.Race {
		walks = 12 // ./build.sh test runs all of them without the race detector, too
	}
	for seed := range walks {
		inBubble(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", anyScript(r)))
			cfg.Rules = Rules{Lock: r.IntN(4) == 0, MaxLag: 100 * mb, LagHold: time.Second, SameTimeline: true,
				Streaming: r.IntN(2) == 0, MinReplicas: r.IntN(3), Fallback: r.IntN(2) == 0}
			if r.IntN(2) == 0 {
				cfg.Clusters[0].Scope = "main"
			}
			machine := new(sleeper)
			cfg.Suspended = machine.suspended
			w := begin(t, cfg)
			for range steps {
				w.fakes[fmt.Sprintf("pg%d", 1+r.IntN(3))].Set(anyScript(r))
				switch name := fmt.Sprintf("pg%d", 1+r.IntN(3)); r.IntN(12) {
				case 3:
					w.sup.Acknowledge()
					w.lineage.strange = nil
				case 4:
					w.lineage.checked = time.Time{} // who is listed has a say
					n := &cfg.Clusters[0].Nodes[r.IntN(3)]
					if n.Unlisted.IsZero() {
						n.Unlisted = time.Now()
					} else {
						n.Unlisted = time.Time{}
					}
					next := cfg
					next.Clusters = []ClusterConfig{{Name: "main", Scope: cfg.Clusters[0].Scope, Nodes: slices.Clone(cfg.Clusters[0].Nodes)}}
					w.sup.Apply(next)
				case 0:
					w.announce(name, time.Duration(r.ExpFloat64()*float64(2*time.Second)))
				case 1:
					w.sup.Stay("", name)
				case 2:
					synctest.Wait() // a poll that is under way began before
					machine.suspend(time.Second + time.Duration(r.ExpFloat64()*float64(time.Hour)))
					w.slept = time.Now()
				}
				for range 1 + r.IntN(8) {
					time.Sleep(time.Duration(r.ExpFloat64() * float64(150*time.Millisecond)))
					synctest.Wait()
					w.walk(node.CheckNames()[r.IntN(len(node.CheckNames()))])
				}
			}
			for name, f := range w.fakes {
				if n := busiest(f.Polls(0)); n > 11 {
					t.Errorf("%s: %d polls in a second", name, n)
				}
			}
			for i := range cfg.Clusters[0].Nodes {
				cfg.Clusters[0].Nodes[i].Unlisted = time.Time{}
			}
			w.sup.Apply(cfg)
			w.followsTheLock([]string{"", "9999", "6666"}[r.IntN(3)])
			w.recovers()
		})
	}
}

// walk checks what must hold at any moment.
func (w *world) walk(also string) {
	w.t.Helper()
	now := time.Now()
	for _, check := range []string{"primary", "leader", "standby-leader", also} {
		for _, name := range w.passing(check) {
			good := w.fakes[name].LastGood()
			if len(good) == 0 || now.Sub(good[len(good)-1].Began) >= 5*time.Second || !w.slept.IsZero() && !good[len(good)-1].Began.After(w.slept) {
				w.t.Fatalf("%s passes %s on old knowledge", name, check)
			}
			if (check == "primary" || check == "leader") && !slices.ContainsFunc(good, func(r node.Report) bool { return r.Claims() }) {
				w.t.Fatalf("%s passes %s, but has not claimed it for three polls", name, check)
			}
		}
	}
	w.leavingAffectsOnlyItself(now)
	w.lineageIsKept(now)
	v := w.view()
	for _, r := range v.Health(now).Reasons {
		if r.Text == "" || r.Code == "" {
			w.t.Fatalf("a reason without words: %+v", r)
		}
	}
	if got := v.WithoutPrimary(); got < w.without {
		w.t.Fatalf("%s without a primary, after %s: a counter never shrinks", got, w.without)
	} else {
		w.without = got
	}
	if (v.Split || v.Judging) && v.Why == "" {
		w.t.Fatalf("no reason given: %+v", v)
	}
}

// lineage is what the walk has seen of identities, apart from the supervisor.
type lineage struct {
	checked time.Time            // the last check; zero = begin again
	pinned  string               // at that check
	leaders map[string]bool      // that led with it then
	seen    map[string]time.Time // other identifiers, since when
	strange map[string]bool      // those of seen that a leader has outlived
}

// lineageIsKept checks the proof obligations of [identity] at one moment: only the
// cluster's own nodes pass, a leader's identity is not replaced while it leads, and
// nothing strange becomes the cluster without a majority or an operator.
func (w *world) lineageIsKept(now time.Time) {
	w.t.Helper()
	v, g, l := w.view(), w.sup.group(), &w.lineage
	g.mu.Lock()
	defer g.mu.Unlock()
	latest := func(m *Member) *node.Document {
		if good := w.fakes[m.Name].LastGood(); len(good) > 0 {
			return &good[len(good)-1].Document
		}
		return new(node.Document)
	}
	for _, m := range v.Members {
		d := latest(m)
		if m.Verdict(leaderCheck, now).Passes() && (d.SystemID != v.SystemID || g.scope != "" && d.Scope != g.scope) {
			w.t.Fatalf("%s leads with identifier %s of scope %s, pinned are %s and %q", m.Name, d.SystemID, d.Scope, v.SystemID, g.scope)
		}
	}
	if v.SystemID != l.pinned && l.pinned != "" && !l.checked.IsZero() && l.checked.After(w.slept) {
		votes, listed := 0, 0
		for _, m := range v.Members {
			if m.Unlisted.IsZero() {
				listed++
				if slices.ContainsFunc(w.fakes[m.Name].LastGood(), func(r node.Report) bool { return r.Document.SystemID == v.SystemID }) {
					votes++
				}
			}
			// It led at the last check and does now, between which its script changed once at most.
			d := latest(m)
			leads := m.Entry.Fresh(now) && m.Entry.Value.Claims() && !m.Since.After(l.checked) && !g.byName[m.Name].beaten
			if l.leaders[m.Name] && leads && d.SystemID == l.pinned && (g.scope == "" || d.Scope == g.scope) {
				w.t.Fatalf("the identifier %s is replaced by %s while %s leads with it", l.pinned, v.SystemID, m.Name)
			}
		}
		if l.strange[v.SystemID] && votes*2 <= listed {
			w.t.Fatalf("the identifier %s, which was seen beside %s, is pinned: %+v", v.SystemID, l.pinned, v.Changed)
		}
	}
	if v.SystemID != l.pinned || l.checked.IsZero() {
		l.seen = nil
	}
	if l.seen == nil {
		l.seen = make(map[string]time.Time)
	}
	if l.strange == nil {
		l.strange = make(map[string]bool)
	}
	l.checked, l.pinned, l.leaders = now, v.SystemID, make(map[string]bool)
	present := make(map[string]bool)
	for _, m := range v.Members {
		if id := latest(m).SystemID; m.Unlisted.IsZero() && id != "" && id != v.SystemID {
			present[id] = true
			if l.seen[id].IsZero() {
				l.seen[id] = now
			}
		}
		if m.Unlisted.IsZero() && m.Refused == "" && !g.byName[m.Name].beaten && m.Entry.Fresh(now) && m.Entry.Value.Claims() && latest(m).SystemID == v.SystemID {
			l.leaders[m.Name] = true
		}
	}
	for id, since := range l.seen {
		if !present[id] {
			delete(l.seen, id)
			continue
		}
		for name := range l.leaders {
			if v.Member(name).Entry.Began.After(since) && !slices.Contains(g.own, id) {
				l.strange[id] = true
			}
		}
	}
	for _, id := range g.own {
		delete(l.strange, id) // a node of the cluster has led with it
	}
}

// followsTheLock checks that a node that alone holds the lock passes, whatever was, with
// an operator's help at most: and without where the scope is configured and its
// identifier was never seen.
func (w *world) followsTheLock(id string) {
	w.t.Helper()
	if id == "" {
		return
	}
	w.fakes["pg2"].Set(refuses)
	w.fakes["pg3"].Set(clustertest.Says(503, `{"state":"creating replica","role":"replica","patroni":{"version":"4.1.4","scope":"main"}}`))
	w.fakes["pg1"].Set(with(id, leads(1)))
	time.Sleep(25 * time.Second)
	synctest.Wait()
	if w.primary() == "pg1" {
		return
	}
	if w.sup.group().scope != "" && id == "9999" {
		w.t.Fatalf("pg1 alone holds the lock and does not pass: %s", w.view().Why)
	}
	w.sup.Acknowledge()
	w.until(time.Second, "pg1 leads after a reload", func() bool { return w.primary() == "pg1" })
}

// announce announces a stop and checks that it makes no other node pass, and that the
// node itself no longer passes as leader.
func (w *world) announce(name string, d time.Duration) {
	w.t.Helper()
	before := make(map[string][]string)
	for _, check := range node.CheckNames() {
		before[check] = w.passing(check)
	}
	a := w.leave(name, d)
	for _, check := range node.CheckNames() {
		now := w.passing(check)
		for _, passing := range now {
			if !slices.Contains(before[check], passing) {
				w.t.Fatalf("%s passes %s because %s is leaving", passing, check, name)
			}
		}
		c, _ := node.ParseCheck(check, "")
		if a.Leaving && d > 0 && c.Writes() && slices.Contains(now, name) {
			w.t.Fatalf("%s passes %s while it is leaving", name, check)
		}
	}
}

// leavingAffectsOnlyItself checks that a leaving node passes no check of a leader, and that every
// other verdict is the same as without the announcement.
func (w *world) leavingAffectsOnlyItself(now time.Time) {
	w.t.Helper()
	v := w.view()
	for _, m := range v.Members {
		stays := *m
		stays.leaving = leaving{}
		for q := range plainChecks {
			c := &plainChecks[q]
			with, without := m.Verdict(c, now), stays.Verdict(c, now)
			if with != without && !m.leaves(now) || with.Passes() && !without.Passes() {
				w.t.Fatalf("%s: %+v, but %+v if nobody were leaving", m.Name, with, without)
			}
			if m.leaves(now) && c.Writes() && with.Passes() {
				w.t.Fatalf("%s passes though it is leaving: %+v", m.Name, with)
			}
		}
		if until, leaves := m.Leaving(now); leaves && v.Leader != "" && v.Leader != m.Name {
			w.t.Fatalf("%s is leaving until %s though %s is elected", m.Name, until, v.Leader)
		}
	}
}

// countsAsTheHistory checks, while there is a primary, that the counters equal the sums
// of the history.
func (w *world) countsAsTheHistory() {
	w.t.Helper()
	var without time.Duration
	var changes, splits uint64
	last := ""
	h := w.history(Filter{})
	for _, c := range h.Changes {
		switch {
		case c.Kind == KindPrimary && c.After != "none":
			without += time.Duration(c.Gap * float64(time.Second)).Round(time.Millisecond)
			if last != "" && last != c.After {
				changes++
			}
			last = c.After
		case c.Kind == KindSplit && c.After == "yes":
			splits++
		}
	}
	v := w.view()
	if got := v.WithoutPrimary(); h.Truncated || got != without || v.PrimaryChanges != changes || v.SplitBrains != splits {
		w.t.Errorf("counted %s without a primary, %d changes of it, %d split brains; the history tells of %s, %d and %d (truncated %t)",
			got, v.PrimaryChanges, v.SplitBrains, without, changes, splits, h.Truncated)
	}
}

// recovers checks that a cluster that works again is seen as such, whatever was.
func (w *world) recovers() {
	w.t.Helper()
	pinned := w.view().SystemID
	for name, f := range w.fakes {
		s := follows(5)
		if name == "pg1" {
			s = leads(5)
		}
		f.Set(s.WithField("database_system_identifier", pinned))
	}
	time.Sleep(25 * time.Second)
	synctest.Wait()
	if p, r := w.primary(), w.passing("replica"); p != "pg1" || !slices.Equal(r, []string{"pg2", "pg3"}) {
		w.t.Errorf("primary %q, replicas %q, why %q", p, r, w.view().Why)
	}
	w.countsAsTheHistory()
	if h := w.view().Health(time.Now()); h.Level != OK {
		w.t.Errorf("%+v", h)
	}
}
