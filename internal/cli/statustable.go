package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/client"
	"patroniglue/node"
)

// style is how a status is shown. The zero style is for a file.
type style struct {
	colour  bool
	stale   bool // it is what the daemon said before it fell silent
	columns int  // of the terminal; 0 = as many as it takes
}

// level is the level's word, whatever its colour; what is not known any more
// has none.
func (l style) level(v cluster.Level) string {
	if l.stale {
		return "was " + v.String()
	}
	return l.paint(v, v.String())
}

func (l style) passes(c httpapi.CheckVerdict) string {
	word := "no"
	if c.Pass {
		word = "yes"
	}
	if l.stale {
		word = "was " + word
	}
	return word
}

func (l style) paint(v cluster.Level, text string) string {
	if !l.colour {
		return text
	}
	return [...]string{cluster.OK: "\x1b[32m", cluster.Warning: "\x1b[33m", cluster.Critical: "\x1b[1;31m"}[v] + text + "\x1b[m"
}

func printStatus(w io.Writer, r client.Status, l style) error {
	if len(r.Health.Supervisor.Reasons) > 0 {
		fmt.Fprintf(w, "This supervisor: %s\n", l.level(r.Health.Supervisor.Level))
		printReasons(w, l, r.Health.Supervisor.Reasons)
		fmt.Fprintln(w)
	}
	for i, c := range r.Health.Clusters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Cluster %s: %s\n", printable(c.Cluster), l.level(c.Level))
		printReasons(w, l, c.Reasons)
		nodes := table{indent: "  "}
		nodes.add(l.cells("NODE", "POSTGRES", "ROLE", "STATE", "TL", "LAG", "AGE", "PRIMARY", "REPLICA", "WHY")...)
		for _, n := range r.Nodes {
			if n.Cluster == c.Cluster {
				nodes.add(l.row(n)...)
			}
		}
		if err := nodes.print(w); err != nil {
			return err
		}
	}
	return nil
}

func printReasons(w io.Writer, l style, reasons []cluster.Reason) {
	for _, reason := range reasons {
		subject := ""
		if reason.Node != "" {
			subject = reason.Node + ": "
		}
		fmt.Fprintf(w, "  %s  %s\n", l.level(reason.Level), printable(reason.Code+"  "+subject+reason.Text))
	}
}

// row is a node's line of the table.
func (l style) row(n httpapi.NodeState) []string {
	role, state, timeline, lag, age := "unknown", "unknown", "unknown", "unknown", "never"
	if n.Role != nil && n.State != nil && n.Age != nil {
		role, state, age = *n.Role, *n.State, fmt.Sprintf("%.1fs", *n.Age)
		if !n.Fresh {
			role, state = "was "+role, "was "+state
		}
	}
	if n.Leaving {
		state += ", leaving"
	}
	if n.Timeline != nil {
		timeline = strconv.FormatInt(*n.Timeline, 10)
	}
	switch {
	case n.Leader:
		role, lag = "Leader ("+role+")", "-"
	case n.Lag != nil:
		lag = node.FormatSize(*n.Lag)
	}
	why := n.Checks["primary"].Reason
	if !n.Leader {
		why = n.Checks["replica"].Reason
	}
	return l.cells(n.Node, cmp.Or(n.Postgres, "-"), role, state, timeline, lag, age, l.passes(n.Checks["primary"]), l.passes(n.Checks["replica"]), why)
}

// cells leaves out what a narrow terminal has no room for: the second cell is the
// address, and those from the fifth to the seventh are figures. Reasons and verdicts
// matter more, and would be cut.
func (l style) cells(cells ...string) []string {
	if 0 < l.columns && l.columns < figureColumns {
		cells = slices.Delete(cells, 4, 7)
	}
	if 0 < l.columns && l.columns < addressColumns {
		cells = slices.Delete(cells, 1, 2)
	}
	return cells
}
