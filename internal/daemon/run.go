package daemon

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"patroniglue/internal/config"
)

// part is one of the things that the daemon does at the same time. It runs until ctx
// ends. An error before that ends the daemon.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// Run listens on everything or nothing, then polls and answers until ctx ends.
func (d *Daemon) Run(ctx context.Context) error {
	signal.Notify(d.hangups, syscall.SIGHUP)
	defer signal.Stop(d.hangups)
	d.logNotes(d.plan.Load().notes)
	if err := d.open(ctx); err != nil {
		return err
	}
	d.running, ctx = errgroup.WithContext(ctx)
	d.start(ctx)
	return d.wait(ctx)
}

// open listens on all addresses, and reads what earlier runs have saved.
func (d *Daemon) open(ctx context.Context) error {
	if err := d.ports.adopt(); err != nil {
		return err
	}
	wanted := d.plan.Load().cfg.ListenAddresses()
	ports, err := d.ports.prepare(ctx, wanted)
	if err != nil {
		return err
	}
	d.ports.commit(ports, wanted)
	if d.opened != nil {
		d.opened(d.ports.addrs(config.FrontendHTTP), d.ports.addrs(config.AgentChecks))
	}
	d.discovered.restore()
	d.history.Restore()
	return nil
}

// start begins all that the daemon does: the parts below, and one for each open port.
func (d *Daemon) start(ctx context.Context) {
	e := d.log.Info().Str("version", d.version).Stringer("http", d.ports.addrs(config.FrontendHTTP)[0])
	for _, addr := range d.ports.addrs(config.OperatorHTTP) {
		e.Stringer("operator", addr)
	}
	e.Msg("supervising")

	changes := d.sup.Subscribe(changeBuffer) // before the first poll, so that no change is missed
	d.discovered.watcher.Apply(d.plan.Load().source)
	for _, p := range *d.ports.open.Load() {
		d.serve(ctx, p)
	}
	for _, p := range []part{
		{"polls", d.sup.Run},                    // of every node, and what follows from them
		{"discovery", d.discovered.watcher.Run}, // reads from etcd which members there are
		{"reloads", unfailing(d.runReloads)},    // of the configuration and its files; installs what discovery read
		{"history", unfailing(d.history.Run)},   // writes changes to the history file
		{"log", unfailing(func(ctx context.Context) { logChanges(ctx, changes, d.log) })},
		{"health", unfailing(d.logHealth)},      // logs problems of the supervisor itself
		{"systemd", unfailing(d.notifySystemd)}, // ready, status line, watchdog, stopping
	} {
		d.begin(ctx, p)
	}
}

// unfailing makes a part's run of one that has no error.
func unfailing(run func(ctx context.Context)) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

// begin starts a part. Its error names it.
func (d *Daemon) begin(ctx context.Context, p part) {
	d.running.Go(func() error {
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		return nil
	})
}

// serve answers on a port until its stop is called.
func (d *Daemon) serve(ctx context.Context, p *port) {
	ctx, p.stop = context.WithCancel(ctx)
	d.begin(ctx, part{p.Key, func(ctx context.Context) error {
		defer p.stop()
		switch p.Service {
		case config.FrontendHTTP:
			return d.http.Serve(ctx, p)
		case config.OperatorHTTP:
			return d.http.ServeOperator(ctx, p)
		}
		return d.agents.Serve(ctx, p, p.question.Load)
	}})
}

// wait returns when all parts have ended: after ctx, or because one of them failed.
func (d *Daemon) wait(ctx context.Context) error {
	begun := time.Now()
	<-ctx.Done()
	d.log.Info().AnErr("cause", context.Cause(ctx)).Msg("stopping")
	err := d.running.Wait()
	d.history.Flush() // the changes that came last
	d.history.Close()
	d.log.Info().Err(err).Stringer("uptime", time.Since(begun).Round(time.Second)).Msg("stopped")
	return err
}
