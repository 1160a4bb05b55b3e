package cli

import (
	"fmt"
	"strings"
)

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

// Control sequences of xterm, which all terminals of today know: another screen
// as full-screen programs use it, so that what was on it comes back; the cursor;
// wrapping, which characters of two columns would cause.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K" // from the cursor on
	clearBelow  = "\x1b[J"
)

// screen redraws without a blank moment: each line over the old one. What does
// not fit is cut, and that is said.
func screen(lines []string, columns, rows int) string {
	if hidden := len(lines) - rows + 1; hidden > 1 {
		lines = append(lines[:rows-1:rows-1], fmt.Sprintf("... %d more lines: enlarge the window, or choose a -cluster", hidden))
	}
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		// Cleared before it is written: a line that ends in the last column would lose a character.
		if i == len(lines)-1 {
			b.WriteString(clearBelow)
		} else {
			b.WriteString(clearLine)
		}
		b.WriteString(fit(line, columns))
	}
	return b.String()
}
