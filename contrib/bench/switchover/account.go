package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// tally is what one client saw of one event.
type tally struct {
	gap       time.Duration // the longest between two attempts served
	from, to  time.Time     // that gap
	longest   time.Duration // the slowest attempt that was served
	count     [outcomes]int
	onPrimary int // reads that the primary answered
}

// account sums up a client's attempts. For a client that is served no more the gap lasts until its last attempt begins.
func account(attempts []attempt) tally {
	var t tally
	var last, end time.Time
	gapUntil := func(at time.Time) {
		if gap := at.Sub(last); !last.IsZero() && gap > t.gap {
			t.gap, t.from, t.to = gap, last, at
		}
	}
	for _, a := range slices.SortedFunc(slices.Values(attempts), func(a, b attempt) int { return a.ended.Compare(b.ended) }) {
		t.count[a.outcome]++
		if a.onPrimary {
			t.onPrimary++
		}
		if a.began.After(end) {
			end = a.began
		}
		if a.outcome == served {
			t.longest = max(t.longest, a.ended.Sub(a.began))
			gapUntil(a.ended)
			last = a.ended
		}
	}
	gapUntil(end)
	return t
}

// failed is how many attempts were not served.
func (t tally) failed() int {
	n := 0
	for _, count := range t.count[served+1:] {
		n += count
	}
	return n
}

// sample is one event, seen by the floor and by a variant.
type sample struct {
	floor, variant tally
	moments        []moment
}

// result is a variant with all its samples, or delays where it is asked only.
type result struct {
	variant variant
	samples []sample
	delays  []delay
}

// writeTables prints what was measured: the variants, and where the time goes.
func writeTables(w io.Writer, results []result, reads, markdown bool) {
	rows := summary(results, reads)
	if len(rows) > 2 {
		writeTable(w, rows, markdown)
	}
	for _, r := range results {
		if r.variant.missing != "" {
			fmt.Fprintf(w, "\n%s is not available: %s\n", r.variant.name, r.variant.missing)
		}
	}
	if rows := whereabouts(results); !reads && len(rows) > 1 { // gaps of reads are those of the machine
		fmt.Fprintln(w, "\nWhere the time goes: milliseconds after the first line, medians.")
		fmt.Fprintln(w)
		writeTable(w, rows, markdown)
	}
	if rows := answersTable(results); len(rows) > 1 {
		fmt.Fprintln(w, "\nHow late the answers are: below 0 patroniglue's was the first.")
		fmt.Fprintln(w)
		writeTable(w, rows, markdown)
	}
}

// summary is the table of all variants, the floor of all their events first.
func summary(results []result, reads bool) [][]string {
	wrong := "writes misrouted"
	if reads {
		wrong = "reads on the primary"
	}
	rows := [][]string{{"variant", "events", "gap min", "median", "max", "÷ floor", "worst", "failed median", "max", "of all of them", wrong, "slowest served"}}
	var floors []tally
	for _, r := range results {
		for _, s := range r.samples {
			floors = append(floors, s.floor)
		}
	}
	rows = append(rows, summaryRow(floorName+": "+floorWhat, floors, nil, reads))
	for _, r := range results {
		if r.variant.missing != "" || r.variant.asked {
			continue
		}
		var own, floors []tally
		for _, s := range r.samples {
			own, floors = append(own, s.variant), append(floors, s.floor)
		}
		rows = append(rows, summaryRow(r.variant.name+": "+r.variant.what, own, floors, reads))
	}
	return rows
}

// summaryRow is a variant's row; floors are those of the same events, nil for the floor itself.
func summaryRow(name string, own, floors []tally, reads bool) []string {
	if len(own) == 0 {
		return []string{name, "0", "", "", "", "", "", "", "", "", "", ""}
	}
	var gaps, slowest []time.Duration
	var ratios []float64
	var failed []int
	var count [outcomes]int
	wrong := 0
	for i, t := range own {
		gaps, slowest, failed = append(gaps, t.gap), append(slowest, t.longest), append(failed, t.failed())
		for o, n := range t.count {
			count[o] += n
		}
		wrong += t.onPrimary
		if floors != nil && floors[i].gap > 0 {
			ratios = append(ratios, t.gap.Seconds()/floors[i].gap.Seconds())
		}
	}
	if !reads {
		wrong = count[readOnly]
	}
	ratio, worst := "", ""
	if len(ratios) > 0 {
		ratio, worst = fmt.Sprintf("%.2f", median(ratios)), fmt.Sprintf("%.2f", slices.Max(ratios))
	}
	var kinds []string
	for o, n := range count {
		if o != int(served) && n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, outcomeNames[o]))
		}
	}
	return []string{name, strconv.Itoa(len(own)), seconds(slices.Min(gaps)), seconds(median(gaps)), seconds(slices.Max(gaps)), ratio, worst,
		strconv.Itoa(median(failed)), strconv.Itoa(slices.Max(failed)), strings.Join(kinds, ", "), strconv.Itoa(wrong), seconds(slices.Max(slowest))}
}

// median is the upper one of the two in the middle when there is no middle: never better than it was.
func median[T cmp.Ordered](values []T) T {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// writeTable prints rows, the first of which has the names.
func writeTable(w io.Writer, rows [][]string, markdown bool) {
	if markdown {
		for i, row := range rows {
			fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(row)))
			}
		}
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	tw.Flush()
}
