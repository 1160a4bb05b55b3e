package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

func TestViewsShareWhatDidNotChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		pg3, shared := w.fakes["pg3"], 0
		for range 200 {
			before, n := w.view(), pg3.Count()
			idle := pg3.Idle()
			w.until(2*time.Second, "a new view", func() bool { return w.view() != before })
			if idle && pg3.Count() == n {
				shared++
				if w.view().Member("pg3") != before.Member("pg3") {
					t.Fatal("pg3 was not polled, but made again")
				}
			}
			if w.view().Member("nobody") != nil {
				t.Fatal("nobody is a member")
			}
		}
		if shared < 50 {
			t.Errorf("only %d views without a poll of pg3", shared)
		}
	})
}

// Since when there is this primary is what an operator looks for first. Who was it
// when we came may have been it for long.
func TestPrimarySince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		w := three(t)
		w.settle()
		if v := w.view(); v.PrimarySince.Before(begun) || time.Since(v.PrimarySince) < time.Second || !v.PrimaryAtStart {
			t.Errorf("at first: since %s, at start %t", v.PrimarySince, v.PrimaryAtStart)
		}
		w.change("pg1", follows(1))
		w.settle()
		if v := w.view(); !v.PrimarySince.IsZero() || v.PrimaryAtStart {
			t.Errorf("without a primary: since %s, at start %t", v.PrimarySince, v.PrimaryAtStart)
		}
		promoted := time.Now()
		w.change("pg2", leads(2))
		w.settle()
		since := w.view().PrimarySince
		if since.Before(promoted) || since.Sub(promoted) > 2*time.Second || w.view().PrimaryAtStart {
			t.Errorf("pg2 is primary since %s after its promotion, at start %t", since.Sub(promoted), w.view().PrimaryAtStart)
		}
		w.settle()
		if now := w.view().PrimarySince; !now.Equal(since) {
			t.Errorf("it is primary since %s, and later since %s", since, now)
		}
	})
}

func TestReadersRaceWithMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t, lagRules, func(c *Config) { c.Rules.MinReplicas, c.Rules.Fallback = 1, true })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					for _, name := range []string{"pg1", "pg2", "pg3"} {
						a, err := w.sup.Ask(ctx, Question{Node: name, Check: "primary", Query: []string{"", "tag_a=b"}[i%2]})
						if err != nil || a.Verdict.Reason == "" {
							t.Errorf("%+v, %v", a.Verdict, err)
						}
					}
					_, _ = w.sup.AskAll(ctx, "main", "read-only", "lag=1MB")
					_, _, _ = w.sup.Find(ctx, "", "pg1")
					_ = w.sup.Refresh("", "pg2")
					_ = w.sup.Views()[0].Health(time.Now())
					sub := w.sup.Subscribe(1)
					time.Sleep(time.Millisecond)
					sub.Lost()
					sub.Close()
				}
			})
		}
		for range 100 {
			w.fakes[fmt.Sprintf("pg%d", 1+rand.N(3))].Set(anyScript(rand.New(rand.NewPCG(1, 2))))
			time.Sleep(30 * time.Millisecond)
		}
		cancel()
		wg.Wait()
	})
}

func TestSubscriberThatDoesNotReadLosesAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		lazy := w.sup.Subscribe(2)
		w.drain()
		for range 10 {
			w.fakes["pg2"].Set(follows(1).WithState(node.StateStarting))
			time.Sleep(2 * time.Second)
			w.fakes["pg2"].Set(follows(1))
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		all := len(w.drain())
		if got := lazy.Lost(); all < 20 || got != all-2 {
			t.Errorf("lost %d of %d changes, want all but 2", got, all)
		}
		if got := lazy.Lost(); got != 0 {
			t.Errorf("lost %d more", got)
		}
		lazy.Close()
		if len(lazy.C) != 2 {
			t.Errorf("%d are left", len(lazy.C))
		}
		w.fakes["pg2"].Set(refuses)
		time.Sleep(2 * time.Second)
		if got := lazy.Lost(); got != 0 || len(lazy.C) != 2 {
			t.Errorf("lost %d after Close, %d left", got, len(lazy.C))
		}
	})
}

func TestRunEndsAtOnceAndLeavesNobodyBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		w.fakes["pg2"].Set(hangs)
		w.fakes["pg3"].Set(refuses)
		time.Sleep(1500 * time.Millisecond)
		n := w.view().Member("pg2").Entry.Failures
		start := time.Now()
		w.stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s", took)
		}
		if got := w.view().Member("pg2").Entry.Failures; got != n {
			t.Errorf("%d failures, want %d: that we stop is no failure of the node's", got, n)
		}
	})
}

func TestQuestionsThatCannotBeAnswered(t *testing.T) {
	cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)))
	cfg.Clusters = append(cfg.Clusters, ClusterConfig{Name: "other", Nodes: []NodeConfig{nodeConfig(clustertest.New(t, "pg1", leads(1)))}})
	s := New(cfg)
	for q, want := range map[Question]string{
		{Node: "pg9", Check: "primary"}:                              `unknown node "pg9", want one of pg1, pg2`,
		{Node: "pg1", Check: "primary"}:                              `node "pg1" is in several clusters, name one of main, other with it`,
		{Cluster: "x", Node: "pg1", Check: "primary"}:                `unknown cluster "x", want one of main, other`,
		{Cluster: "other", Node: "pg2", Check: "primary"}:            `unknown node "pg2", want one of pg1`,
		{Cluster: "main", Node: "pg1", Check: "replica", Query: "a"}: `parameter "a": unknown, want lag, replication_state, mode or tag_NAME`,
	} {
		if _, err := s.Ask(t.Context(), q); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", q, err, want)
		}
	}
	_, err := s.Ask(t.Context(), Question{Node: "pg2", Check: "prim"})
	if _, ok := errors.AsType[*node.UnknownCheckError](err); !ok {
		t.Errorf("%v, want an unknown check", err)
	}
	if _, err := s.AskAll(t.Context(), "x", "primary", ""); err == nil {
		t.Error("no error for an unknown cluster")
	}
	many := &UnknownError{What: "node", Name: "x", Valid: slices.Repeat([]string{"n"}, 23)}
	if got, want := many.Error(), `unknown node "x", want one of n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n or 3 more`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
