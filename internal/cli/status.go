package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/config"
)

// statusOptions are the flags of status.
type statusOptions struct {
	json, nagios, watch bool
	every               time.Duration
	cluster             string // "" = all
}

// status prints what the running daemon knows, as a table like patronictl's with
// verdicts and reasons. Its exit code is the worst level.
func status(ctx context.Context, c *call, args []string) error {
	var o statusOptions
	fs := c.newFlags()
	c.configFlag(fs)
	fs.StringVar(&o.cluster, "cluster", "", "only the cluster of this `NAME`")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	fs.BoolVar(&o.nagios, "nagios", false, "print one line for Nagios, Icinga and others, with performance data; exit code 3 (UNKNOWN) after any error")
	fs.BoolVar(&o.watch, "watch", false, "show it again and again until Ctrl-C, in place on a terminal")
	fs.DurationVar(&o.every, "every", time.Second, "how often -watch asks, at least "+minEvery.String())
	err := c.parse(fs, args)
	if err == exitCode(2) && slices.ContainsFunc(args, isNagiosFlag) {
		return nagiosUnknown(c.stdout, errors.New("wrong command line: see patroniglue status -help"))
	}
	if err != nil {
		return err
	}
	if err = c.noArguments(fs); err == nil {
		err = c.showStatus(ctx, o)
	}
	if _, said := errors.AsType[exitCode](err); err != nil && !said && o.nagios {
		return nagiosUnknown(c.stdout, err)
	}
	return err
}

// showStatus asks and prints, once or until ctx ends.
func (c *call) showStatus(ctx context.Context, o statusOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	_, cfg, err := config.FindAndLoad(c.config)
	if err != nil {
		return err
	}
	if names := cfg.ClusterNames(); o.cluster != "" && !slices.Contains(names, o.cluster) && !cfg.Discovery.On() {
		return fmt.Errorf("-cluster: want %s (got %q)", strings.Join(names, " or "), o.cluster)
	}
	if o.watch {
		return watchStatus(ctx, cfg, o, c.stdout)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s, err := askStatus(ctx, cfg, o.cluster)
	if err != nil {
		return unansweredError{err}
	}
	switch {
	case o.json:
		err = printJSON(c.stdout, s)
	case o.nagios:
		_, err = fmt.Fprintln(c.stdout, nagiosLine(s))
	default:
		err = printStatus(c.stdout, s, style{colour: takesColour(c.stdout)})
	}
	if err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	if s.Health.Level == cluster.OK {
		return nil
	}
	return exitCode(s.Health.Level)
}

// check finds flags that exclude one another, and values that are none.
func (o statusOptions) check() error {
	switch {
	case o.json && o.nagios, o.json && o.watch, o.nagios && o.watch:
		return usageErrorf("want only one of -json, -nagios and -watch")
	case o.every < minEvery:
		return usageErrorf("-every: want at least %s (got %s)", minEvery, o.every)
	case o.every != time.Second && !o.watch:
		return usageErrorf("-every is for -watch")
	}
	return nil
}
