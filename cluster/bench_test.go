package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"patroniglue/node"
)

// watched is a cluster of n nodes of which all is known, without any polling.
func watching(t testing.TB, n int) *Supervisor {
	var fakes []*fake
	for i := range n {
		s := follows(1)
		if i == 0 {
			s = leads(1)
		}
		fakes = append(fakes, newFake(t, fmt.Sprintf("pg%d", i+1), s))
	}
	cfg := config(fakes...)
	cfg.TTL = time.Hour
	cfg.Rules.MaxLag = 100 * mb
	s := New(cfg)
	for i, f := range fakes {
		f.answer.Began = time.Now()
		s.group().merge(s.group().nodes[i], f.answer.Began, f.answer, nil)
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
				t.Errorf("%s/%s: %v allocations", m.Name, name, n)
			}
		}
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

// BenchmarkPublish is what one poll costs, its network aside.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{3, 300} {
		b.Run(fmt.Sprint("nodes=", n), func(b *testing.B) {
			s := watching(b, n)
			g := s.group()
			r := follows(1).report(b, "pg2")
			b.ReportAllocs()
			for b.Loop() {
				r.Began = time.Now()
				g.merge(g.nodes[1], r.Began, r, nil)
			}
		})
	}
}
