package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// A sparkline's coordinates: a sample is one wide. The style sets the size.
const (
	sparkHeight = 20
	sparkTop    = 1               // of the highest value: the line is not cut off
	sparkZero   = sparkHeight - 3 // of 0: there is room below for ticks
)

// The least upper ends of scales, so that a steady 8 kB or 3 ms does not look high.
const (
	lagScale     = 1 << 20 // bytes
	latencyScale = 100 * time.Millisecond
)

// lagSparkline draws a node's lag in the last 15 minutes, with gaps where it is unknown,
// and a tick at the bottom where polls failed.
func lagSparkline(s *cluster.Samples) template.HTML {
	return sparkline(s, "lag", lagScale, node.FormatSize, func(p cluster.Sample) int64 { return p.Lag })
}

// latencySparkline draws the durations of a node's polls in the same way.
func latencySparkline(s *cluster.Samples) template.HTML {
	return sparkline(s, "poll latency", int64(latencyScale), func(v int64) string { return inWords(time.Duration(v)) },
		func(p cluster.Sample) int64 { return int64(p.Took) })
}

// sparkline draws the values that value returns, below 0 where they are unknown.
func sparkline(s *cluster.Samples, what string, scale int64, words func(int64) string, value func(cluster.Sample) int64) template.HTML {
	now, highest, failed := int64(-1), int64(-1), 0
	for i, p := range s.Points {
		v := value(p)
		highest = max(highest, v)
		if v >= 0 && i >= cluster.SampleCount-2 { // the newest sample may have begun just now
			now = v
		}
		if p.Failed {
			failed++
		}
	}
	scale = max(scale, highest)

	b := make([]byte, 0, 1024)
	b = append(b, `<svg class="spark" viewBox="0 0 `...)
	b = strconv.AppendInt(b, cluster.SampleCount, 10)
	b = append(b, ` 20" preserveAspectRatio="none" role="img" aria-label="`...)
	from := len(b)
	b = append(b, what...)
	b = append(b, ", last 15 minutes: "...)
	switch {
	case highest < 0:
		b = append(b, "unknown"...)
	case now < 0:
		b = append(b, "now unknown, highest "+words(highest)...)
	default:
		b = append(b, "now "+words(now)+", highest "+words(highest)...)
	}
	if highest >= 0 {
		b = append(b, ", scale to "+words(scale)...)
	}
	if failed > 0 {
		b = append(b, ", polls failed in "...)
		b = strconv.AppendInt(b, int64(failed), 10)
		b = append(b, " of 90 spans of 10 s"...)
	}
	label := b[from:]
	b = append(b, `"><title>`...)
	b = append(b, label...)
	b = append(b, `</title>`...)
	if highest >= 0 {
		b = append(b, `<path d="`...)
		b = appendLine(b, s, scale, value)
		b = append(b, `"/>`...)
	}
	if failed > 0 {
		b = append(b, `<path class="failed" d="`...)
		b = appendFailed(b, s)
		b = append(b, `"/>`...)
	}
	return template.HTML(append(b, `</svg>`...))
}

// appendLine appends the line as steps. Equal neighbours make one step.
func appendLine(b []byte, s *cluster.Samples, scale int64, value func(cluster.Sample) int64) []byte {
	y, run := -1, 0 // of the step that is being drawn; y is -1 where there is none
	flush := func() {
		if run > 0 {
			b = append(b, 'h')
			b = strconv.AppendInt(b, int64(run), 10)
			run = 0
		}
	}
	for i, p := range s.Points {
		v := value(p)
		if v < 0 {
			flush()
			y = -1
			continue
		}
		at := sparkZero - int(math.Round(float64(v)/float64(scale)*(sparkZero-sparkTop)))
		if at != y {
			flush()
			if y < 0 {
				b = append(b, 'M')
				b = strconv.AppendInt(b, int64(i), 10)
				b = append(b, ' ')
			} else {
				b = append(b, 'V')
			}
			b = strconv.AppendInt(b, int64(at), 10)
			y = at
		}
		run++
	}
	flush()
	return b
}

// appendFailed appends a tick for each run of samples in which polls failed.
func appendFailed(b []byte, s *cluster.Samples) []byte {
	run := 0
	for i, p := range s.Points {
		if p.Failed {
			run++
		}
		if run > 0 && (!p.Failed || i == cluster.SampleCount-1) {
			end := i
			if p.Failed {
				end++
			}
			b = fmt.Appendf(b, "M%d %dv2h%dv-2z", end-run, sparkHeight-2, run)
			run = 0
		}
	}
	return b
}
