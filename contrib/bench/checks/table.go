//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

var modes = map[bool]string{false: "new", true: "keep-alive"}

// result is a row of the table: a variant in one mode, with a pair for each round.
type result struct {
	variant variant
	keep    bool
	pairs   []pair
}

// newResults is the table without figures: a new connection for each check, then keep-alive.
func newResults(variants []variant) []*result {
	var results []*result
	for _, keep := range []bool{false, true} {
		for _, v := range variants {
			if !keep || !v.once {
				results = append(results, &result{variant: v, keep: keep})
			}
		}
	}
	return results
}

// find returns the row of that name and mode, nil when there is none.
func find(results []*result, name string, keep bool) *result {
	i := slices.IndexFunc(results, func(r *result) bool { return r.variant.name == name && r.keep == keep })
	if i < 0 {
		return nil
	}
	return results[i]
}

// median of what a row's pairs have; of an even number the upper one of the two in the middle.
func median[T cmp.Ordered](r *result, of func(pair) T) T {
	var values []T
	for _, p := range r.pairs {
		values = append(values, of(p))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// against is the median of the ratios of the processor times to those of another variant in the same rounds; empty when
// that one was not measured.
func (r *result) against(results []*result, name string) string {
	base := find(results, name, r.keep)
	if base == nil {
		return ""
	}
	var ratios []float64
	for i := range min(len(r.pairs), len(base.pairs)) {
		if cost := base.pairs[i].works.cost; cost > 0 {
			ratios = append(ratios, float64(r.pairs[i].works.cost)/float64(cost))
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	slices.Sort(ratios)
	return fmt.Sprintf("%.2f", ratios[len(ratios)/2])
}

// row is a row's cells.
func (r *result) row(results []*result) []string {
	works := func(of func(sample) time.Duration) string {
		return short(median(r, func(p pair) time.Duration { return of(p.works) }))
	}
	return []string{
		r.variant.name + ": " + r.variant.what,
		modes[r.keep],
		works(func(s sample) time.Duration { return s.cost }),
		r.against(results, cacheName),
		r.against(results, staticName),
		fmt.Sprintf("%.0f", median(r, func(p pair) float64 { return p.works.perSecond })),
		works(func(s sample) time.Duration { return s.p50 }),
		works(func(s sample) time.Duration { return s.p99 }),
		fmt.Sprintf("%.1f", median(r, func(p pair) float64 { return p.works.reached })),
		strconv.Itoa(median(r, func(p pair) int { return p.works.errors })),
		short(median(r, func(p pair) time.Duration { return p.frozen.p99 })),
		fmt.Sprintf("%.2f", median(r, func(p pair) float64 { return p.frozen.p99.Seconds() / p.works.p99.Seconds() })),
		strconv.Itoa(median(r, func(p pair) int { return p.frozen.errors })),
	}
}

// writeTable prints the rows that have figures.
func writeTable(w io.Writer, results []*result) {
	header := []string{"check", "connection", "processor time", "÷ " + cacheName, "÷ " + staticName, "checks/s", "p50", "p99", "to Patroni/s", "errors",
		"frozen: p99", "÷ p99", "errors"}
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, r := range results {
		if len(r.pairs) > 0 {
			fmt.Fprintf(w, "| %s |\n", strings.Join(r.row(results), " | "))
		}
	}
}

// short is a time with a digit behind the point.
func short(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
