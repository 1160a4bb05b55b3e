// Command switchover measures how long the clients of a Patroni cluster wait at a switchover: of libpq alone, of
// Patroni's own HAProxy template, and of patroniglue in several settings. It starts one real cluster (contrib/lab; root
// on Debian) and prints one table.
//
//	go run ./contrib/bench/switchover -rounds 3 -variants b,c,c100
//
// A client opens a connection every 20 ms, whatever became of the ones before, inserts a row and disconnects. The gap
// is the longest time between two writes that were acknowledged.
//
// Variants run one after another, round by round, each with its own processes alone on the machine: several daemons at
// once would poll Patroni more than any of them does, and two cores would measure each other. Beside each one, started
// by the same tick, runs a second client: libpq's way straight to the nodes. So every gap is divided by the floor of
// the very same switchover, and how long PostgreSQL took this time drops out.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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
		fmt.Fprintln(os.Stderr, "switchover:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds   int
	variants []variant
	event    event
	reads    bool
	markdown bool
	program  string
	suite    lab.Suite
	keep     string
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	names, loss := strings.Join(variantNames(), ","), false
	var tries []string
	fs := flag.NewFlagSet("switchover", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintln(stderr, "switchover measures what clients notice of a switchover; see its package comment.")
		fs.PrintDefaults()
		fmt.Fprintln(stderr, "variants:")
		for _, v := range variants {
			fmt.Fprintf(stderr, "  %-10s %s\n", v.name, v.what)
		}
	}
	fs.IntVar(&o.rounds, "rounds", 3, "switchovers of each variant")
	fs.StringVar(&names, "variants", names, "which, in their order, by comma; the floor (a) always runs along")
	fs.Func("try", "`\"NAME, KEY=VALUE, ...\"`: one variant more, NAME with other settings of haproxy.cfg, or of [backend] where the key is one of an interval; may be repeated", func(s string) error {
		tries = append(tries, s)
		return nil
	})
	fs.BoolVar(&o.reads, "reads", false, "measure reads through the read port, not writes")
	fs.BoolVar(&loss, "loss", false, "kill -9 the primary's PostgreSQL and Patroni instead of a planned switchover")
	fs.BoolVar(&o.markdown, "markdown", false, "print markdown")
	fs.StringVar(&o.program, "program", "", "measure this patroniglue, not the one of this checkout")
	fs.StringVar((*string)(&o.suite), "suite", lab.Bookworm.String(), "whose etcd, Patroni, PostgreSQL and HAProxy: bookworm is this machine's; trixie, forky")
	fs.StringVar(&o.keep, "keep", "", "copy the logs of every switchover to this `DIR`")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("want only flags (got %q)", fs.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds: want 1 or more (got %d)", o.rounds)
	}
	if loss {
		o.event = loseNode
	}
	for name := range strings.SplitSeq(names, ",") {
		v, err := findVariant(strings.TrimSpace(name))
		if err != nil {
			return o, fmt.Errorf("-variants: %w", err)
		}
		o.variants = append(o.variants, v)
	}
	for i := range o.variants {
		switch v := &o.variants[i]; {
		case loss && v.announce:
			v.missing = "nobody announces a loss"
		case o.reads && v.asked:
			v.missing = "nobody reads in it"
		}
	}
	for _, s := range tries {
		v, err := parseTry(s)
		if err != nil {
			return o, fmt.Errorf("-try: %w", err)
		}
		o.variants = append(o.variants, v)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("want root, to run PostgreSQL as its own user")
	}
	labOptions := lab.Options{Suite: o.suite, Parts: []string{lab.ETCD, lab.Patroni, lab.HAProxy}}
	if err := labOptions.Check(ctx); err != nil {
		return err
	}
	for _, name := range os.Environ() { // PGHOST and its like are not meant for this cluster
		if name, _, _ := strings.Cut(name, "="); strings.HasPrefix(name, "PG") {
			os.Unsetenv(name)
		}
	}

	dir, err := os.MkdirTemp("", "patroniglue-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Patroni, which is not root, has to find the callback.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b := &bench{dir: dir, program: o.program, event: o.event, reads: o.reads, keep: o.keep, log: stderr, acked: make(map[string]bool)}
	if b.program == "" {
		if b.program, err = lab.Build(ctx, dir); err != nil {
			return err
		}
	}
	if b.program, err = filepath.Abs(b.program); err != nil {
		return err
	}

	callback, err := b.writeCallback(ctx)
	if err != nil {
		return err
	}

	fmt.Fprintln(stderr, "starting the cluster")
	labOptions.Parts, labOptions.Visible, labOptions.Callback = []string{lab.ETCD, lab.Patroni}, []string{dir}, callback+" {node} {http}"
	b.lab, err = lab.Start(ctx, labOptions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	parts, err := o.suite.Versions(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: Patroni %s, PostgreSQL %s, HAProxy %s\n\n", o.suite, parts.Patroni, parts.PostgreSQL, parts.HAProxy)

	var results []result
	for _, v := range o.variants {
		results = append(results, result{variant: v})
	}
	for round := range o.rounds {
		for i := range results {
			r := &results[i]
			if r.variant.missing != "" {
				continue
			}
			fmt.Fprintf(stderr, "round %d of %d, %s: ", round+1, o.rounds, r.variant.name)
			if err := b.add(ctx, r); err != nil {
				writeTables(stdout, results, b.reads, o.markdown) // what there is took minutes
				return fmt.Errorf("measuring %s: %w", r.variant.name, cmp.Or(context.Cause(ctx), err))
			}
		}
	}
	lost, err := b.lostWrites(ctx)
	if err != nil {
		return err
	}
	writeTables(stdout, results, b.reads, o.markdown)
	if len(b.acked) > 0 {
		fmt.Fprintf(stdout, "\n%d writes were acknowledged, %d of them are lost.\n", len(b.acked), lost)
	}
	return nil
}

// add lets a variant see one event.
func (b *bench) add(ctx context.Context, r *result) error {
	if r.variant.asked {
		d, err := b.measureAnswers(ctx, r.variant)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.log, "new primary %v later than Patroni, old %v\n", d.in.Round(time.Millisecond), d.out.Round(time.Millisecond))
		r.delays = append(r.delays, d)
		return nil
	}
	s, err := b.measure(ctx, r.variant)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.log, "gap %s, floor %s, failed %d\n", seconds(s.variant.gap), seconds(s.floor.gap), s.variant.failed())
	r.samples = append(r.samples, s)
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
