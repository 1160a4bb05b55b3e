// Command soak runs patroniglue, as built from this checkout, over many simulated clusters to which something happens
// all the time, asks it as load balancers do, and compares each answer with the truth. It ends with a table.
//
//	go run ./contrib/bench/soak -minutes 10
//
// An answer is wrong when it passes a node that nobody may believe to pass any more, when it does not pass one that has
// been settled for long enough (truth.go has the bounds), and when a cluster has two primaries. Exit code 1 says that
// an answer was wrong or missing, or that memory or goroutines grew by more than 5 %.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"patroniglue/node/nodetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	length                time.Duration
	clusters, nodes, rate int
	port                  int
	seed                  uint64
}

// warmUp is the time before the first look at memory: all has happened once.
const warmUp = time.Minute

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	var minutes float64
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Float64Var(&minutes, "minutes", 10, "`MINUTES` to go on, after one to warm up")
	flags.IntVar(&o.clusters, "clusters", 100, "clusters")
	flags.IntVar(&o.nodes, "nodes", 3, "nodes of each cluster")
	flags.IntVar(&o.rate, "rate", 1000, "checks a second")
	flags.IntVar(&o.port, "port", 18400, "first of the ports that the simulated nodes take")
	flags.Uint64Var(&o.seed, "seed", 1, "what happens")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.length = time.Duration(minutes * float64(time.Minute)); o.length <= 0 || o.clusters < 1 || o.nodes < 2 || o.rate < 1 || flags.NArg() > 0 {
		return errors.New("want -minutes above 0, at least one cluster of two nodes, and one check a second")
	}

	var happened atomic.Uint64
	clusters := simulate(o, &happened)
	defer func() {
		for _, c := range clusters {
			c.Close()
		}
	}()
	d, err := startDaemon(ctx, clusters, stderr)
	if err != nil {
		return err
	}
	defer d.stop()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for i, c := range clusters {
		wg.Go(func() { c.trouble(ctx, rand.New(rand.NewPCG(o.seed, uint64(i)))) })
	}
	t := newTally(stderr)
	wg.Go(func() { askAll(ctx, d, clusters, o.rate, t) })
	looks, err := d.watch(ctx, o.length)
	cancel()
	wg.Wait()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d nodes in %d clusters, %d changes and faults, %d checks a second for %v, seed %d\n\n",
		o.clusters*o.nodes, o.clusters, happened.Load(), o.rate, warmUp+o.length, o.seed)
	return errors.Join(t.report(stdout), looks.report(stdout))
}

// simulate starts the clusters, each node at a port of its own: below those that the kernel gives to clients, so that a
// port that refuses for a while can be taken again.
func simulate(o options, happened *atomic.Uint64) []*troubled {
	var clusters []*troubled
	port := o.port
	for i := range o.clusters {
		var names []string
		for j := range o.nodes {
			names = append(names, fmt.Sprintf("pg%d", j+1))
		}
		name := fmt.Sprintf("c%d", i+1)
		first := port
		port += o.nodes
		c := nodetest.Options{Addr: func(node string) string {
			n, _ := strconv.Atoi(node[len("pg"):])
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(first+n-1))
		}}.NewCluster(name, names...)
		clusters = append(clusters, &troubled{Cluster: c, name: name, truth: truth{nodes: make(map[string][]phase)}, happened: happened})
	}
	return clusters
}
