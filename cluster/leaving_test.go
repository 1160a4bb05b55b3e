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

// leave announces that a node is about to stop.
func (w *world) leave(name string, d time.Duration) Announcement {
	w.t.Helper()
	a, err := w.sup.Leave("", name, d)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// ends waits until the announcement of pg1 ends, and gives the recorded reason.
func (w *world) ends(within time.Duration) string {
	w.t.Helper()
	var over []Change
	w.until(within, "the announcement ends", func() bool {
		for _, c := range w.drain() {
			if c.Kind == KindLeaving && c.Node == "pg1" && c.After == "no" {
				over = append(over, c)
			}
		}
		return len(over) > 0
	})
	if len(over) != 1 || over[0].Before != "yes" {
		w.t.Errorf("ended by %+v, want one record", over)
	}
	return over[0].Reason
}

// heardOfAndSilent waits for an answer of pg1 that is younger than its
// announcement; from then on no poll brings anything.
func (w *world) heardOfAndSilent() {
	w.t.Helper()
	w.until(time.Second, "pg1 was heard of", func() bool {
		m := w.view().Member("pg1")
		return m.Entry.Began.After(m.leaving.since)
	})
	for _, f := range w.fakes {
		w.until(time.Second, f.Name()+" is idle", f.Idle)
		f.SetTimeout(time.Hour)
		f.Set(hangs)
	}
}

func TestLeaving(t *testing.T) {
	inBubble(t, "takes the leader out of every check of a leader at once", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Rules.Fallback = true })
		reads, ready := w.passing("read-only"), w.passing("readiness")
		a := w.leave("pg1", 10*time.Second)
		if !a.Leaving || a.Cluster != "main" || a.Node != "pg1" || time.Until(a.Until) != 10*time.Second || !strings.HasPrefix(a.Reason, "about to stop, as announced: leads no more until ") {
			t.Errorf("%+v", a)
		}
		for _, check := range []string{"primary", "master", "read-write", "leader", "standby-leader"} {
			if got := w.passing(check); got != nil {
				t.Errorf("%s: %q pass", check, got)
			}
		}
		for after, outcome := range map[time.Duration]node.Outcome{0: node.Finishing, finishFor: node.Transient} {
			want := node.Verdict{Outcome: outcome, Label: "leaving", Reason: a.Reason}
			for _, check := range []string{"primary", "leader", "read-only", "read-only-sync", "read-only-quorum"} {
				c, _ := node.ParseCheck(check, "")
				if got := w.view().Member("pg1").Verdict(&c, time.Now().Add(after)); got != want {
					t.Errorf("%s after %v: %+v, want %+v", check, after, got, want)
				}
			}
		}
		if got, want := w.passing("read-only"), slices.DeleteFunc(reads, func(n string) bool { return n == "pg1" }); !slices.Equal(got, want) {
			t.Errorf("read-only: %q, want %q", got, want)
		}
		if got := w.passing("readiness"); !slices.Equal(got, ready) || w.view().Leader != "pg1" {
			t.Errorf("readiness: %q, want as before %q; leader %q", got, ready, w.view().Leader)
		}
		if got, want := w.view().Health(time.Now()), (Health{Warning, []Reason{{"leaving", Warning, "pg1", a.Reason}}}); got.Level != want.Level || !slices.Equal(got.Reasons, want.Reasons) {
			t.Errorf("health %+v, want %+v", got, want)
		}
		changes := w.drain()
		if got := ofKind(changes, KindLeaving); !slices.Equal(got, []string{"pg1: no -> yes"}) || changes[0].Reason != a.Reason {
			t.Errorf("recorded %+v", changes)
		}
	})
	inBubble(t, "is no fallback for reads", func(t *testing.T) {
		cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", refuses))
		cfg.Rules.Fallback = true
		w := begin(t, cfg)
		w.settle()
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg1"}) {
			t.Fatalf("replica: %q", got)
		}
		w.leave("pg1", time.Second)
		if got := w.passing("replica"); got != nil {
			t.Errorf("replica: %q while leaving", got)
		}
		w.until(time.Second+time.Millisecond, "pg1 serves reads again", func() bool { return slices.Equal(w.passing("replica"), []string{"pg1"}) })
	})
	inBubble(t, "is polled fast", func(t *testing.T) {
		w := three(t)
		before := map[string]int{}
		for name, f := range w.fakes {
			before[name] = f.Count()
		}
		w.leave("pg1", 10*time.Second)
		for name, f := range w.fakes {
			w.until(103*time.Millisecond, name+" is polled at once", func() bool { return f.Count() > before[name] })
		}
		time.Sleep(5 * time.Second)
		for name, f := range w.fakes {
			if n := f.Count() - before[name]; n < 40 || n > 52 {
				t.Errorf("%s: %d polls in 5s, want one every 100ms", name, n)
			}
		}
		time.Sleep(7 * time.Second)
		n := w.fakes["pg2"].Count()
		time.Sleep(10 * time.Second)
		if n := busiest(w.fakes["pg2"].Polls(n)); n > 2 {
			t.Errorf("%d polls in a second long afterwards", n)
		}
	})
	inBubble(t, "hides no fault", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		w.change("pg1", leads(1).WithState(node.StateCrashed))
		w.until(time.Second, "pg1 is crashed", func() bool { return w.verdict("pg1", "primary").Outcome == node.Fault })
		if h := w.view().Health(time.Now()); h.Level != Critical || h.Reasons[0].Code != "no_primary" {
			t.Errorf("health %+v", h)
		}
	})
	inBubble(t, "unknown names", func(t *testing.T) {
		w := three(t)
		for _, f := range []func(cluster, node string) error{
			func(c, n string) error { _, err := w.sup.Leave(c, n, time.Second); return err },
			func(c, n string) error { _, err := w.sup.Stay(c, n); return err },
		} {
			if err := f("", "pg9"); err == nil || err.Error() != `unknown node "pg9", want one of pg1, pg2, pg3` {
				t.Error(err)
			}
			if err := f("x", "pg1"); err == nil || err.Error() != `unknown cluster "x", want one of main` {
				t.Error(err)
			}
		}
	})
}

func TestLeavingEnds(t *testing.T) {
	inBubble(t, "when the node has stopped claiming", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		w.change("pg1", leads(1).WithState(node.StateStopping))
		time.Sleep(time.Second)
		if h := w.view().Health(time.Now()); h.Level != Warning {
			t.Errorf("health of a cluster whose primary stops as announced: %+v", h)
		}
		n := w.change("pg1", follows(1).WithState(node.StateStopped))
		if got := w.ends(time.Second); got != "it has stopped claiming" {
			t.Errorf("ended: %s", got)
		}
		if n = w.fakes["pg1"].Count() - n; n != 1 {
			t.Errorf("after %d polls, want 1", n)
		}
		if h := w.view().Health(time.Now()); h.Level != Critical { // no node leads: the announcement no longer matters
			t.Errorf("health %+v", h)
		}
	})
	inBubble(t, "when another node is elected", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		w.fakes["pg1"].Set(hangs)
		time.Sleep(5 * time.Second)
		w.fakes["pg2"].Set(leads(2))
		if got := w.ends(3 * time.Second); got != "pg2 is elected" {
			t.Errorf("ended: %s", got)
		}
		if w.primary() != "pg2" {
			t.Errorf("primary %q", w.primary())
		}
	})
	inBubble(t, "when the time is over, to the nanosecond, though no poll comes", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 2*time.Second)
		w.heardOfAndSilent()
		until, _ := w.view().Member("pg1").Leaving(time.Now())
		time.Sleep(time.Until(until) - 1)
		view := w.view()
		if w.primary() != "" {
			t.Error("passes before the time is over")
		}
		time.Sleep(time.Nanosecond)
		if w.primary() != "pg1" || w.view() != view {
			t.Errorf("primary %q when the time is over", w.primary())
		}
		if h := view.Health(time.Now()); h.Level != OK {
			t.Errorf("health %+v", h)
		}
	})
	inBubble(t, "when the time is over, which is recorded", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 2*time.Second)
		if got := w.ends(2*time.Second + 103*time.Millisecond); got != "the announced time is over" {
			t.Errorf("ended: %s", got)
		}
	})
	inBubble(t, "but not by an answer that is older than the announcement", func(t *testing.T) {
		w := three(t)
		w.until(time.Second, "idle", w.fakes["pg1"].Idle)
		w.fakes["pg1"].Set(hangs)
		began := w.view().Member("pg1").Entry.Began
		w.leave("pg1", time.Second)
		if got := w.primaries(time.Until(began.Add(5*time.Second + time.Millisecond))); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q", got)
		}
		w.change("pg1", leads(1))
		w.until(16*time.Second, "pg1 is primary again", func() bool { return w.primary() == "pg1" })
	})
	inBubble(t, "when it is taken back", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		a, err := w.sup.Stay("main", "pg1")
		if want := (Announcement{Cluster: "main", Node: "pg1", Reason: "taken back"}); err != nil || a != want {
			t.Errorf("%+v, %v, want %+v", a, err, want)
		}
		if w.primary() != "pg1" {
			t.Errorf("primary %q", w.primary())
		}
		if got := w.ends(0); got != "taken back" {
			t.Errorf("ended: %s", got)
		}
		if a, err = w.sup.Stay("", "pg1"); err != nil || a.Leaving || a.Reason != "it was not leaving" || len(ofKind(w.drain(), KindLeaving)) > 0 {
			t.Errorf("taken back twice: %+v, %v", a, err)
		}
	})
	inBubble(t, "when it runs again after a restart", func(t *testing.T) {
		w := three(t)
		w.change("pg1", leads(1).WithState(node.StateRestarting))
		w.until(time.Second, "it restarts", func() bool { return w.primary() == "" })
		w.leave("pg1", 10*time.Second)
		time.Sleep(time.Second)
		w.change("pg1", leads(1).WithState(node.StateUnknown))
		if got := w.primaries(time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q", got)
		}
		w.change("pg1", leads(1))
		if got := w.ends(200 * time.Millisecond); got != "it runs again" || w.primary() != "pg1" {
			t.Errorf("ended: %s, primary %q", got, w.primary())
		}
	})
}

func TestLeavingHolds(t *testing.T) {
	inBubble(t, "not because SQL failed for a moment", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		w.change("pg1", leads(1).WithState(node.StateUnknown))
		time.Sleep(time.Second)
		w.change("pg1", leads(1))
		if got := w.primaries(time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q, recorded %+v", got, w.drain())
		}
	})
	inBubble(t, "not by an answer that began before it", func(t *testing.T) {
		w := three(t)
		slow := leads(1)
		slow.Delay = 300 * time.Millisecond
		w.change("pg1", slow)
		w.until(2*time.Second, "a poll is under way", func() bool { return !w.fakes["pg1"].Idle() })
		w.leave("pg1", 10*time.Second)
		polls := w.fakes["pg1"].Count()
		w.fakes["pg1"].Set(follows(1))
		w.until(time.Second, "the poll is back", func() bool { return w.view().Leader == "" })
		if _, leaves := w.view().Member("pg1").Leaving(time.Now()); !leaves {
			t.Error("ended by an answer to a question from before the announcement")
		}
		if got := w.ends(time.Second); got != "it has stopped claiming" || w.fakes["pg1"].Count() != polls+1 {
			t.Errorf("ended: %s, by poll %d", got, w.fakes["pg1"].Count()-polls)
		}
	})
	inBubble(t, "not by a single 503 of a primary that runs on", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		w.change("pg1", blip())
		w.until(time.Second, "a blip", func() bool { return w.view().Member("pg1").Entry.Value.Status == 503 })
		w.change("pg1", leads(1))
		w.primaries(time.Second)
		if _, leaves := w.view().Member("pg1").Leaving(time.Now()); !leaves {
			t.Errorf("ended: %+v", w.drain())
		}
	})
}

func TestLeavingAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		d    time.Duration
	}{{"extends", 20 * time.Second}, {"shortens", time.Second}} {
		inBubble(t, test.name, func(t *testing.T) {
			w := three(t)
			w.leave("pg1", 5*time.Second)
			time.Sleep(2 * time.Second)
			a := w.leave("pg1", test.d)
			if !a.Leaving || time.Until(a.Until) != test.d {
				t.Errorf("%+v", a)
			}
			if got, want := ofKind(w.drain(), KindLeaving), []string{"pg1: no -> yes", "pg1: yes -> yes"}; !slices.Equal(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			if took := w.until(test.d+time.Millisecond, "pg1 is primary again", func() bool { return w.primary() == "pg1" }); took < test.d {
				t.Errorf("over after %s, want %s", took, test.d)
			}
		})
	}
	inBubble(t, "is recorded, though no poll came since the time was over", func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 2*time.Second)
		w.heardOfAndSilent()
		time.Sleep(2 * time.Second)
		w.drain()
		w.leave("pg1", time.Second)
		if got, want := ofKind(w.drain(), KindLeaving), []string{"pg1: yes -> no", "pg1: no -> yes"}; !slices.Equal(got, want) {
			t.Errorf("recorded %q, want %q", got, want)
		}
	})
	inBubble(t, "at most for a minute", func(t *testing.T) {
		w := three(t)
		if a := w.leave("pg1", time.Hour); time.Until(a.Until) != MaxLeaving {
			t.Errorf("%+v", a)
		}
	})
}

func TestNothingToAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		view := w.view()
		want := Announcement{Cluster: "main", Node: "pg2", Reason: "nothing to announce: pg1 leads, not pg2"}
		if a := w.leave("pg2", time.Second); a != want {
			t.Errorf("%+v, want %+v", a, want)
		}
		if w.view() != view || len(w.drain()) > 0 {
			t.Error("a replica's announcement changed something")
		}
		w.fakes["pg1"].Set(follows(1))
		w.until(time.Second, "nobody leads", func() bool { return w.view().Leader == "" })
		want.Reason = "nothing to announce: pg2 does not lead"
		if a := w.leave("pg2", time.Second); a != want {
			t.Errorf("%+v, want %+v", a, want)
		}
		w.fakes["pg2"].Set(leads(2))
		w.until(time.Second, "pg2 is primary", func() bool { return w.primary() == "pg2" })
	})
}

// A supervisor that has just begun does not know yet that the node leads.
func TestLeavingBeforeTheFirstPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := leads(1)
		slow.Delay = time.Second
		w := begin(t, config(clustertest.New(t, "pg1", slow), clustertest.New(t, "pg2", follows(1))))
		if a := w.leave("pg1", 4*time.Second); !a.Leaving {
			t.Errorf("%+v", a)
		}
		if got := w.primaries(3 * time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q", got)
		}
		w.until(1100*time.Millisecond, "pg1 is primary when the time is over", func() bool { return w.primary() == "pg1" })
	})
}

func TestLeavingInASplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		w.leave("pg1", 10*time.Second)
		w.fakes["pg2"].Set(leads(1)) // with equal timelines no node is elected
		if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q", got)
		}
		if v := w.view(); !v.Split || v.Leader != "" || v.Health(time.Now()).Level != Critical {
			t.Errorf("split %t, leader %q, health %+v", v.Split, v.Leader, v.Health(time.Now()))
		}
		w.fakes["pg1"].Set(leads(2)) // the one that is leaving wins, and passes all the same nothing
		if got := w.primaries(4 * time.Second); !slices.Equal(got, []string{""}) || w.view().Leader != "pg1" {
			t.Errorf("primaries %q, leader %q", got, w.view().Leader)
		}
		w.until(1100*time.Millisecond, "pg1 is primary when the time is over", func() bool { return w.primary() == "pg1" })
	})
}

// Every publication also records the announcements that have ended by then.
func TestLeavingEndsBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		w.change("pg2", leads(1))
		w.until(3*time.Second, "no node is elected", func() bool { return w.view().Split && w.view().Leader == "" })
		w.leave("pg1", 2*time.Second)
		w.heardOfAndSilent()
		time.Sleep(2 * time.Second)
		w.drain()
		w.leave("pg2", time.Second)
		if got, want := ofKind(w.drain(), KindLeaving), []string{"pg1: yes -> no", "pg2: no -> yes"}; !slices.Equal(got, want) {
			t.Errorf("recorded %q, want %q", got, want)
		}
	})
}
