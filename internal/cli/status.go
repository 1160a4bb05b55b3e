package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
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
	_, cfg, err := config.FindAndLoad(configFlag)
	if err != nil {
		return err
	}
	if names := cfg.ClusterNames(); o.cluster != "" && !slices.Contains(names, o.cluster) && !cfg.Discovery.On() {
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
