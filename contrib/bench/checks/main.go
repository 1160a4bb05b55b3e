//go:build linux

// Command checks measures what a health check costs: of Patroni itself, of nginx with a cache in front of it, of nginx
// and HAProxy with an answer that never changes (the machine's limit for HTTP), and of patroniglue, whose agent check
// has a row of its own. It starts one real cluster (contrib/lab; root on Debian) and prints one table in Markdown.
//
//	go run ./contrib/bench/checks -rounds 3 -duration 2s -variants nginx,static,ours
//
// One thread asks, over raw sockets and with the bytes that HAProxy 2.6 sends, over some connections at once; each asks
// again as soon as it is answered. So "checks/s" and the latencies are those of a server that has all it can do, and on
// a machine of two cores the asker takes one of them. The robust figure is the processor time of the server per check.
// With -connections 1 it includes going to sleep and waking up for each check, as those of a few load balancers do.
//
// Variants run one after another, round by round, each alone. Every measurement is made twice: while Patroni of the node
// asked about works, and while it is stopped by SIGSTOP. Figures are medians of the rounds, ratios medians of the ratios
// of the rounds.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
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
		fmt.Fprintln(os.Stderr, "checks:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds      int
	variants    []variant
	duration    time.Duration
	connections int
	program     string
}

// longest is for how long a measurement may last: patroniglue believes a frozen node's last answer for 5 s.
const longest = 3 * time.Second

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var all []string
	for _, v := range variants {
		all = append(all, v.name)
	}
	names := strings.Join(all, ",")
	fs := flag.NewFlagSet("checks", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintln(stderr, "checks measures what a health check costs; see its package comment.")
		fs.PrintDefaults()
		fmt.Fprintln(stderr, "variants:")
		for _, v := range variants {
			fmt.Fprintf(stderr, "  %-8s %s\n", v.name, v.what)
		}
	}
	fs.IntVar(&o.rounds, "rounds", 3, "measurements of each variant")
	fs.StringVar(&names, "variants", names, "which, in their order, by comma")
	fs.DurationVar(&o.duration, "duration", 2*time.Second, "of one measurement, at most "+longest.String())
	fs.IntVar(&o.connections, "connections", 8, "how many ask at once")
	fs.StringVar(&o.program, "program", "", "measure this patroniglue, not the one of this checkout")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("want only flags (got %q)", fs.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds: want 1 or more (got %d)", o.rounds)
	}
	if o.duration <= 0 || o.duration > longest {
		return o, fmt.Errorf("-duration: want more than 0 and at most %v (got %v)", longest, o.duration)
	}
	if o.connections < 1 || o.connections > 1000 {
		return o, fmt.Errorf("-connections: want 1 to 1000 (got %d)", o.connections)
	}
	for name := range strings.SplitSeq(names, ",") {
		v, err := findVariant(strings.TrimSpace(name))
		if err != nil {
			return o, fmt.Errorf("-variants: %w", err)
		}
		o.variants = append(o.variants, v)
	}
	return o, nil
}

// bench is what all measurements share.
type bench struct {
	options
	run    string // the directory of the server that is measured
	lab    *lab.Lab
	node   lab.Node // the primary, which is asked about
	answer int      // bytes that its Patroni answers
	log    io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // Debian's servers are not in everybody's
	if err := checkMachine(ctx, o.variants); err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "patroniglue-checks-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are not root
		return err
	}
	b := &bench{options: o, run: filepath.Join(dir, "run"), log: stderr}
	if b.program == "" {
		if b.program, err = lab.Build(ctx, dir); err != nil {
			return err
		}
	}
	if b.program, err = filepath.Abs(b.program); err != nil {
		return err
	}

	fmt.Fprintln(stderr, "starting the cluster")
	b.lab, err = lab.Start(ctx, lab.Options{Parts: []string{lab.ETCD, lab.Patroni}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	if b.node, err = b.lab.Primary(ctx); err != nil {
		return err
	}
	answer, err := b.askPatroni(ctx)
	if err != nil {
		return err
	}
	b.answer = len(answer)

	results := newResults(o.variants)
	for round := range o.rounds {
		for _, v := range o.variants {
			fmt.Fprintf(stderr, "round %d of %d, %s\n", round+1, o.rounds, v.name)
			if err := b.measure(ctx, v, func(keep bool, p pair) {
				r := find(results, v.name, keep)
				r.pairs = append(r.pairs, p)
			}); err != nil {
				writeTable(stdout, results) // what there is took minutes
				return fmt.Errorf("measuring %s: %w", v.name, cmp.Or(context.Cause(ctx), err))
			}
		}
	}
	writeTable(stdout, results)
	fmt.Fprintf(stdout, "\nMedians of %d rounds of %v; connections at once: %d.\n", o.rounds, o.duration, o.connections)
	return nil
}

// checkMachine says what is missing to measure these variants.
func checkMachine(ctx context.Context, variants []variant) error {
	if os.Geteuid() != 0 {
		return errors.New("want root, to run PostgreSQL as its own user")
	}
	if err := lab.Check(ctx, lab.ETCD, lab.Patroni); err != nil {
		return err
	}
	for _, v := range variants {
		if v.program == "" {
			continue
		}
		if _, err := exec.LookPath(v.program); err != nil {
			return fmt.Errorf("%s is missing; on Debian: apt-get install %s", v.program, v.debian)
		}
	}
	return nil
}

// askPatroni returns what the node's Patroni answers to /primary, which has to be 200.
func (b *bench) askPatroni(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.node.URL+"/primary", nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("asking %s: %s: %s", b.node.URL, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}
