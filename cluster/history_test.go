package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

func (w *world) history(f Filter) History {
	w.t.Helper()
	h, err := w.sup.History(f)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func ids(changes []Change) []uint64 {
	var out []uint64
	for _, c := range changes {
		out = append(out, c.ID)
	}
	return out
}

// Subscribers get the same changes as the history, with the same ids.
func TestHistoryIsWhatSubscribersHear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := uint64(time.Now().UnixMilli())
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1))))
		time.Sleep(5 * time.Second)
		w.change("pg1", refuses)
		time.Sleep(20 * time.Second) // polls fail again and again: repeats
		synctest.Wait()
		w.stop()
		heard, h := w.drain(), w.history(Filter{})
		if !slices.Equal(heard, h.Changes) {
			t.Errorf("heard %+v\nkept  %+v", heard, h.Changes)
		}
		for i, c := range h.Changes {
			if c.ID != start+1+uint64(i) {
				t.Fatalf("id %d of change %d, want %d: they grow by one from the start's milliseconds", c.ID, i, start+1+uint64(i))
			}
		}
		if n := len(h.Changes); n < 8 || n > 20 || h.Truncated || h.LastID != h.Changes[n-1].ID {
			t.Errorf("%d changes, truncated %t, last id %d", n, h.Truncated, h.LastID)
		}
	})
}

// A quiet night before a restart was watched, and not only until its last change.
func TestHistoryEndsWithTheSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		time.Sleep(8 * time.Hour)
		w.stop()
		h := w.history(Filter{})
		if c := h.Changes[len(h.Changes)-1]; c.Kind != KindWatching || c.After != "no" || c.ID != h.LastID || !c.At.Equal(time.Now()) {
			t.Errorf("the last change is %+v, want that watching ended just now", c)
		}
	})
}

func TestHistoryGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", follows(1)), clustertest.New(t, "pg2", follows(1))))
		time.Sleep(5 * time.Second) // without a leader, for at least so long
		w.change("pg1", leads(1))
		time.Sleep(5 * time.Second)
		w.change("pg1", follows(1))
		time.Sleep(7 * time.Second)
		w.change("pg2", leads(2))
		time.Sleep(5 * time.Second)
		w.change("pg1", leads(3)) // at once
		time.Sleep(5 * time.Second)
		synctest.Wait()

		type leader struct {
			text string
			gap  bool
		}
		var got []leader
		var lost time.Time
		for _, c := range w.history(Filter{}).Changes {
			if c.Kind == KindAnswering && c.Before == "not asked" {
				lost = c.At // it ends as the last one with both polled
			}
			if c.Kind != KindLeader {
				if c.Gap != 0 && c.Kind != KindPrimary {
					t.Errorf("a gap of %g s in %+v", c.Gap, c)
				}
				continue
			}
			got = append(got, leader{c.Before + " -> " + c.After, c.Gap > 0})
			if c.After == "none" {
				lost = c.At
				if c.Reason != "pg1: role is replica" {
					t.Errorf("the leader was lost for the reason %q", c.Reason)
				}
			}
			if want := c.At.Sub(lost).Round(time.Millisecond).Seconds(); c.Gap > 0 && (c.Gap != want || want < 4 || want > 9) {
				t.Errorf("gap %g s, want %g", c.Gap, want)
			}
		}
		want := []leader{{"none -> pg1", true}, {"pg1 -> none", false}, {"none -> pg2", true}, {"pg2 -> pg1", false}}
		if !slices.Equal(got, want) {
			t.Errorf("leaders %v, want %v", got, want)
		}
	})
}

// While the elected leader stops, or its stop is announced, there is no primary, though
// there is a leader: the history has that gap, too.
func TestHistoryGapOfAPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		first := w.history(Filter{}).LastID
		w.change("pg1", leads(1).WithState(node.StateStopping))
		time.Sleep(3 * time.Second)
		w.change("pg1", follows(1))
		w.change("pg2", leads(2))
		time.Sleep(5 * time.Second)
		if _, err := w.sup.Leave("main", "pg2", 2*time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		w.change("pg2", hangs) // until it is not believed any more
		time.Sleep(12 * time.Second)
		w.change("pg2", leads(2))
		time.Sleep(5 * time.Second)
		synctest.Wait()

		var got []string
		var lost time.Time
		for _, c := range w.history(Filter{After: first}).Changes {
			if c.Kind != KindPrimary {
				continue
			}
			got = append(got, c.Before+" -> "+c.After)
			if c.After == "none" {
				lost = c.At
				if c.Reason == "" || c.Gap != 0 {
					t.Errorf("%+v, want a reason and no gap", c)
				}
			} else if want := c.At.Sub(lost).Round(time.Millisecond).Seconds(); c.Gap != want || want < 2 {
				t.Errorf("%+v: gap %g s, want %g", c, c.Gap, want)
			}
		}
		want := []string{"pg1 -> none", "none -> pg2", "pg2 -> none", "none -> pg2", "pg2 -> none", "none -> pg2"}
		if !slices.Equal(got, want) {
			t.Errorf("primaries %q, want %q", got, want)
		}
	})
}

// The counters for Prometheus and the history for people agree. A standby cluster has no
// node that takes writes, but it has a leader or none. Where only one node is watched,
// it is unknown whether there is a primary.
func TestWithoutPrimary(t *testing.T) {
	standby := follows(1).WithRole(node.RoleStandbyLeader)
	standby.StandbyLeader = true
	for _, tt := range []struct {
		name        string
		leads       clustertest.Script
		nodes       int
		least, most time.Duration
		changes     uint64
	}{
		{"a cluster", leads(1), 3, 12 * time.Second, 16 * time.Second, 1},
		{"a standby cluster", standby, 3, 12 * time.Second, 16 * time.Second, 1},
		{"one node only", leads(1), 1, 0, 0, 0},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			fakes := []*clustertest.Poller{clustertest.New(t, "pg1", tt.leads)}
			for i := 1; i < tt.nodes; i++ {
				fakes = append(fakes, clustertest.New(t, fmt.Sprint("pg", 1+i), follows(1)))
			}
			w := begin(t, config(fakes...))
			w.settle()
			if has, known := w.view().HasPrimary(time.Now()); !has || !known || w.view().WithoutPrimary() != 0 {
				t.Errorf("at first: has a primary %t, known %t, %s without", has, known, w.view().WithoutPrimary())
			}
			w.change("pg1", tt.leads.WithState(node.StateStopping))
			time.Sleep(3 * time.Second)
			if has, known := w.view().HasPrimary(time.Now()); has || !known {
				t.Errorf("while it stops: has a primary %t, known %t", has, known)
			}
			w.change("pg1", follows(1))
			time.Sleep(10 * time.Second)
			if _, known := w.view().HasPrimary(time.Now()); known != (tt.nodes > 1) {
				t.Errorf("known %t with %d nodes", known, tt.nodes)
			}
			if open := w.view().WithoutPrimary(); tt.nodes > 1 && open < 12*time.Second {
				t.Errorf("%s so far: what goes on counts too", open)
			}
			w.change(fakes[len(fakes)-1].Name(), tt.leads)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			v := w.view()
			if got := v.WithoutPrimary(); got < tt.least || got > tt.most || v.PrimaryChanges != tt.changes {
				t.Errorf("%s without a primary, %d changes; want %s to %s, %d", got, v.PrimaryChanges, tt.least, tt.most, tt.changes)
			}
			w.countsAsTheHistory()
		})
	}
}

// numbered is a supervisor whose history has changes of pg1 and pg2 by turns, one
// a second, from now on.
func numbered(t *testing.T, size, n int) *Supervisor {
	s := New(Config{History: size, Clusters: []ClusterConfig{{Name: "main", Nodes: []NodeConfig{
		{Name: "pg1", Client: clustertest.New(t, "pg1", leads(1))}, {Name: "pg2", Client: clustertest.New(t, "pg2", follows(1))},
	}}}})
	for i := range n {
		s.subs.publish([]Change{{At: time.Now(), Cluster: "main", Node: fmt.Sprint("pg", 1+i%2), Kind: KindState}, {Repeat: true}})
		time.Sleep(time.Second)
	}
	return s
}

func TestHistoryFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		s := numbered(t, 10, 8)
		first := uint64(begun.UnixMilli()) + 1
		for _, tt := range []struct {
			name      string
			f         Filter
			want      []uint64 // counted from 0
			truncated bool
		}{
			{"all", Filter{}, []uint64{0, 1, 2, 3, 4, 5, 6, 7}, false},
			{"node", Filter{Node: "pg2"}, []uint64{1, 3, 5, 7}, false},
			{"cluster", Filter{Cluster: "main", Node: "pg1"}, []uint64{0, 2, 4, 6}, false},
			{"since", Filter{Since: begun.Add(5 * time.Second)}, []uint64{5, 6, 7}, false},
			{"after", Filter{After: first + 4}, []uint64{5, 6, 7}, false},
			{"after the last", Filter{After: first + 7}, nil, false},
			{"the limit takes the newest", Filter{Limit: 2}, []uint64{6, 7}, true},
			{"exactly the limit", Filter{Limit: 8}, []uint64{0, 1, 2, 3, 4, 5, 6, 7}, false},
			{"limit of a node", Filter{Node: "pg1", Limit: 3}, []uint64{2, 4, 6}, true},
		} {
			h, err := s.History(tt.f)
			var want []uint64
			for _, i := range tt.want {
				want = append(want, first+i)
			}
			if got := ids(h.Changes); err != nil || !slices.Equal(got, want) || h.Truncated != tt.truncated || h.Changes == nil {
				t.Errorf("%s: %d, truncated %t, %v; want %d, %t", tt.name, got, h.Truncated, err, want, tt.truncated)
			}
		}
		for _, f := range []Filter{{Node: "pg3"}, {Cluster: "prod"}} {
			if h, err := s.History(f); !isUnknown(err) {
				t.Errorf("%+v gives %v, %v; want that it is unknown", f, h, err)
			}
		}
	})
}

func isUnknown(err error) bool {
	_, ok := errors.AsType[*UnknownError](err)
	return ok
}

// The ring keeps the latest, says that older ones are gone, and from where on
// nothing is missing.
func TestHistoryDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct{ n, want int }{{0, 0}, {1, 1}, {4, 4}, {5, 4}, {8, 4}, {9, 4}, {21, 4}} {
			begun := time.Now()
			base := uint64(begun.UnixMilli())
			s := numbered(t, 4, tt.n)
			last := base + uint64(tt.n)
			h, _ := s.History(Filter{})
			if len(h.Changes) != tt.want || h.Truncated != (tt.n > 4) || h.LastID != last {
				t.Errorf("%d changes: %d are kept, truncated %t, last id %d; want %d, %t, %d", tt.n, len(h.Changes), h.Truncated, h.LastID, tt.want, tt.n > 4, last)
			}
			if h, _ := s.History(Filter{After: last - uint64(tt.want)}); h.Truncated || len(h.Changes) != tt.want {
				t.Errorf("%d changes: after the oldest that is gone: %d, truncated %t", tt.n, len(h.Changes), h.Truncated)
			}
			for back := range uint64(tt.n + 1) {
				changes, got, complete := s.After(last - back)
				if got != last || complete != (back <= 4) || len(changes) != int(min(back, 4)) {
					t.Errorf("%d changes: %d back: %d of them, complete %t", tt.n, back, len(changes), complete)
				}
			}
			if _, _, complete := s.After(last + 1); complete {
				t.Error("an id that was never given out is known")
			}
			if changes, _, complete := s.After(base - 1); complete || len(changes) != tt.want {
				t.Errorf("an id of before the start is known, or gives %d", len(changes))
			}
		}
	})
}

func TestHistoryRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := numbered(t, 10, 6)
		past, last, _ := old.After(0)
		time.Sleep(time.Minute)
		s := numbered(t, 4, 0)
		s.Restore(past, false)
		h, err := s.History(Filter{})
		if err != nil || !slices.Equal(h.Changes, past[2:]) || !h.Truncated || h.LastID <= last {
			t.Errorf("%+v, %v; want the last 4 of the 6, and later ids than %d", h, err, last)
		}
		s.subs.publish([]Change{{Kind: KindRole, Cluster: "main"}})
		changes, _, complete := s.After(last)
		if !complete || len(changes) != 1 || changes[0].ID != h.LastID+1 {
			t.Errorf("after the earlier run's last: %+v, complete %t", changes, complete)
		}

		// The clock was set back: ids grow nevertheless. A node that is gone has its history.
		s = numbered(t, 4, 0)
		s.Restore([]Change{{ID: 1 << 50, Node: "gone", Cluster: "old"}}, true)
		s.subs.publish([]Change{{Kind: KindRole, Cluster: "main"}})
		if h, err := s.History(Filter{Limit: 1}); err != nil || h.LastID != 1<<50+1 || h.Changes[0].ID != h.LastID {
			t.Errorf("%+v, %v", h, err)
		}
		if h, err := s.History(Filter{Node: "gone", Cluster: "old"}); err != nil || len(h.Changes) != 1 {
			t.Errorf("of a node that is gone: %+v, %v", h, err)
		}
	})
}

// Readers and writers at once, for the race detector: what a reader has does not
// change below it.
func TestHistoryConcurrent(t *testing.T) {
	s := New(Config{History: 5})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				s.subs.publish([]Change{{Kind: KindRole}})
			}
		})
		wg.Go(func() {
			for range 1000 {
				h, _ := s.History(Filter{})
				for i := 1; i < len(h.Changes); i++ {
					if h.Changes[i].ID != h.Changes[i-1].ID+1 {
						t.Errorf("ids %v", ids(h.Changes))
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if h, _ := s.History(Filter{}); len(h.Changes) != 5 {
		t.Errorf("%d kept, want 5", len(h.Changes))
	}
}
