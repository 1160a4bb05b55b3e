package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// watched is a cluster of n nodes of which all is known, without any polling.
func watching(t testing.TB, n int) *Supervisor {
	var fakes []*clustertest.Poller
	var scripts []clustertest.Script
	for i := range n {
		s := follows(1)
		if i == 0 {
			s = leads(1)
		}
		fakes = append(fakes, clustertest.New(t, fmt.Sprintf("pg%d", i+1), s))
		scripts = append(scripts, s)
	}
	cfg := config(fakes...)
	cfg.TTL = time.Hour
	cfg.Rules.MaxLag = 100 * mb
	s := New(cfg)
	for i, f := range fakes {
		r := scripts[i].Report(t, f.Name())
		r.Began = time.Now()
		s.group().merge(s.group().nodes[i], r.Began, r, nil)
	}
	return s
}

func TestVerdictDoesNotAllocate(t *testing.T) {
	s := watching(t, 3)
	now := time.Now()
	for _, name := range node.CheckNames() {
		c, _ := node.ParseCheck(name, "")
		for _, m := range s.Views()[0].Members {
			if n := testing.AllocsPerRun(100, func() { m.Verdict(&c, now) }); n != 0 {
				t.Errorf("%s/%s: %v allocations, want 0: every check would pay for them, and for their collection", m.Name, name, n)
			}
		}
	}
}

// What load balancers ask, as often as they like.
func TestAskDoesNotAllocate(t *testing.T) {
	s := watching(t, 3)
	s.group().suspension.total = func() time.Duration { return 0 }
	for _, q := range []Question{
		{Node: "pg1", Check: "primary"},
		{Node: "pg2", Check: "primary"},
		{Cluster: s.group().name, Node: "pg2", Check: "replica"},
		{Node: "pg2", Check: "replica", Query: "lag=16MB"},
		{Node: "pg2", Check: "replica", Query: "lag=1"},
	} {
		for name, ask := range map[string]func(){"Ask": func() { s.Ask(t.Context(), q) }, "AskNow": func() { s.AskNow(q) }} {
			if n := testing.AllocsPerRun(100, ask); n != 0 {
				t.Errorf("%s %+v: %v allocations, want 0: every check of every load balancer would pay for them, and for their collection", name, q, n)
			}
		}
	}
}

// A view is made for each poll: one node is new in it, and all others are those of the view before.
func TestPublishAllocations(t *testing.T) {
	withoutRace(t)
	const most = 4
	for _, nodes := range []int{3, 300} {
		s := watching(t, nodes)
		g := s.group()
		r := follows(1).Report(t, "pg2")
		if n := testing.AllocsPerRun(100, func() {
			r.Began = time.Now()
			g.merge(g.nodes[1], r.Began, r, nil)
		}); n > most {
			t.Errorf("%d nodes: %v allocations for each poll, want at most %d however many nodes there are: a fleet is polled thousands of times a second", nodes, n, most)
		}
	}
}

// withoutRace skips a test where the race detector runs, which makes garbage of its own. ./build.sh test runs these tests
// once more without it.
func withoutRace(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("NOT COUNTED with -race: allocations")
	}
}

func BenchmarkVerdict(b *testing.B) {
	m, now := watching(b, 3).Views()[0].Members[0], time.Now()
	b.ReportAllocs()
	for b.Loop() {
		m.Verdict(leaderCheck, now)
	}
}

func BenchmarkAsk(b *testing.B) {
	for _, query := range []string{"", "lag=16MB"} {
		b.Run("query="+query, func(b *testing.B) {
			s := watching(b, 3)
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if a, err := s.Ask(context.Background(), Question{Node: "pg2", Check: "replica", Query: query}); err != nil || !a.Verdict.Passes() {
						b.Error(a.Verdict, err)
					}
				}
			})
		})
	}
}

// BenchmarkFleet is what a poll costs and what a node takes, the network aside,
// in a fleet of clusters of three. It must not grow.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{3, 300, 3000, 30000} {
		b.Run(fmt.Sprint("nodes=", n), func(b *testing.B) {
			before := inUse()
			cfg := Config{TTL: time.Hour, Rules: Rules{SameTimeline: true}}
			reports := []node.Report{leads(1).Report(b, "pg1"), follows(1).Report(b, "pg2"), follows(1).Report(b, "pg3")}
			var polled []*tracked
			for i := range n / 3 {
				c := ClusterConfig{Name: fmt.Sprint("c", i)}
				for j := range 3 {
					c.Nodes = append(c.Nodes, NodeConfig{Name: fmt.Sprint("pg", j+1), Client: &clustertest.Poller{}, Interval: time.Second})
				}
				cfg.Clusters = append(cfg.Clusters, c)
			}
			s := New(cfg)
			for _, r := range s.watched.Load().rosters {
				polled = append(polled, r.nodes...)
			}
			poll := func(i int) {
				r := reports[i%3]
				r.Began = time.Now()
				polled[i].group.merge(polled[i], r.Began, r, nil)
			}
			for i := range 2 * n {
				poll(i % n)
			}
			perNode := float64(inUse()-before) / float64(n)
			b.ReportAllocs()
			for b.Loop() {
				poll(rand.N(n))
			}
			b.ReportMetric(perNode, "B/node")
			runtime.KeepAlive(s)
		})
	}
}

// inUse is what the heap holds.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkPublish is what one poll costs, its network aside.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{3, 300} {
		b.Run(fmt.Sprint("nodes=", n), func(b *testing.B) {
			s := watching(b, n)
			g := s.group()
			r := follows(1).Report(b, "pg2")
			b.ReportAllocs()
			for b.Loop() {
				r.Began = time.Now()
				g.merge(g.nodes[1], r.Began, r, nil)
			}
		})
	}
}
