package cli

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// table is lines of cells that stand below one another, by the columns that a terminal
// gives them: text/tabwriter counts runes, and a wide one has two columns.
type table struct {
	indent string
	rows   [][]string
}

// add appends a row. The cells may come from elsewhere: they cannot steer a terminal.
func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = printable(cell)
	}
	t.rows = append(t.rows, row)
}

// print writes the rows, with two blanks between columns and none at the end.
func (t *table) print(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		padded := make([]string, len(row))
		for i, cell := range row {
			padded[i] = runewidth.FillRight(cell, widths[i])
		}
		b.WriteString(strings.TrimRight(t.indent+strings.Join(padded, "  "), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
