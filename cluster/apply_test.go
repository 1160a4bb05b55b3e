package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// clustersOf gives each cluster its nodes: "main", fakes, "other", fakes.
func (c Config) clustersOf(pairs ...any) Config {
	c.Clusters = nil
	for pair := range slices.Chunk(pairs, 2) {
		cc := ClusterConfig{Name: pair[0].(string)}
		for _, f := range pair[1].([]*clustertest.Poller) {
			cc.Nodes = append(cc.Nodes, nodeConfig(f))
		}
		c.Clusters = append(c.Clusters, cc)
	}
	return c
}

func (w *world) apply(cfg Config) {
	w.t.Helper()
	w.sup.Apply(cfg)
	for _, c := range cfg.Clusters {
		for _, n := range c.Nodes {
			w.fakes[n.Name] = n.Client.(*clustertest.Poller)
		}
	}
}

func (w *world) ask(node, check string) (Answer, error) {
	return w.sup.Ask(w.t.Context(), Question{Node: node, Check: check})
}

// settledThree is a settled cluster whose primary is pg1, with all that Apply needs to change it.
func settledThree(t *testing.T) (w *world, cfg Config, pg1, pg2, pg3 *clustertest.Poller) {
	pg1, pg2, pg3 = clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", follows(1))
	cfg = config(pg1, pg2, pg3)
	w = begin(t, cfg)
	w.settle()
	return w, cfg, pg1, pg2, pg3
}

func TestApply(t *testing.T) {
	inBubble(t, "what stays is not interrupted", func(t *testing.T) {
		w, cfg, pg1, pg2, pg3 := settledThree(t)
		w.leave("pg1", 30*time.Second)
		w.drain()
		polls := map[*clustertest.Poller]int{pg1: pg1.Count(), pg2: pg2.Count(), pg3: pg3.Count()}
		pg4 := clustertest.New(t, "pg4", follows(1))
		for i := range 200 { // with a fourth and without, while a client asks every millisecond
			if i%2 == 0 {
				w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg4, pg1, pg2, pg3}))
			} else {
				w.apply(cfg)
			}
			for range 50 {
				w.tick()
				if a, err := w.ask("pg2", "replica"); err != nil || !a.Verdict.Passes() {
					t.Fatalf("reload %d: %v, %+v", i, err, a.Verdict)
				}
				if a, err := w.ask("pg1", "primary"); err != nil || !strings.HasPrefix(a.Verdict.Reason, "about to stop, as announced") {
					t.Fatalf("reload %d: %v, %+v, want the announced stop", i, err, a.Verdict)
				}
			}
		}
		for f, before := range polls { // 10 s
			if n := f.Count() - before; n > 110 {
				t.Errorf("%s was polled %d times in 10 s", f.Name(), n)
			}
		}
		if changes := w.drain(); len(changes) > 0 {
			for _, c := range changes {
				if c.Node != "pg4" {
					t.Errorf("recorded: %+v", c)
				}
			}
		}
	})
	inBubble(t, "a node added is asked about after its first poll", func(t *testing.T) {
		w, cfg, pg1, pg2, pg3 := settledThree(t)
		slow := follows(1)
		slow.Delay = 2 * time.Second
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg1, pg2, pg3, clustertest.New(t, "pg4", slow)}))
		began := time.Now()
		a, err := w.ask("pg4", "replica")
		if took := time.Since(began); err != nil || !a.Verdict.Passes() || took < time.Second || took > 2*time.Second+10*time.Millisecond {
			t.Errorf("%v, %+v after %s, want the answer after its first poll", err, a.Verdict, took)
		}
	})
	inBubble(t, "a node removed is unknown and polled no more", func(t *testing.T) {
		w, cfg, pg1, pg2, pg3 := settledThree(t)
		w.until(2*time.Second, "a poll is under way", func() bool { return !pg3.Idle() })
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg1, pg2}))
		if !pg3.Idle() {
			t.Error("Apply came back while the node was being polled")
		}
		polls := pg3.Count()
		if _, err := w.ask("pg3", "replica"); !isUnknown(err) {
			t.Errorf("%v, want an unknown node", err)
		}
		if _, err := w.sup.Leave("", "pg3", time.Second); !isUnknown(err) {
			t.Errorf("Leave: %v, want an unknown node", err)
		}
		time.Sleep(10 * time.Second)
		if n := pg3.Count(); n != polls || w.view().Member("pg3") != nil {
			t.Errorf("polled %d times more, member %v", n-polls, w.view().Member("pg3"))
		}
		w.apply(cfg) // back again, it knows nothing of before
		if m := w.view().Member("pg3"); m.Entry.Known || m.Polled {
			t.Errorf("back again it is %+v, want nothing known", m.Entry)
		}
	})
	inBubble(t, "a question that waits for a node that is removed gets an error", func(t *testing.T) {
		w, cfg, pg1, pg2, pg3 := settledThree(t)
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg1, pg2, pg3, clustertest.New(t, "pg4", hangs)}))
		told := make(chan error, 1)
		began := time.Now()
		go func() {
			_, err := w.ask("pg4", "replica")
			told <- err
		}()
		time.Sleep(time.Second)
		w.apply(cfg)
		if err := <-told; !isUnknown(err) || time.Since(began) > time.Second+10*time.Millisecond {
			t.Errorf("%v after %s, want an unknown node at once", err, time.Since(began))
		}
	})
	inBubble(t, "the primary removed", func(t *testing.T) {
		w, cfg, _, pg2, pg3 := settledThree(t)
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg2, pg3}))
		v := w.view()
		if p := w.primary(); p != "" || v.Leader != "" || v.LeaderLost.IsZero() || v.PrimaryLost.IsZero() {
			t.Errorf("primary %q, leader %q, lost at %s and %s", p, v.Leader, v.LeaderLost, v.PrimaryLost)
		}
		if got := ofKind(w.drain(), KindLeader); !slices.Equal(got, []string{": pg1 -> none"}) {
			t.Errorf("leader: %q", got)
		}
		pg2.Set(leads(2))
		w.until(time.Second, "pg2 is primary", func() bool { return w.primary() == "pg2" }) // all are polled fast
	})
	inBubble(t, "a node renamed is another", func(t *testing.T) {
		w, cfg, pg1, pg2, _ := settledThree(t)
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg1, pg2, clustertest.New(t, "new3", follows(1))}))
		if a, err := w.ask("new3", "replica"); err != nil || !a.Verdict.Passes() {
			t.Errorf("new3: %v, %+v", err, a.Verdict)
		}
		if _, err := w.ask("pg3", "replica"); !isUnknown(err) {
			t.Errorf("pg3: %v, want an unknown node", err)
		}
	})
}

func TestApplySettings(t *testing.T) {
	inBubble(t, "polled in another way a node keeps what is known of it", func(t *testing.T) {
		w, cfg, pg1, pg2, pg3 := settledThree(t)
		w.until(2*time.Second, "pg1 is asked", func() bool { return !pg1.Idle() })
		polls := pg1.Count()
		elsewhere := clustertest.New(t, "pg1", leads(1))
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{elsewhere, pg2, pg3}))
		if p := w.primary(); p != "pg1" {
			t.Errorf("primary %q, want pg1 as before", p)
		}
		w.until(10*time.Millisecond, "the new address is asked at once", func() bool { return elsewhere.Count() == 1 })
		time.Sleep(5 * time.Second)
		if n := pg1.Count(); n != polls || !pg1.Idle() {
			t.Errorf("the old address was asked %d times more", n-polls)
		}
		if changes := w.drain(); len(changes) > 0 {
			t.Errorf("recorded: %+v", changes)
		}
		polls = pg2.Count()
		w.until(2*time.Second, "pg2 was asked just now", func() bool { return pg2.Count() > polls && pg2.Idle() })
		next2 := clustertest.New(t, "pg2", follows(1))
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{elsewhere, next2, pg3}))
		w.until(10*time.Millisecond, "the new address is asked at once", func() bool { return next2.Count() == 1 })
		elsewhere = clustertest.New(t, "pg1", hangs) // a wrong address: belief ends with the ttl
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{elsewhere, next2, pg3}))
		if got := w.primaries(6 * time.Second); !slices.Equal(got, []string{"pg1", ""}) {
			t.Errorf("primaries %q, want pg1 until its ttl is over", got)
		}
	})
	inBubble(t, "intervals count at once", func(t *testing.T) {
		w, cfg, _, pg2, _ := settledThree(t)
		slow := cfg.clustersOf()
		slow.Clusters = []ClusterConfig{{Name: "main", Nodes: slices.Clone(cfg.Clusters[0].Nodes)}}
		for i := range slow.Clusters[0].Nodes {
			slow.Clusters[0].Nodes[i].Interval = 4 * time.Second
		}
		w.apply(slow)
		time.Sleep(10 * time.Second)
		before := pg2.Count()
		time.Sleep(40 * time.Second)
		if n := pg2.Count() - before; n < 9 || n > 12 {
			t.Errorf("polled %d times in 40 s, want every 4 s", n)
		}
		w.apply(cfg)
		before = pg2.Count()
		time.Sleep(10 * time.Second)
		if n := pg2.Count() - before; n < 9 || n > 12 {
			t.Errorf("polled %d times in 10 s, want every second", n)
		}
	})
	inBubble(t, "the ttl", func(t *testing.T) {
		w, cfg, pg1, _, _ := settledThree(t)
		w.change("pg1", hangs)
		time.Sleep(3 * time.Second)
		cfg.TTL = 2 * time.Second
		w.apply(cfg)
		if p := w.primary(); p != "" {
			t.Errorf("primary %q, want what is 3 s old believed no more", p)
		}
		cfg.TTL = time.Minute // what was not believed any more stays so
		w.apply(cfg)
		if p := w.primary(); p != "" {
			t.Errorf("primary %q, want no belief that comes back", p)
		}
		pg1.Set(leads(1))
		w.until(9*time.Second, "pg1 answers again", func() bool { return w.primary() == "pg1" })
		if e := w.view().Member("pg1").Entry; e.TTL != time.Minute {
			t.Errorf("believed for %s, want a minute", e.TTL)
		}
	})
	inBubble(t, "rules", func(t *testing.T) {
		w, cfg, _, _, _ := settledThree(t)
		cfg.Rules.MaxLag = mb
		w.apply(cfg)
		w.change("pg3", follows(1).WithReplayed(1<<29))
		w.until(20*time.Second, "pg3 is out", func() bool { return !slices.Contains(w.passing("replica"), "pg3") })
		cfg.Rules.MaxLag = 0
		w.apply(cfg)
		if got := w.passing("replica"); !slices.Contains(got, "pg3") {
			t.Errorf("replicas %q, want pg3 back with the limit", got)
		}
		cfg.Rules.Streaming = true
		w.change("pg2", follows(1).WithField("replication_state", "in archive recovery"))
		time.Sleep(2 * time.Second)
		w.apply(cfg)
		if got := w.passing("replica"); slices.Contains(got, "pg2") {
			t.Errorf("replicas %q, want those that stream", got)
		}
	})
}

func TestApplyCluster(t *testing.T) {
	inBubble(t, "a cluster of other nodes has another identity", func(t *testing.T) {
		w, cfg, _, _, _ := settledThree(t)
		stranger := leads(1).WithField("database_system_identifier", "6666")
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{clustertest.New(t, "a", stranger), clustertest.New(t, "b", follows(1).WithField("database_system_identifier", "6666"))}))
		w.until(20*time.Millisecond, "a is primary", func() bool { return w.primary() == "a" })
		if got := ofKind(w.drain(), KindWatching); !slices.Equal(got, []string{": yes -> no"}) {
			t.Errorf("watching: %q, want that the other one ended", got)
		}
		if v := w.view(); v.SystemID != "6666" || len(v.Members) != 2 {
			t.Errorf("system identifier %s, %d members", v.SystemID, len(v.Members))
		}
	})
	inBubble(t, "history", func(t *testing.T) {
		w, cfg, _, _, _ := settledThree(t)
		all := w.history(Filter{}).Changes
		cfg.History = 3
		w.apply(cfg)
		h := w.history(Filter{})
		if len(h.Changes) != 3 || !h.Truncated || h.Changes[2].ID != all[len(all)-1].ID {
			t.Errorf("%d changes, truncated %t, want the newest 3 of %d", len(h.Changes), h.Truncated, len(all))
		}
	})
	inBubble(t, "before Run and after it", func(t *testing.T) {
		pg1 := clustertest.New(t, "pg1", leads(1))
		s := New(config(clustertest.New(t, "pg0", leads(1))))
		s.Apply(config(pg1))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		if err := s.WaitReady(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		polls := pg1.Count()
		s.Apply(config(pg1, clustertest.New(t, "pg2", follows(1))))
		time.Sleep(10 * time.Second)
		if pg1.Count() != polls || s.Stuck(time.Now()) != nil {
			t.Errorf("polled after Run; %v", s.Stuck(time.Now()))
		}
	})
}

// A node that moves to another cluster is in exactly one of them at any time, and no
// goroutine stays behind.
func TestApplyMoves(t *testing.T) {
	pg1, pg2, pg3 := clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", leads(1))
	here := config().clustersOf("a", []*clustertest.Poller{pg1, pg2}, "b", []*clustertest.Poller{pg3})
	there := config().clustersOf("b", []*clustertest.Poller{pg3, pg2}, "a", []*clustertest.Poller{pg1})
	s := New(here)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	var clients sync.WaitGroup
	moved, stop := context.WithCancel(ctx)
	for _, ask := range []func() error{
		func() error {
			a, err := s.Ask(ctx, Question{Node: "pg2", Check: "liveness"})
			if err == nil && !a.Verdict.Passes() {
				err = errors.New(a.Verdict.Reason)
			}
			return err
		},
		func() error {
			a, err := s.Ask(ctx, Question{Node: "pg1", Check: "primary"})
			if err == nil && !a.Verdict.Passes() {
				err = errors.New(a.Verdict.Reason)
			}
			return err
		},
		func() error {
			members := 0
			for _, v := range s.Views() {
				members += len(v.Members)
			}
			if members != 3 {
				return fmt.Errorf("%d members are shown, want 3", members)
			}
			return s.Stuck(time.Now())
		},
		func() error {
			answers, err := s.AskAll(ctx, "b", "primary", "")
			if err == nil && !slices.ContainsFunc(answers, func(a Answer) bool { return a.Verdict.Passes() }) {
				err = errors.New("nobody passes")
			}
			return err
		},
	} {
		clients.Go(func() {
			for moved.Err() == nil {
				if err := ask(); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(50 * time.Microsecond) // the polls need the processors, too
			}
		})
	}
	const moves = 200
	for i := range moves {
		s.Apply([]Config{there, here}[i%2])
		if err := s.WaitReady(ctx); err != nil { // else questions wait for a poll that never comes
			t.Fatal(err)
		}
	}
	stop()
	clients.Wait()
	n := runtime.NumGoroutine()
	for range 1000 { // polls that are under way have one each
		if n <= before {
			break
		}
		time.Sleep(time.Millisecond)
		n = runtime.NumGoroutine()
	}
	if n > before {
		t.Errorf("%d goroutines after %d reloads, %d before", n, moves, before)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// Whatever is applied between its polls: no two nodes pass primary, and nothing
// that is too old does.
func TestApplyWhileTwoClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		cfg := config(w.fakes["pg1"], w.fakes["pg2"], w.fakes["pg3"])
		w.change("pg2", leads(2))
		for i := range 500 {
			if i%10 == 0 {
				cfg.TTL = time.Duration(1+i%7) * time.Second
				cfg.Rules.Lock = i%20 == 0
				slices.Reverse(cfg.Clusters[0].Nodes)
				w.apply(cfg)
			}
			if i == 250 {
				w.change("pg1", fails(node.KindTimeout))
			}
			w.tick()
			w.primary()
		}
	})
}

// Whoever asks for a node that may be known in a moment waits for that, and hears
// why nothing is known when it takes longer.
func TestPending(t *testing.T) {
	inBubble(t, "it is known then", func(t *testing.T) {
		pg1, pg2 := clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1))
		cfg := config(pg1)
		cfg.Pending = "etcd has not answered yet"
		w := begin(t, cfg)
		w.settle()
		if w.sup.Ready() {
			t.Error("ready, though others may come")
		}
		began := time.Now()
		if a, err := w.ask("pg1", "primary"); err != nil || !a.Verdict.Passes() || time.Since(began) > 0 {
			t.Errorf("a configured node: %v, %+v, after %s", err, a.Verdict, time.Since(began))
		}
		go func() {
			time.Sleep(time.Second)
			cfg := config(pg1, pg2)
			w.sup.Apply(cfg)
		}()
		if a, err := w.ask("pg2", "replica"); err != nil || !a.Verdict.Passes() {
			t.Errorf("a node that is known a second later: %v, %+v", err, a.Verdict)
		}
		if err := w.sup.WaitReady(t.Context()); err != nil || !w.sup.Ready() {
			t.Errorf("WaitReady: %v", err)
		}
	})
	inBubble(t, "it never is", func(t *testing.T) {
		cfg := config()
		cfg.Clusters, cfg.Pending = nil, "etcd has not answered yet"
		w := begin(t, cfg)
		const want = `node "pg1" is not known yet: etcd has not answered yet`
		began := time.Now()
		if _, err := w.ask("pg1", "primary"); err == nil || err.Error() != want || time.Since(began) != pendingWait {
			t.Errorf("%v after %s, want %s after %s", err, time.Since(began), want, pendingWait)
		}
		if _, err := w.sup.AskAll(t.Context(), "main", "primary", ""); err == nil || !strings.HasSuffix(err.Error(), "is not known yet: etcd has not answered yet") {
			t.Errorf("the cluster: %v", err)
		}
	})
}

// To know that a leader key moved is worth a poll at once, and changes nothing else.
func TestRefreshCluster(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := three(t, func(c *Config) { c.TTL = 2 * time.Hour })
		for i := range w.fakes {
			w.until(4*time.Second, i+" is idle", w.fakes[i].Idle)
		}
		before := w.fakes["pg2"].Count()
		if err := w.sup.RefreshLeader("main", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := w.fakes["pg2"].Count() - before; got == 0 {
			t.Error("not polled at once")
		}
		if err := w.sup.RefreshLeader("other", ""); err == nil {
			t.Error("no error for an unknown cluster")
		}
	})
}

// Where one cluster of many changes, the others are not even looked at.
func TestApplyOthers(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		pg1, pg2, pg3 := clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", leads(1)), clustertest.New(t, "pg3", follows(1))
		cfg := config(pg1, pg2, pg3)
		w := begin(t, cfg.clustersOf("main", []*clustertest.Poller{pg1}, "other", []*clustertest.Poller{pg2}))
		w.settle()
		before := w.sup.watched.Load()
		w.apply(cfg.clustersOf("main", []*clustertest.Poller{pg1}, "other", []*clustertest.Poller{pg2, pg3}))
		after := w.sup.watched.Load()
		if before.byName["main"] != after.byName["main"] || before.byName["other"] == after.byName["other"] {
			t.Error("main has another roster, or other the same")
		}
		for _, change := range []func(*Config){
			func(c *Config) { c.TTL = 7 * time.Second },
			func(c *Config) { c.Rules.MaxLag = 1 },
			func(c *Config) { c.Clusters[0].Nodes[0].Interval++ },
			func(c *Config) { c.Clusters[0].Nodes[0].Unlisted = time.Now() },
		} {
			was := w.sup.watched.Load().byName["main"]
			next := cfg.clustersOf("main", []*clustertest.Poller{pg1}, "other", []*clustertest.Poller{pg2, pg3})
			change(&next)
			if w.apply(next); w.sup.watched.Load().byName["main"] == was {
				t.Error("a change of main is not used")
			}
		}
	})
}
