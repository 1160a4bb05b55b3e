package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
)

// history prints what changed, as the running daemon remembers it, oldest
// first: the latest stands above the prompt.
func history(ctx context.Context, c *call, args []string) error {
	fs := c.newFlags()
	c.configFlag(fs)
	since := fs.String("since", "", "only changes since this `TIME`, such as 2026-01-02T15:04:05Z, or within this duration, such as 1h")
	node := fs.String("node", "", "only changes of the node `NAME`")
	inCluster := fs.String("cluster", "", "only changes of the cluster `NAME`")
	limit := fs.Int("limit", 50, "only the latest `N` changes")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := c.parseAll(fs, args); err != nil {
		return err
	}
	_, cfg, err := config.FindAndLoad(c.config)
	if err != nil {
		return err
	}
	daemon, err := client.New(cfg)
	if err != nil {
		return unansweredError{err}
	}
	defer daemon.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	h, err := daemon.History(ctx, client.HistoryQuery{Since: *since, Node: *node, Cluster: *inCluster, Limit: *limit})
	if refused, ok := errors.AsType[*client.RefusedError](err); ok {
		return fmt.Errorf("asking for the history: %s", refused.Reason)
	}
	if err != nil {
		return unansweredError{err}
	}
	if *asJSON {
		err = printJSON(c.stdout, h)
	} else {
		err = printHistory(c.stdout, h)
	}
	if err != nil {
		return fmt.Errorf("printing the history: %w", err)
	}
	return nil
}

func printHistory(w io.Writer, h cluster.History) error {
	if len(h.Changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing changed")
		return err
	}
	if h.Truncated {
		fmt.Fprintln(w, "... there were more before")
	}
	var changes table
	changes.add("TIME", "CLUSTER", "NODE", "CHANGE", "BEFORE", "AFTER", "WHY")
	for _, change := range h.Changes {
		why := change.Reason
		if change.Gap > 0 {
			why = fmt.Sprintf("after %s without one", time.Duration(change.Gap*float64(time.Second)).Round(time.Millisecond))
			if change.Reason != "" {
				why += ": " + change.Reason
			}
		}
		// The time as the log has it, and as -since takes it.
		at := change.At.Local().Format("2006-01-02T15:04:05.000Z07:00")
		changes.add(at, cmp.Or(change.Cluster, "-"), cmp.Or(change.Node, "-"), change.Kind, change.Before, change.After, cmp.Or(why, "-"))
	}
	return changes.print(w)
}
