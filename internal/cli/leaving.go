package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
)

// leavingCommand tells the running daemon that a node is about to stop, by hand
// before a patronictl switchover. It returns when load balancers must have heard.
func leavingCommand(ctx context.Context, args []string, configFlag string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("patroniglue leaving", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&configFlag, "config", configFlag, "configuration `FILE` that the daemon runs with")
	d := fs.Duration("for", cluster.DefaultLeaving, "for how long at most, up to "+cluster.MaxLeaving.String())
	inCluster := fs.String("cluster", "", "the node's cluster: its `NAME`, where several have a node of that name")
	cancel := fs.Bool("cancel", false, "take it back")
	wait := fs.Duration("wait", 400*time.Millisecond, "how long load balancers may take to hear, and short transactions to end: 300ms and two of HAProxy's agent-inter")
	if err := parse(fs, args, stdout); err != nil {
		return err
	}
	name := fs.Arg(0)
	if fs.NArg() > 1 { // flags may come after the node too
		if err := parse(fs, fs.Args()[1:], stdout); err != nil {
			return err
		}
		if fs.NArg() > 0 {
			return usageErrorf("leaving takes one node (got %q too)", fs.Arg(0))
		}
	}
	switch {
	case name == "":
		return usageErrorf("leaving wants a node: patroniglue leaving NODE [-for 10s]")
	case *d <= 0 || *d > cluster.MaxLeaving:
		return usageErrorf("-for: want above 0 and at most %s (got %s)", cluster.MaxLeaving, *d)
	case *wait < 0:
		return usageErrorf("-wait: want 0 or more (got %s)", *wait)
	}
	_, cfg, err := config.FindAndLoad(configFlag)
	if err != nil {
		return err
	}
	if cfg.Frontend.Token == "" {
		return errors.New("announcing a stop: want token-file in [frontend] of the configuration")
	}
	path := "/node/" + url.PathEscape(name) + "/leaving"
	if *inCluster != "" {
		path = "/cluster/" + url.PathEscape(*inCluster) + path
	}
	method := http.MethodDelete
	if !*cancel {
		method, path = http.MethodPost, path+"?for="+d.String()
	}
	asking, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	l, err := client.SendLeaving(asking, cfg, method, path)
	if unanswered, ok := errors.AsType[*url.Error](err); ok {
		fmt.Fprintln(stderr, "patroniglue: asking the running daemon:", unanswered)
		return statusUnknown
	}
	if err != nil {
		return fmt.Errorf("announcing a stop: %w", err)
	}
	if !l.Leaving && !*cancel { // else a switchover would follow that nobody was told of
		return fmt.Errorf("announcing a stop: %s: %s", l.Node, l.Reason)
	}
	if l.Leaving {
		select {
		case <-time.After(*wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	fmt.Fprintf(stdout, "%s: %s\n", l.Node, l.Reason)
	return nil
}
