package cli

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
)

// historyCommand prints what changed, as the running daemon remembers it, oldest
// first: the latest stands above the prompt.
func historyCommand(ctx context.Context, args []string, configFlag string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("patroniglue history", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&configFlag, "config", configFlag, "configuration `FILE` that the daemon runs with")
	since := fs.String("since", "", "only changes since a `TIME` such as 2026-01-02T15:04:05Z, or since so long ago, such as 1h")
	node := fs.String("node", "", "only changes of the node `NAME`")
	inCluster := fs.String("cluster", "", "only changes of the cluster `NAME`")
	limit := fs.Int("limit", 50, "the latest so many")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, stdout); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usageErrorf("history takes no argument (got %q)", fs.Arg(0))
	}
	_, cfg, err := config.FindAndLoad(configFlag)
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(*limit)}}
	for name, value := range map[string]string{"since": *since, "node": *node, "cluster": *inCluster} {
		if value != "" {
			query.Set(name, value)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	h, refused, err := client.FetchHistory(ctx, cfg, "/history?"+query.Encode())
	if err != nil {
		fmt.Fprintln(stderr, "patroniglue: asking the running daemon:", err)
		return statusUnknown
	}
	if refused != "" {
		return fmt.Errorf("asking for the history: %s", refused)
	}
	if *asJSON {
		err = printJSON(stdout, h)
	} else {
		err = printHistory(stdout, h)
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
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TIME\tCLUSTER\tNODE\tCHANGE\tBEFORE\tAFTER\tWHY")
	for _, c := range h.Changes {
		why := c.Reason
		if c.Gap > 0 {
			why = fmt.Sprintf("after %s without one", time.Duration(c.Gap*float64(time.Second)).Round(time.Millisecond))
			if c.Reason != "" {
				why += ": " + c.Reason
			}
		}
		// The time as the log has it, and as -since takes it.
		cells := []string{c.At.Local().Format("2006-01-02T15:04:05.000Z07:00"), cmp.Or(c.Cluster, "-"), cmp.Or(c.Node, "-"), c.Kind, c.Before, c.After, cmp.Or(why, "-")}
		for i, cell := range cells {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}
