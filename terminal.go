package main

import (
	"cmp"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"patroniglue/cluster"
)

// terminalSize gives the columns and rows of a terminal; ok is false for what
// is none. A serial line knows no size: it is taken for 80 by 24.
func terminalSize(w io.Writer) (columns, rows int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return cmp.Or(int(size.Col), 80), cmp.Or(int(size.Row), 24), true
}

func isTerminal(w io.Writer) bool {
	_, _, ok := terminalSize(w)
	return ok
}

// obeys reports whether w is a terminal that understands control sequences.
func obeys(w io.Writer) bool { return isTerminal(w) && os.Getenv("TERM") != "dumb" }

// takesColour follows no-color.org.
func takesColour(w io.Writer) bool { return obeys(w) && os.Getenv("NO_COLOR") == "" }

// look is how a status is shown. The zero look is for a file.
type look struct {
	colour bool
	stale  bool // it is what the daemon said before it fell silent
	narrow bool // without the nodes' addresses
}

// level is the level's word, whatever its colour; what is not known any more
// has none.
func (l look) level(v cluster.Level) string {
	if l.stale {
		return "was " + v.String()
	}
	return l.paint(v, v.String())
}

func (l look) paint(v cluster.Level, text string) string {
	if !l.colour {
		return text
	}
	return [...]string{cluster.OK: "\x1b[32m", cluster.Warning: "\x1b[33m", cluster.Critical: "\x1b[1;31m"}[v] + text + "\x1b[m"
}

// columnsOf counts what is seen of a line that paint may have coloured.
func columnsOf(line string) int {
	n, code := 0, false
	for _, r := range line {
		switch {
		case code || r == '\x1b':
			code = r != 'm'
		default:
			n++
		}
	}
	return n
}

// fit cuts a line to so many columns, and marks that with ">". Colours end.
func fit(line string, columns int) string {
	if columnsOf(line) <= columns {
		return line
	}
	var b strings.Builder
	left, code := columns-1, false
	for _, r := range line {
		switch {
		case code || r == '\x1b':
			b.WriteRune(r)
			code = r != 'm'
		case left > 0:
			b.WriteRune(r)
			left--
		}
	}
	return b.String() + ">"
}
