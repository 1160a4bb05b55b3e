package cli

import (
	"cmp"
	"fmt"
	"io"
	"strconv"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/client"
	"patroniglue/node"
)

// printStatus prints each cluster's level, its reasons and its nodes.
func printStatus(w io.Writer, s client.Status, st style) error {
	if len(s.Health.Supervisor.Reasons) > 0 {
		fmt.Fprintf(w, "This supervisor: %s\n", st.level(s.Health.Supervisor.Level))
		printReasons(w, st, s.Health.Supervisor.Reasons)
		fmt.Fprintln(w)
	}
	for i, c := range s.Health.Clusters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Cluster %s: %s\n", printable(c.Cluster), st.level(c.Level))
		printReasons(w, st, c.Reasons)
		nodes := table{indent: "  "}
		nodes.add(st.cells("NODE", "POSTGRES", "ROLE", "STATE", "TL", "LAG", "AGE", "PRIMARY", "REPLICA", "WHY")...)
		for _, n := range s.Nodes {
			if n.Cluster == c.Cluster {
				nodes.add(st.row(n)...)
			}
		}
		if err := nodes.print(w); err != nil {
			return err
		}
	}
	return nil
}

func printReasons(w io.Writer, st style, reasons []cluster.Reason) {
	for _, reason := range reasons {
		subject := ""
		if reason.Node != "" {
			subject = reason.Node + ": "
		}
		fmt.Fprintf(w, "  %s  %s\n", st.level(reason.Level), printable(reason.Code+"  "+subject+reason.Text))
	}
}

// row is a node's line of the table.
func (st style) row(n httpapi.NodeState) []string {
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
	return st.cells(n.Node, cmp.Or(n.Postgres, "-"), role, state, timeline, lag, age, st.passes(n.Checks["primary"]), st.passes(n.Checks["replica"]), why)
}
