package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
)

// leavingOptions are what follows the command leaving.
type leavingOptions struct {
	node, cluster string
	holds         time.Duration // the announcement, at most
	wait          time.Duration // before the command returns
	cancel        bool
}

// leaving tells the running daemon that a node is about to stop, by hand before a
// patronictl switchover. It returns when load balancers must have heard of it.
func leaving(ctx context.Context, c *call, args []string) error {
	o, err := c.parseLeaving(args)
	if err != nil {
		return err
	}
	_, cfg, err := config.FindAndLoad(c.config)
	if err != nil {
		return err
	}
	l, err := announceLeaving(ctx, cfg, o)
	if _, ok := errors.AsType[*client.UnansweredError](err); ok {
		return unansweredError{err}
	}
	if err != nil {
		return fmt.Errorf("announcing a stop: %w", err)
	}
	if !l.Leaving && !o.cancel { // else a switchover would follow of which nobody was told
		return fmt.Errorf("announcing a stop: %s: %s", l.Node, l.Reason)
	}
	if l.Leaving {
		select {
		case <-time.After(o.wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	_, err = fmt.Fprintf(c.stdout, "%s: %s\n", printable(l.Node), printable(l.Reason))
	return err
}

// parseLeaving reads the node, and the flags before and after it.
func (c *call) parseLeaving(args []string) (leavingOptions, error) {
	var o leavingOptions
	fs := c.newFlags()
	c.configFlag(fs)
	fs.DurationVar(&o.holds, "for", cluster.DefaultLeaving, "how long the announcement holds at most, up to "+cluster.MaxLeaving.String())
	fs.StringVar(&o.cluster, "cluster", "", "`NAME` of the node's cluster, where several have a node of that name")
	fs.BoolVar(&o.cancel, "cancel", false, "take the announcement back")
	fs.DurationVar(&o.wait, "wait", 400*time.Millisecond, "how long load balancers may take to hear of it, and short transactions to end: 300ms plus twice HAProxy's agent-inter")
	if err := c.parse(fs, args); err != nil {
		return o, err
	}
	o.node = fs.Arg(0)
	if fs.NArg() > 1 { // flags may come after the node too
		if err := c.parse(fs, fs.Args()[1:]); err != nil {
			return o, err
		}
		if fs.NArg() > 0 {
			return o, usageErrorf("leaving takes one node (got %q too)", fs.Arg(0))
		}
	}
	switch {
	case o.node == "":
		return o, usageErrorf("leaving wants a node: patroniglue leaving NODE [-for 10s]")
	case o.holds <= 0 || o.holds > cluster.MaxLeaving:
		return o, usageErrorf("-for: want above 0 and at most %s (got %s)", cluster.MaxLeaving, o.holds)
	case o.wait < 0:
		return o, usageErrorf("-wait: want 0 or more (got %s)", o.wait)
	}
	return o, nil
}

// announceLeaving announces the stop, or takes that back.
func announceLeaving(ctx context.Context, cfg *config.Config, o leavingOptions) (httpapi.Leaving, error) {
	daemon, err := client.New(cfg)
	if err != nil {
		return httpapi.Leaving{}, err
	}
	defer daemon.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if o.cancel {
		return daemon.CancelLeaving(ctx, o.cluster, o.node)
	}
	return daemon.AnnounceLeaving(ctx, o.cluster, o.node, o.holds)
}
