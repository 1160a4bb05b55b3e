package cluster

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// gaps gives the least and the greatest time between two polls.
func gaps(polls []time.Time) (least, most time.Duration) {
	for i := range len(polls) - 1 {
		d := polls[i+1].Sub(polls[i])
		if i == 0 || d < least {
			least = d
		}
		most = max(most, d)
	}
	return least, most
}

// busiest gives how many polls began within any second.
func busiest(polls []time.Time) int {
	most := 0
	for i, p := range polls {
		n := 0
		for _, q := range polls[i:] {
			if q.Sub(p) <= time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func wantGaps(t *testing.T, f *clustertest.Poller, skip int, from, to time.Duration) {
	t.Helper()
	polls := f.Polls(skip)
	if least, most := gaps(polls); len(polls) < 2 || least < from || most > to {
		t.Errorf("%s: %d polls every %s to %s, want every %s to %s", f.Name(), len(polls), least, most, from, to)
	}
}

func TestPace(t *testing.T) {
	inBubble(t, "a settled cluster", func(t *testing.T) {
		w := three(t)
		n := map[string]int{}
		for name, f := range w.fakes {
			n[name] = f.Count()
		}
		time.Sleep(2 * time.Minute)
		for name, f := range w.fakes {
			unit := time.Second
			if name == "pg1" {
				unit = 250 * time.Millisecond
			}
			wantGaps(t, f, n[name], unit*9/10, unit*11/10)
			least, most := gaps(f.Polls(n[name]))
			if most-least < unit/10 {
				t.Errorf("%s: from %s to %s is hardly any jitter", name, least, most)
			}
		}
	})
	inBubble(t, "first polls are spread", func(t *testing.T) {
		var fakes []*clustertest.Poller
		for i := range 60 {
			fakes = append(fakes, clustertest.New(t, "pg"+string(rune('a'+i/100))+string(rune('a'+i/10%10))+string(rune('a'+i%10)), follows(1)))
		}
		fakes[7].Set(leads(1))
		start := time.Now()
		w := begin(t, config(fakes...))
		synctest.Wait()
		time.Sleep(400 * time.Millisecond)
		w.stop()
		at := map[int]int{} // polls in each 10 ms
		for _, f := range fakes {
			first := f.Polls(0)[0].Sub(start)
			if first > 60*time.Millisecond {
				t.Errorf("%s: first poll after %s", f.Name(), first)
			}
			at[int(first/(10*time.Millisecond))]++
		}
		for i := range 6 {
			if at[i] < 3 || at[i] > 20 {
				t.Errorf("%d first polls from %d ms on, want about 10", at[i], 10*i)
			}
		}
	})
	inBubble(t, "fast until settled for a second", func(t *testing.T) {
		w := three(t)
		n := w.fakes["pg3"].Count()
		if err := w.sup.Refresh("main", "pg2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		polls := w.fakes["pg3"].Polls(n)
		var last time.Time
		for i := range len(polls) - 1 {
			if polls[i+1].Sub(polls[i]) <= 102*time.Millisecond {
				last = polls[i+1]
			}
		}
		if fast := last.Sub(polls[0]); fast < 800*time.Millisecond || fast > 1100*time.Millisecond {
			t.Errorf("fast for %s, want a second", fast)
		}
	})
	inBubble(t, "fast again soon after it was fast", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1))))
		time.Sleep(59500 * time.Millisecond)
		n := w.fakes["pg2"].Count()
		_ = w.sup.Refresh("", "pg2")
		time.Sleep(1100 * time.Millisecond)
		if got := w.fakes["pg2"].Count() - n; got < 9 {
			t.Errorf("%d polls in a second", got)
		}
	})
}

func TestPaceBounds(t *testing.T) {
	inBubble(t, "fast for a minute at most, however often a refresh is requested", func(t *testing.T) {
		w := three(t)
		n := w.fakes["pg2"].Count()
		for range 4 * 60 * 20 {
			_ = w.sup.Refresh("", "pg2")
			time.Sleep(50 * time.Millisecond)
		}
		polls, pauses := w.fakes["pg2"].Polls(n), 0
		for i := range len(polls) - 1 {
			if polls[i+1].Sub(polls[i]) > 500*time.Millisecond {
				pauses++
			}
		}
		if pauses < 3 {
			t.Errorf("%d pauses in 4 minutes, want one every minute", pauses)
		}
	})
	inBubble(t, "fast for a minute at most without a primary", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", follows(1)), clustertest.New(t, "pg2", follows(1))))
		time.Sleep(59 * time.Second)
		n := w.fakes["pg1"].Count()
		if n < 570 || n > 610 {
			t.Errorf("%d polls in 59 s, want about 580", n)
		}
		wantGaps(t, w.fakes["pg1"], 2, 100*time.Millisecond, 102*time.Millisecond)
		time.Sleep(3 * time.Second)
		n = w.fakes["pg1"].Count()
		time.Sleep(10 * time.Minute)
		wantGaps(t, w.fakes["pg1"], n, 900*time.Millisecond, 1100*time.Millisecond)
		w.fakes["pg2"].Set(leads(2)) // what happens makes it fast again
		w.until(1200*time.Millisecond, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		n = w.fakes["pg1"].Count()
		time.Sleep(900 * time.Millisecond)
		wantGaps(t, w.fakes["pg1"], n, 100*time.Millisecond, 102*time.Millisecond)
	})
	inBubble(t, "a node that times out is polled with backoff, not fast", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", follows(1)), clustertest.New(t, "pg2", hangs)))
		time.Sleep(2 * time.Minute)
		polls := w.fakes["pg2"].Polls(0)
		for i, want := range []time.Duration{1, 2, 4, 8, 8, 8} {
			pause := polls[i+1].Sub(polls[i]) - 3*time.Second
			if want *= time.Second; pause < want*9/10 || pause > want*11/10 {
				t.Errorf("pause %d: %s, want %s", i, pause, want)
			}
		}
		w.fakes["pg2"].Set(follows(1))
		w.until(12*time.Second, "pg2 answers", func() bool { return w.view().Member("pg2").Entry.Failures == 0 })
		n := w.fakes["pg2"].Count()
		time.Sleep(5 * time.Second)
		wantGaps(t, w.fakes["pg2"], n, 900*time.Millisecond, 1100*time.Millisecond)
	})
	inBubble(t, "a host that drops packets is polled without backoff: no worker of Patroni hangs", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", clustertest.Drops())))
		time.Sleep(2 * time.Minute)
		wantGaps(t, w.fakes["pg2"], 1, 3*time.Second, 3100*time.Millisecond)
		w.fakes["pg2"].Set(follows(1))
		w.until(3100*time.Millisecond, "pg2 answers", func() bool { return w.view().Member("pg2").Entry.Failures == 0 })
	})
	for name, says := range map[string]func(*Supervisor){
		"a refresh":    func(s *Supervisor) { _ = s.Refresh("main", "pg2") },
		"a leader key": func(s *Supervisor) { _ = s.RefreshLeader("main", "pg2") },
	} {
		inBubble(t, name+" that names a node ends its backoff", func(t *testing.T) {
			w := begin(t, config(clustertest.New(t, "pg1", follows(1)), clustertest.New(t, "pg2", hangs)))
			pg2 := w.fakes["pg2"]
			time.Sleep(time.Minute) // by now it is polled every 11 s
			w.until(12*time.Second, "a poll timed out", func() bool { return !pg2.Idle() })
			w.until(4*time.Second, "a poll timed out", pg2.Idle)
			pg2.Set(leads(2))
			time.Sleep(100 * time.Millisecond)
			says(w.sup)
			w.until(50*time.Millisecond, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		})
		inBubble(t, name+" that names a node while its poll hangs, too", func(t *testing.T) {
			w := begin(t, config(clustertest.New(t, "pg1", follows(1)), clustertest.New(t, "pg2", hangs)))
			pg2 := w.fakes["pg2"]
			time.Sleep(time.Minute)
			w.until(12*time.Second, "a poll is under way", func() bool { return !pg2.Idle() })
			time.Sleep(time.Second)
			says(w.sup)
			w.until(4*time.Second, "it timed out", pg2.Idle)
			pg2.Set(leads(2))
			w.until(100*time.Millisecond, "pg2 is primary", func() bool { return w.primary() == "pg2" })
		})
	}
	inBubble(t, "a flood that names a node is bounded", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", hangs)))
		time.Sleep(time.Minute)
		n := w.fakes["pg2"].Count()
		for range 6000 {
			_ = w.sup.Refresh("", "pg2")
			time.Sleep(10 * time.Millisecond)
		}
		if polls := w.fakes["pg2"].Count() - n; polls > 13 {
			t.Errorf("%d polls in a minute", polls)
		}
	})
	inBubble(t, "a refresh of another node does not end it", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", hangs)))
		time.Sleep(time.Minute)
		n := w.fakes["pg2"].Count()
		for range 6000 {
			_ = w.sup.Refresh("", "pg1")
			time.Sleep(10 * time.Millisecond)
		}
		if polls := w.fakes["pg2"].Count() - n; polls > 7 {
			t.Errorf("%d polls in a minute", polls)
		}
	})
	inBubble(t, "the start is no haste", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", follows(1))))
		time.Sleep(3 * time.Second)
		for name, f := range w.fakes {
			wantGaps(t, f, 0, map[bool]time.Duration{true: 225 * time.Millisecond, false: 900 * time.Millisecond}[name == "pg1"], 1100*time.Millisecond)
		}
	})
	inBubble(t, "but without a primary it is", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", follows(1)), clustertest.New(t, "pg2", follows(1))))
		time.Sleep(time.Second)
		w.fakes["pg1"].Set(leads(1))
		w.until(100*time.Millisecond+clustertest.ShortDelay, "pg1 is primary", func() bool { return w.primary() == "pg1" })
	})
}

func TestPaceRefresh(t *testing.T) {
	inBubble(t, "a thousand refreshes are as one", func(t *testing.T) {
		w := three(t)
		for range 1000 {
			for _, name := range []string{"pg1", "pg2", "pg3"} {
				if err := w.sup.Refresh("", name); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Millisecond)
		}
		for name, f := range w.fakes {
			if n := busiest(f.Polls(0)); n > 11 {
				t.Errorf("%s: %d polls in a second", name, n)
			}
			if n := f.Count(); n < 30 {
				t.Errorf("%s: %d polls", name, n)
			}
		}
	})
	inBubble(t, "a refresh polls at once", func(t *testing.T) {
		w := three(t)
		w.until(2*time.Second, "pg2 was polled a while ago", func() bool { return time.Since(w.view().Member("pg2").Entry.Began) > 200*time.Millisecond })
		n := w.fakes["pg2"].Count()
		_ = w.sup.Refresh("main", "pg3")
		synctest.Wait()
		if w.fakes["pg2"].Count() != n+1 {
			t.Error("not polled")
		}
	})
}

func TestPaceOfOthers(t *testing.T) {
	inBubble(t, "one node alone without a primary is not polled fast", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", follows(1))))
		time.Sleep(time.Minute)
		wantGaps(t, w.fakes["pg1"], 0, 900*time.Millisecond, 1100*time.Millisecond)
		if h := w.view().Health(time.Now()); h.Level != OK {
			t.Errorf("%+v", h)
		}
	})
	inBubble(t, "a cluster without a primary leaves another alone", func(t *testing.T) {
		cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)))
		cfg.Clusters = append(cfg.Clusters, ClusterConfig{Name: "other", Nodes: []NodeConfig{
			nodeConfig(clustertest.New(t, "o1", follows(1))), nodeConfig(clustertest.New(t, "o2", follows(1)))}})
		w := begin(t, cfg)
		w.settle()
		n2, no := w.fakes["pg2"].Count(), w.fakes["o1"].Count()
		time.Sleep(20 * time.Second)
		wantGaps(t, w.fakes["pg2"], n2, 900*time.Millisecond, 1100*time.Millisecond)
		wantGaps(t, w.fakes["o1"], no, 100*time.Millisecond, 102*time.Millisecond)
	})
	inBubble(t, "slow answers are not piled up", func(t *testing.T) {
		slow := follows(1)
		slow.Delay = 2500 * time.Millisecond
		w := begin(t, config(clustertest.New(t, "pg1", slow), clustertest.New(t, "pg2", slow)))
		time.Sleep(30 * time.Second)
		wantGaps(t, w.fakes["pg1"], 0, 2550*time.Millisecond, 2550*time.Millisecond)
	})
}

func TestSettings(t *testing.T) {
	inBubble(t, "what could not be read is asked again soon", func(t *testing.T) {
		begun := time.Now()
		settings := func() (node.Settings, error) {
			if time.Since(begun) < 20*time.Second {
				return node.Settings{}, &node.Failure{Kind: node.KindStatus, Err: errors.New("status code 502, want 200")}
			}
			return node.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second}, nil
		}
		w := three(t, func(c *Config) {
			for _, n := range c.Clusters[0].Nodes {
				n.Client.(*clustertest.Poller).SetSettings(settings)
			}
		})
		time.Sleep(20 * time.Second)
		if got := w.view().Settings.TTL; got != 0 {
			t.Errorf("ttl %s before it could be read", got)
		}
		time.Sleep(settingsRetry - 10*time.Second)
		synctest.Wait()
		if got, want := w.view().Settings.TTL, 30*time.Second; got != want {
			t.Errorf("ttl %s, want %s", got, want)
		}
	})
	inBubble(t, "a TTL that is too long is warned of", func(t *testing.T) {
		var loopWait atomic.Int64
		loopWait.Store(int64(15 * time.Second))
		settings := func() (node.Settings, error) {
			return node.Settings{TTL: 20 * time.Second, LoopWait: time.Duration(loopWait.Load())}, nil
		}
		w := three(t, func(c *Config) {
			for _, n := range c.Clusters[0].Nodes {
				n.Client.(*clustertest.Poller).SetSettings(settings)
			}
		})
		const text = "cache ttl 5s is not below 5s (Patroni's ttl 20s - loop_wait 15s): a frozen old primary could be believed after a new one is elected"
		if v := w.view(); v.Settings.LoopWait != 15*time.Second || v.Unsafe != text {
			t.Errorf("%+v, unsafe %q", v.Settings, v.Unsafe)
		}
		if h := w.view().Health(time.Now()); h.Level != Warning || !slices.Equal(h.Reasons, []Reason{{"ttl_unsafe", Warning, "", text}}) {
			t.Errorf("%+v", h)
		}
		loopWait.Store(int64(14 * time.Second))
		time.Sleep(5*time.Minute + 2*time.Second)
		synctest.Wait()
		if v := w.view(); v.Unsafe != "" || v.Health(time.Now()).Level != OK {
			t.Errorf("unsafe %q", v.Unsafe)
		}
		if got, want := ofKind(w.drain(), KindSettings), []string{": unsafe -> safe"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		total := 0
		for _, f := range w.fakes {
			total += f.SettingsReads()
		}
		if total != 2 || w.fakes["pg1"].SettingsReads() != 0 {
			t.Errorf("asked %d times, pg1 %d times, want 2 and 0", total, w.fakes["pg1"].SettingsReads())
		}
	})
	inBubble(t, "what Patroni itself cannot read is warned of", func(t *testing.T) {
		var wrong atomic.Bool
		wrong.Store(true)
		settings := func() (node.Settings, error) {
			if wrong.Load() {
				return node.Settings{}, &node.Failure{Kind: node.KindDocument, Err: errors.New(`ttl: want a whole number of seconds, at least 1 (got "soon")`)}
			}
			return node.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second}, nil
		}
		w := three(t, func(c *Config) {
			for _, n := range c.Clusters[0].Nodes {
				n.Client.(*clustertest.Poller).SetSettings(settings)
			}
		})
		const text = `cache ttl 5s cannot be compared with Patroni's: /config of pg2: ttl: want a whole number of seconds, at least 1 (got "soon")`
		if h := w.view().Health(time.Now()); h.Level != Warning || !slices.Equal(h.Reasons, []Reason{{"ttl_unknown", Warning, "", text}}) {
			t.Errorf("%+v", h)
		}
		wrong.Store(false)
		time.Sleep(settingsRetry + 2*time.Second)
		synctest.Wait()
		if v := w.view(); v.Unread != "" || v.Settings.TTL != 30*time.Second || v.Health(time.Now()).Level != OK {
			t.Errorf("%+v, unread %q", v.Settings, v.Unread)
		}
		if got, want := ofKind(w.drain(), KindSettings), []string{": unknown -> safe"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
	inBubble(t, "are read of the one node that is watched", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(1))))
		w.settle()
		if w.view().Settings.TTL != 30*time.Second {
			t.Errorf("%+v", w.view().Settings)
		}
	})
}

// The least ttl that the configuration takes is twice the interval, plus what a poll may
// take, at most another interval. With it no node that answers becomes stale, however
// slowly it answers, and one lost poll does not matter.
func TestLeastTTL(t *testing.T) {
	for _, delay := range []time.Duration{clustertest.ShortDelay, 500 * time.Millisecond, time.Second} {
		inBubble(t, delay.String(), func(t *testing.T) {
			w := three(t, func(c *Config) { c.TTL = 3 * time.Second })
			w.change("pg2", follows(1).WithDelay(delay))
			time.Sleep(time.Minute)
			for range 10 {
				w.change("pg3", clustertest.Fails(node.KindCut)) // a poll is lost now and then
				time.Sleep(time.Second)
				w.change("pg3", follows(1))
				time.Sleep(time.Minute)
			}
			synctest.Wait()
			if got := ofKind(w.drain(), KindKnown); len(got) > 0 {
				t.Errorf("%q", got)
			}
		})
	}
}
