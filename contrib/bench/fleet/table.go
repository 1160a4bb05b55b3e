//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

var columns = []string{"nodes", "ready", "polls/s", "processor time per poll", "cores", "resident", "per node", "heap, stacks in use per node", "peak",
	"change to answer: p50", "p99", "of", "check", "÷ first row", "scrape", "page"}

func writeHeader(w io.Writer) {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
}

// write writes a row; what a node and a check cost is compared with the first.
func (r *row) write(w io.Writer, first *row) {
	perNode := func(bytes, before int64) string {
		if r.nodes <= first.nodes {
			return ""
		}
		return fmt.Sprintf("%.1f kB", float64(bytes-before)/1e3/float64(r.nodes-first.nodes))
	}
	inUse := ""
	if r.nodes > first.nodes {
		inUse = perNode(r.heap, first.heap) + ", " + perNode(r.stacks, first.stacks)
	}
	cells := []string{
		fmt.Sprint(r.nodes), short(r.ready), fmt.Sprintf("%.4g", r.perSecond), short(r.poll), fmt.Sprintf("%.3f", r.cores),
		megabytes(r.resident), perNode(r.resident, first.resident), inUse, megabytes(r.peak),
		short(quantile(r.changes, 0.5)), short(quantile(r.changes, 0.99)), fmt.Sprint(len(r.changes)),
		short(r.check), fmt.Sprintf("%.2f", float64(r.check)/float64(max(1, first.check))), short(r.scrape), short(r.page),
	}
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }

// quantile is that of sorted values, and one that occurred; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// short is a time with three digits that count.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}
