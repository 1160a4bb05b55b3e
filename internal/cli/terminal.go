package cli

import (
	"cmp"
	"io"
	"os"

	"golang.org/x/term"
)

// terminalSize returns the columns and rows of a terminal; ok is false if w is none. A
// serial line knows no size: it counts as 80 by 24.
func terminalSize(w io.Writer) (columns, rows int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0, false
	}
	return cmp.Or(columns, 80), cmp.Or(rows, 24), true
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// obeys reports whether w is a terminal that understands control sequences.
func obeys(w io.Writer) bool { return isTerminal(w) && os.Getenv("TERM") != "dumb" }

// takesColour follows no-color.org.
func takesColour(w io.Writer) bool { return obeys(w) && os.Getenv("NO_COLOR") == "" }
