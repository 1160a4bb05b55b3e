package cli

import (
	"slices"

	"patroniglue/cluster"
	"patroniglue/httpapi"
)

// How many columns a terminal needs for the addresses, and for timeline, lag and age.
const (
	addressColumns = 100
	figureColumns  = 72
)

// style is how a status is shown. The zero style is for a file.
type style struct {
	colour  bool
	stale   bool // it is what the daemon said before it fell silent
	columns int  // of the terminal; 0 = as many as it takes
}

// level is the level's word, in its colour while it is known to hold.
func (st style) level(v cluster.Level) string {
	if st.stale {
		return "was " + v.String()
	}
	return st.paint(v, v.String())
}

// passes is the word for a verdict.
func (st style) passes(c httpapi.CheckVerdict) string {
	word := "no"
	if c.Pass {
		word = "yes"
	}
	if st.stale {
		word = "was " + word
	}
	return word
}

func (st style) paint(v cluster.Level, text string) string {
	if !st.colour {
		return text
	}
	return [...]string{cluster.OK: "\x1b[32m", cluster.Warning: "\x1b[33m", cluster.Critical: "\x1b[1;31m"}[v] + text + "\x1b[m"
}

// cells leaves out what a narrow terminal has no room for: the second cell is the
// address, and those from the fifth to the seventh are figures. Reasons and verdicts
// matter more, and would be cut.
func (st style) cells(cells ...string) []string {
	if 0 < st.columns && st.columns < figureColumns {
		cells = slices.Delete(cells, 4, 7)
	}
	if 0 < st.columns && st.columns < addressColumns {
		cells = slices.Delete(cells, 1, 2)
	}
	return cells
}
