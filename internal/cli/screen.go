package cli

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/mattn/go-runewidth"
)

// colourCode is what paint adds to a text.
var colourCode = regexp.MustCompile("\x1b\\[[0-9;]*m")

// columnsOf counts the columns that a line, which paint may have coloured, has on a
// terminal.
func columnsOf(line string) int { return runewidth.StringWidth(colourCode.ReplaceAllString(line, "")) }

// fit cuts a line to so many columns, and marks that with ">". Colours end.
func fit(line string, columns int) string {
	if columnsOf(line) <= columns {
		return line
	}
	var b strings.Builder
	left := columns - 1
	write := func(text string) {
		if cut := runewidth.Truncate(text, left, ""); cut != text {
			b.WriteString(cut)
			left = 0
			return
		}
		b.WriteString(text)
		left -= runewidth.StringWidth(text)
	}
	for {
		code := colourCode.FindStringIndex(line)
		if code == nil {
			write(line)
			return b.String() + ">"
		}
		write(line[:code[0]])
		b.WriteString(line[code[0]:code[1]])
		line = line[code[1]:]
	}
}

// Control sequences of xterm, which all terminals of today know: another screen, as
// full-screen programs use it, so that the shell's comes back afterwards; the cursor;
// wrapping, as a terminal may count the columns of a rare character otherwise.
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
