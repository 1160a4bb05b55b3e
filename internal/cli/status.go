package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
	"patroniglue/node"
)

// statusUnknown is the exit code when the daemon does not answer.
const statusUnknown exitCode = 3

// statusTimeout is for all answers together: less than the 10 s after which check_nrpe
// gives up, which Nagios shows as critical.
const statusTimeout = 8 * time.Second

// statusOptions are the flags of status.
type statusOptions struct {
	json, nagios, watch bool
	every               time.Duration
	cluster             string // "" = all
}

// status prints what the running daemon knows, as a table like patronictl's with
// verdicts and reasons. Its exit code is the worst level.
func status(ctx context.Context, args []string, configFlag string, stdout, stderr io.Writer) error {
	var o statusOptions
	fs := flag.NewFlagSet("patroniglue status", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&configFlag, "config", configFlag, "configuration `FILE` that the daemon runs with")
	fs.StringVar(&o.cluster, "cluster", "", "only the cluster of this `NAME`")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	fs.BoolVar(&o.nagios, "nagios", false, "print one line for Nagios, Icinga and others, with performance data; exit code 3 (UNKNOWN) after any error")
	fs.BoolVar(&o.watch, "watch", false, "show it again and again, on a terminal in place, until Ctrl-C")
	fs.DurationVar(&o.every, "every", time.Second, "how often -watch asks, at least "+minEvery.String())
	err := parse(fs, args, stdout)
	if err == exitCode(2) && slices.ContainsFunc(args, isNagiosFlag) {
		return nagiosUnknown(stdout, errors.New("wrong command line: see patroniglue status -help"))
	}
	if err != nil {
		return err
	}
	err = showStatus(ctx, fs, o, configFlag, stdout)
	_, said := errors.AsType[exitCode](err)
	unanswered, isUnanswered := errors.AsType[*client.UnansweredError](err)
	switch {
	case err != nil && !said && o.nagios:
		return nagiosUnknown(stdout, err)
	case isUnanswered:
		fmt.Fprintln(stderr, "patroniglue:", printable(unanswered.Error()))
		return statusUnknown
	}
	return err
}

func showStatus(ctx context.Context, fs *flag.FlagSet, o statusOptions, configFlag string, stdout io.Writer) error {
	switch {
	case fs.NArg() > 0:
		return usageErrorf("status takes no argument (got %q)", fs.Arg(0))
	case o.json && o.nagios, o.json && o.watch, o.nagios && o.watch:
		return usageErrorf("want one of -json, -nagios and -watch")
	case o.every < minEvery:
		return usageErrorf("-every: want at least %s (got %s)", minEvery, o.every)
	case o.every != time.Second && !o.watch:
		return usageErrorf("-every is for -watch")
	}
	_, cfg, err := config.Find(configFlag)
	if err != nil {
		return err
	}
	if names := config.ClusterNames(cfg); o.cluster != "" && !slices.Contains(names, o.cluster) && !cfg.Discovery.On() {
		return fmt.Errorf("-cluster: want %s (got %q)", strings.Join(names, " or "), o.cluster)
	}
	if o.watch {
		return watchStatus(ctx, cfg, o, stdout)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	report, err := client.FetchStatus(ctx, cfg, o.cluster)
	if err != nil {
		return &client.UnansweredError{Err: err}
	}
	switch {
	case o.json:
		err = printJSON(stdout, report)
	case o.nagios:
		_, err = fmt.Fprintln(stdout, nagiosLine(report))
	default:
		err = printStatus(stdout, report, look{colour: takesColour(stdout)})
	}
	if err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	if report.Health.Level == cluster.OK {
		return nil
	}
	return exitCode(report.Health.Level)
}

// printJSON prints an answer of the daemon, or of whoever is in its place.
func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = w.Write(append(httpapi.Printable(text), '\n'))
	}
	return err
}

// look is how a status is shown. The zero look is for a file.
type look struct {
	colour  bool
	stale   bool // it is what the daemon said before it fell silent
	columns int  // of the terminal; 0 = as many as it takes
}

// level is the level's word, whatever its colour; what is not known any more
// has none.
func (l look) level(v cluster.Level) string {
	if l.stale {
		return "was " + v.String()
	}
	return l.paint(v, v.String())
}

func (l look) passes(c httpapi.CheckVerdict) string {
	word := "no"
	if c.Pass {
		word = "yes"
	}
	if l.stale {
		word = "was " + word
	}
	return word
}

func (l look) paint(v cluster.Level, text string) string {
	if !l.colour {
		return text
	}
	return [...]string{cluster.OK: "\x1b[32m", cluster.Warning: "\x1b[33m", cluster.Critical: "\x1b[1;31m"}[v] + text + "\x1b[m"
}

// printable makes one line of text from elsewhere, which may not steer a
// terminal: what answers need not be a patroniglue.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

func printStatus(w io.Writer, r client.Status, l look) error {
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
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		printRow(tw, l, "NODE", "POSTGRES", "ROLE", "STATE", "TL", "LAG", "AGE", "PRIMARY", "REPLICA", "WHY")
		for _, n := range r.Nodes {
			if n.Cluster == c.Cluster {
				printNode(tw, l, n)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func printReasons(w io.Writer, l look, reasons []cluster.Reason) {
	for _, reason := range reasons {
		subject := ""
		if reason.Node != "" {
			subject = reason.Node + ": "
		}
		fmt.Fprintf(w, "  %s  %s\n", l.level(reason.Level), printable(reason.Code+"  "+subject+reason.Text))
	}
}

func printNode(w io.Writer, l look, n httpapi.NodeState) {
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
	printRow(w, l, n.Node, cmp.Or(n.Postgres, "-"), role, state, timeline, lag, age, l.passes(n.Checks["primary"]), l.passes(n.Checks["replica"]), why)
}

// printRow prints cells, of which the second is the address, and those from the
// fifth to the seventh are figures. On a narrow terminal reasons and verdicts
// would be cut: they matter more.
func printRow(w io.Writer, l look, cells ...string) {
	if 0 < l.columns && l.columns < figureColumns {
		cells = slices.Delete(cells, 4, 7)
	}
	if 0 < l.columns && l.columns < addressColumns {
		cells = slices.Delete(cells, 1, 2)
	}
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	fmt.Fprintln(w, "  "+strings.Join(cells, "\t"))
}
