package cluster

import (
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

func TestSamplesSize(t *testing.T) {
	if got := unsafe.Sizeof(samples{}); got != 728 {
		t.Errorf("samples take %d bytes a node, want 728 as their comment says", got)
	}
}

// polled merges a poll of a node as if it had ended just now. took below 0 is a failure.
func polled(t *testing.T, s *Supervisor, name string, answer clustertest.Script, took time.Duration) {
	t.Helper()
	g := s.group()
	n := g.byName[name]
	began := time.Now()
	g.pollBegins(n, began)
	if took < 0 {
		g.merge(n, began, node.Report{}, &node.Failure{Kind: node.KindStatus, Err: errors.New("status code 500")})
		return
	}
	r := answer.Report(t, name)
	r.Began, r.Took = began, took
	g.merge(n, began, r, nil)
}

// points gives a node's samples where something is known, by how many buckets ago.
func points(t *testing.T, s *Supervisor, name string) map[int]Sample {
	t.Helper()
	all, ok := s.Samples("main", name)
	if !ok {
		t.Fatalf("no samples of %s", name)
	}
	if ends := time.Until(all.End); ends <= 0 || ends > SampleLength {
		t.Errorf("the newest bucket ends in %s", ends)
	}
	known := map[int]Sample{}
	for i, p := range all.Points {
		if p != (Sample{Lag: -1, Took: -1}) {
			known[SampleCount-1-i] = p
		}
	}
	return known
}

func wantPoints(t *testing.T, s *Supervisor, name string, want map[int]Sample) {
	t.Helper()
	got := points(t, s, name)
	for i := range SampleCount {
		g, is := got[i]
		w, wanted := want[i]
		if is != wanted || g != w {
			t.Errorf("%s, %d buckets ago: %+v (known %t), want %+v (%t)", name, i, g, is, w, wanted)
		}
	}
}

// pair is a cluster of pg1, which leads at 1 GB, and pg2, that is not run.
func pair(t *testing.T) *Supervisor {
	s := New(config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1))))
	polled(t, s, "pg1", leads(1), 3*time.Millisecond)
	return s
}

// behind is a replica that lacks so many bytes.
func behind(bytes int64) clustertest.Script { return follows(1).WithReplayed(1<<30 - bytes) }

func TestSamplesKeepTheWorst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pair(t)
		wantPoints(t, s, "pg2", nil)
		polled(t, s, "pg2", behind(100), 2*time.Millisecond)
		polled(t, s, "pg2", behind(8000), 5*time.Millisecond)
		polled(t, s, "pg2", behind(0), time.Millisecond)
		wantPoints(t, s, "pg2", map[int]Sample{0: {Lag: 8000, Took: 5 * time.Millisecond}})
		wantPoints(t, s, "pg1", map[int]Sample{0: {Lag: -1, Took: 3 * time.Millisecond}}) // a leader has no lag

		time.Sleep(SampleLength - time.Nanosecond)
		polled(t, s, "pg2", behind(0), 0) // none at all, which is known
		wantPoints(t, s, "pg2", map[int]Sample{0: {Lag: 8000, Took: 5 * time.Millisecond}})
		time.Sleep(time.Nanosecond)
		polled(t, s, "pg2", behind(0), 0)
		wantPoints(t, s, "pg2", map[int]Sample{1: {Lag: 8000, Took: 5 * time.Millisecond}, 0: {}})

		time.Sleep(30 * time.Second) // without polls
		polled(t, s, "pg2", behind(1<<29), 2*time.Second)
		wantPoints(t, s, "pg2", map[int]Sample{4: {Lag: 8000, Took: 5 * time.Millisecond}, 3: {}, 0: {Lag: 1 << 29, Took: 2 * time.Second}})
	})
}

func TestSamplesOfFailedPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pair(t)
		polled(t, s, "pg2", behind(500), time.Millisecond)
		time.Sleep(SampleLength)
		polled(t, s, "pg2", clustertest.Script{}, -1)
		wantPoints(t, s, "pg2", map[int]Sample{1: {Lag: 500, Took: time.Millisecond}, 0: {Lag: -1, Took: -1, Failed: true}})
		polled(t, s, "pg2", behind(700), time.Millisecond)
		polled(t, s, "pg2", clustertest.Script{}, -1)
		wantPoints(t, s, "pg2", map[int]Sample{1: {Lag: 500, Took: time.Millisecond}, 0: {Lag: 700, Took: time.Millisecond, Failed: true}})
	})
}

func TestSamplesOfWhatIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pair(t)
		polled(t, s, "pg2", behind(500).WithField("database_system_identifier", "9999"), time.Millisecond) // another cluster's
		wantPoints(t, s, "pg2", map[int]Sample{0: {Lag: -1, Took: time.Millisecond}})
		time.Sleep(SampleLength)
		polled(t, s, "pg2", follows(1).WithReplayed(0), time.Millisecond) // it reports no position
		wantPoints(t, s, "pg2", map[int]Sample{1: {Lag: -1, Took: time.Millisecond}, 0: {Lag: -1, Took: time.Millisecond}})

		if _, ok := s.Samples("main", "pg9"); ok {
			t.Error("samples of a node that is not configured")
		}
		if _, ok := s.Samples("prod", "pg1"); ok {
			t.Error("samples of a cluster that is not configured")
		}
	})
}

// The old leader's lag is known again once it follows, the new one's no more.
func TestSamplesAtASwitchover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pair(t)
		polled(t, s, "pg2", behind(100), time.Millisecond)
		time.Sleep(SampleLength)
		polled(t, s, "pg1", behind(0).WithRole(node.RoleReplica), time.Millisecond)
		polled(t, s, "pg2", leads(2), time.Millisecond)
		polled(t, s, "pg1", behind(300), time.Millisecond)
		wantPoints(t, s, "pg1", map[int]Sample{1: {Lag: -1, Took: 3 * time.Millisecond}, 0: {Lag: 300, Took: time.Millisecond}})
		wantPoints(t, s, "pg2", map[int]Sample{1: {Lag: 100, Took: time.Millisecond}, 0: {Lag: -1, Took: time.Millisecond}})
	})
}

// Whatever came before, 15 minutes are kept and nothing older.
func TestSamplesRollOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pair(t)
		for i := range 2*SampleCount + 7 {
			polled(t, s, "pg2", behind(int64(1000+i)), time.Duration(i)*time.Millisecond)
			want := map[int]Sample{}
			for ago := range min(i+1, SampleCount) {
				want[ago] = Sample{Lag: int64(1000 + i - ago), Took: time.Duration(i-ago) * time.Millisecond}
			}
			wantPoints(t, s, "pg2", want)
			time.Sleep(SampleLength)
		}
		last := Sample{Lag: 1000 + 2*SampleCount + 6, Took: (2*SampleCount + 6) * time.Millisecond}
		time.Sleep((SampleCount - 2) * SampleLength) // silence
		wantPoints(t, s, "pg2", map[int]Sample{SampleCount - 1: last})
		time.Sleep(SampleLength)
		wantPoints(t, s, "pg2", nil)
		for _, silence := range []time.Duration{SampleCount * SampleLength, 5*SampleCount*SampleLength + 3*time.Second, 365 * 24 * time.Hour} {
			time.Sleep(silence)
			wantPoints(t, s, "pg2", nil)
			polled(t, s, "pg2", behind(1), 0)
			wantPoints(t, s, "pg2", map[int]Sample{0: {Lag: 1}})
		}
	})
}

// Sizes that a bucket cannot hold exactly stay near, and known.
func TestSamplesExtremes(t *testing.T) {
	for _, lag := range []int64{0, 1, 1<<24 - 1, 1 << 40, math.MaxInt64} {
		var s samples
		s.add(0, lag, math.MaxInt64)
		got := s.buckets[0].sample()
		if off := math.Abs(float64(got.Lag) - float64(min(lag, 1<<62))); off > float64(lag)/(1<<24) || got.Took < 35*time.Minute || got.Failed {
			t.Errorf("lag %d, took for ever: %+v", lag, got)
		}
	}
}

func TestSamplesAllocateNothing(t *testing.T) {
	s := watching(t, 3)
	g := s.group()
	if n := testing.AllocsPerRun(100, func() { g.sample(g.nodes[1], time.Now(), false) }); n != 0 {
		t.Errorf("%v allocations for each poll", n)
	}
}

// Readers beside pollers, for the race detector.
func TestSamplesConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 200 {
					for _, name := range []string{"pg1", "pg2", "pg3"} {
						if all, ok := w.sup.Samples("main", name); !ok || all.Points[SampleCount-1].Lag > 0 {
							t.Errorf("%s: %+v, %t", name, all.Points[SampleCount-1], ok)
						}
					}
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		wg.Wait()
	})
}

func BenchmarkSamples(b *testing.B) {
	s := watching(b, 3)
	b.ReportAllocs()
	for b.Loop() {
		s.Samples("main", "pg2")
	}
}
