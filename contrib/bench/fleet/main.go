//go:build linux

// Command fleet measures what watching many nodes costs. It starts patroniglue, as built from this checkout, over
// simulated nodes in clusters of three, which live in another process, and prints a row of a table in Markdown for each
// number of nodes.
//
//	go run ./contrib/bench/fleet -sizes 3,300,3000,10000,30000
//	go run ./contrib/bench/fleet -sizes 3000 -interval 1s -primary-interval 250ms
//	go run ./contrib/bench/fleet -sizes 3000 -etcd
//
// Every node is polled each -interval, the elected primaries each -primary-interval. Processor time is that of
// patroniglue's process alone, from the kernel's clock of it. What a check, a scrape and the page cost is the difference
// to what polling alone costs just before; so these figures are rough where polling takes nearly all that the machine
// has. A check is by HTTP, on a connection of its own as HAProxy makes it, of any node.
//
// With -etcd the nodes have a port each, and are found in a real etcd of three members with TLS and authentication, where
// they are announced as by Patroni. A second table says what that costs, and what was answered while all keys were
// deleted, and while all nodes went and came back at other ports. A switchover there moves the leader key, too.
//
// "Change to answer" is from a switchover in a simulated cluster to the first 200 for its new primary, asked each 5 ms.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"patroniglue/contrib/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	sizes                     []int
	interval, primaryInterval time.Duration
	length                    time.Duration
	program                   string
	etcd                      bool
	ttl                       time.Duration
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	sizes := "3,300,3000,10000,30000"
	fs := flag.NewFlagSet("fleet", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&sizes, "sizes", sizes, "how many nodes, by comma")
	fs.DurationVar(&o.interval, "interval", 2*time.Second, "between two polls of a node")
	fs.DurationVar(&o.primaryInterval, "primary-interval", 0, "between two polls of an elected primary (default -interval)")
	fs.DurationVar(&o.length, "duration", 20*time.Second, "of each of two measurements for a size: without and with switchovers")
	fs.StringVar(&o.program, "program", "", "measure this patroniglue, not the one of this checkout")
	fs.BoolVar(&o.etcd, "etcd", false, "announce the nodes in a real etcd instead of configuring them (root, Debian's etcd)")
	fs.DurationVar(&o.ttl, "ttl", 30*time.Second, "-etcd: Patroni's ttl; each node writes every third of it")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("want only flags (got %q)", fs.Arg(0))
	}
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 3 {
			return o, fmt.Errorf("-sizes: want numbers from 3 (got %q)", text)
		}
		o.sizes = append(o.sizes, n)
	}
	if o.primaryInterval == 0 {
		o.primaryInterval = o.interval
	}
	if o.primaryInterval < 10*time.Millisecond || o.primaryInterval > o.interval {
		return o, fmt.Errorf("-primary-interval: want 10ms to -interval (got %v)", o.primaryInterval)
	}
	if o.ttl < 3*time.Second {
		return o, fmt.Errorf("-ttl: want 3s or more (got %v)", o.ttl)
	}
	if o.length <= 0 {
		return o, fmt.Errorf("-duration: want more than 0 (got %v)", o.length)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == simulate {
		return runSimulator(ctx, args[1:], os.Stdin, stdout)
	}
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "patroniglue-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.program == "" {
		if o.program, err = lab.Build(ctx, dir); err != nil {
			return err
		}
	}
	if o.program, err = filepath.Abs(o.program); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Polled each %v, primaries each %v.\n\n", o.interval, o.primaryInterval)
	writeHeader(stdout)
	var first *row
	var found []discovered
	for _, size := range o.sizes {
		fmt.Fprintf(stderr, "%d nodes\n", size)
		r, err := o.measure(ctx, dir, size)
		if err != nil {
			return fmt.Errorf("measuring %d nodes: %w", size, err)
		}
		if first == nil {
			first = &r
		}
		r.write(stdout, first)
		if o.etcd {
			found = append(found, r.found)
		}
	}
	return writeDiscovered(stdout, found)
}
