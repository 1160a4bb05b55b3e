package page

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster"
)

// nothing returns the samples of a node that was never polled.
func nothing() *cluster.Samples {
	s := &cluster.Samples{}
	for i := range s.Points {
		s.Points[i] = cluster.Sample{Lag: -1, Took: -1}
	}
	return s
}

func TestSparkline(t *testing.T) {
	full := nothing()
	for i := range full.Points {
		full.Points[i] = cluster.Sample{Lag: 8 << 10, Took: 3 * time.Millisecond}
	}
	gaps := nothing()
	gaps.Points[0] = cluster.Sample{Lag: 0, Took: time.Millisecond}
	gaps.Points[40] = cluster.Sample{Lag: 212 << 20, Took: 1500 * time.Millisecond}
	gaps.Points[41] = cluster.Sample{Lag: 106 << 20, Took: 750 * time.Millisecond, Failed: true}
	gaps.Points[42] = cluster.Sample{Lag: -1, Took: -1, Failed: true}
	gaps.Points[88] = cluster.Sample{Lag: 1 << 20, Took: 12 * time.Millisecond}
	gaps.Points[89] = cluster.Sample{Lag: -1, Took: -1, Failed: true}
	begin := `<svg class="spark" viewBox="0 0 90 20" preserveAspectRatio="none" role="img" aria-label="`
	for _, tt := range []struct {
		name          string
		samples       *cluster.Samples
		lag, lagPaths string
		latency, took string
	}{
		{"nothing", nothing(), "lag, last 15 minutes: unknown", "", "poll latency, last 15 minutes: unknown", ""},
		{"small and flat is no mountain", full,
			"lag, last 15 minutes: now 8.0 kB, highest 8.0 kB, scale to 1.0 MB", `<path d="M0 17h90"/>`,
			"poll latency, last 15 minutes: now 3 ms, highest 3 ms, scale to 100 ms", `<path d="M0 17h90"/>`},
		{"what is unknown is left out", gaps,
			"lag, last 15 minutes: now 1.0 MB, highest 212 MB, scale to 212 MB, polls failed in 3 of 90 spans of 10 s",
			`<path d="M0 17h1M40 1h1V9h1M88 17h1"/><path class="failed" d="M41 18v2h2v-2zM89 18v2h1v-2z"/>`,
			"poll latency, last 15 minutes: now 12 ms, highest 1.5 s, scale to 1.5 s, polls failed in 3 of 90 spans of 10 s",
			`<path d="M0 17h1M40 1h1V9h1M88 17h1"/><path class="failed" d="M41 18v2h2v-2zM89 18v2h1v-2z"/>`},
	} {
		if got, want := string(lagSparkline(tt.samples)), begin+tt.lag+`"><title>`+tt.lag+`</title>`+tt.lagPaths+`</svg>`; got != want {
			t.Errorf("%s: lag\n%s\nwant\n%s", tt.name, got, want)
		}
		if got, want := string(latencySparkline(tt.samples)), begin+tt.latency+`"><title>`+tt.latency+`</title>`+tt.took+`</svg>`; got != want {
			t.Errorf("%s: latency\n%s\nwant\n%s", tt.name, got, want)
		}
	}

	gaps.Points[88] = cluster.Sample{Lag: -1, Took: -1}
	if got := string(lagSparkline(gaps)); !strings.Contains(got, "now unknown, highest 212 MB") {
		t.Errorf("what was 20 s ago is taken for now: %s", got)
	}
}

// A page of 300 nodes has 600 sparklines.
func TestSparklineIsSmall(t *testing.T) {
	s := nothing()
	for i := range s.Points {
		s.Points[i] = cluster.Sample{Lag: int64(i%7) << 28, Took: time.Duration(i%5) * time.Second, Failed: i%2 == 0}
	}
	if n := len(lagSparkline(s)); n > 2000 {
		t.Errorf("%d bytes at worst, want 2000", n)
	}
}

func BenchmarkSparkline(b *testing.B) {
	s := nothing()
	for i := range s.Points {
		s.Points[i] = cluster.Sample{Lag: rand.Int64N(4 << 20), Took: 3 * time.Millisecond}
	}
	b.ReportAllocs()
	for b.Loop() {
		lagSparkline(s)
	}
}
