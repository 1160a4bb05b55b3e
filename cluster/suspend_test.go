package cluster

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// sleeper is a machine that can be suspended: its monotonic clock, which is the
// bubble's, does not see that.
type sleeper struct{ total atomic.Int64 }

func (s *sleeper) suspend(d time.Duration) { s.total.Add(int64(d)) }

func (s *sleeper) suspended() time.Duration { return time.Duration(s.total.Load()) }

func TestNothingFromBeforeASuspensionIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sleeper)
		s.suspend(time.Hour) // before the start
		w := three(t, func(c *Config) { c.Suspended = s.suspended })

		// Not a moment passes between the end of the suspension and the question.
		s.suspend(3*time.Minute + 12*time.Second)
		want := node.FaultFor("forgotten: the machine was suspended for 3m12s")
		for _, name := range []string{"pg1", "pg2", "pg3"} {
			for _, check := range node.CheckNames() {
				a, err := w.sup.Ask(t.Context(), Question{Node: name, Check: check})
				if err != nil || a.Verdict != want {
					t.Errorf("%s/%s: %+v, %v, want %+v", name, check, a.Verdict, err, want)
				}
			}
		}
		if answers, err := w.sup.AskAll(t.Context(), "main", "primary", ""); err != nil || answers[0].Verdict != want {
			t.Errorf("all: %+v, %v", answers, err)
		}
		if h := w.view().Health(time.Now()); h.Level != Critical {
			t.Errorf("health %+v, want critical", h)
		}
		if got := ofKind(w.drain(), KindKnown); !slices.Equal(got, []string{"pg1: fresh -> out", "pg2: fresh -> out", "pg3: fresh -> out"}) {
			t.Errorf("changes %q", got)
		}
		w.until(100*time.Millisecond+2*clustertest.ShortDelay, "all are known again", func() bool {
			return w.primary() == "pg1" && slices.Equal(w.passing("replica"), []string{"pg2", "pg3"})
		})
	})
}

// After a suspension every kind of question gets an answer that takes it into account.
func TestWhoeverAsksFirstAfterASuspension(t *testing.T) {
	for name, ask := range map[string]func(*world) *View{
		"Ask": func(w *world) *View {
			a, _ := w.sup.Ask(w.t.Context(), Question{Node: "pg1", Check: "primary"})
			return a.View
		},
		"AskAll": func(w *world) *View {
			a, _ := w.sup.AskAll(w.t.Context(), "main", "primary", "")
			return a[0].View
		},
		"Views": func(w *world) *View { return w.sup.Views()[0] },
		"View":  func(w *world) *View { v, _ := w.sup.View("main"); return v },
		"Find":  func(w *world) *View { v, _, _ := w.sup.Find(w.t.Context(), "", "pg1"); return v },
	} {
		inBubble(t, name, func(t *testing.T) {
			s := new(sleeper)
			w := three(t, func(c *Config) { c.Suspended = s.suspended })
			s.suspend(time.Second)
			if v := ask(w); v.Leader != "" || v.Member("pg1").Entry.Fresh(time.Now()) {
				t.Errorf("leader %q, pg1 fresh: %t", v.Leader, v.Member("pg1").Entry.Fresh(time.Now()))
			}
		})
	}
}

// An answer that was under way is as old as the suspension.
func TestPollAcrossASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sleeper)
		w := three(t, func(c *Config) { c.Suspended = s.suspended })
		slow := leads(1)
		slow.Delay = time.Second
		n := w.change("pg1", slow)
		w.until(time.Second, "a poll is under way", func() bool { return w.fakes["pg1"].Count() > n })
		s.suspend(time.Hour)
		if got := w.primaries(2 * time.Second); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q, want none: the only answer was asked for before the suspension", got)
		}
		w.until(time.Second, "the next answer is believed", func() bool { return w.primary() == "pg1" })
	})
}

// Two clocks that are not read at the same moment are no suspension, and do not
// add up to one unless they really part.
func TestNoSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sleeper)
		w := three(t, func(c *Config) { c.Suspended = s.suspended })
		for range 20 {
			s.suspend(900 * time.Millisecond)
			if p := w.primary(); p != "pg1" {
				t.Fatalf("primary %q, want pg1", p)
			}
			s.suspend(-900 * time.Millisecond)
			time.Sleep(300 * time.Millisecond)
		}
	})
}

func TestManyAskAfterASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sleeper)
		w := three(t, func(c *Config) { c.Suspended = s.suspended })
		for range 50 {
			s.suspend(time.Minute)
			for range 8 {
				go func() {
					if a, err := w.sup.Ask(t.Context(), Question{Node: "pg1", Check: "primary"}); err != nil || a.Verdict.Passes() {
						t.Errorf("pg1 passes on what is from before: %+v, %v", a.Verdict, err)
					}
				}()
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
	})
}
