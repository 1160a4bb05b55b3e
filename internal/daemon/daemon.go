package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/config"
	"patroniglue/internal/history"
	"patroniglue/internal/metrics"
)

// daemon is the supervisor with everything that asks it.
type Daemon struct {
	version string
	path    string // of the configuration; "" = there is none to load anew
	plan    atomic.Pointer[plan]
	sup     *cluster.Supervisor
	http    *httpapi.Server
	agents  *agentapi.Server
	ports   *ports
	history *history.File
	metrics *metrics.Metrics
	reloads reloads

	discovered *discovered

	log    zerolog.Logger
	Opened func(http, agents []net.Addr) // called when all ports are open, for the demo; may be nil
	serve  func(*port)                   // answers on it until its stop is called, or run ends; set by run
}

// run listens on everything or nothing, then polls and answers until ctx ends.
func (d *Daemon) Run(ctx context.Context) error {
	hangups := make(chan os.Signal, 1) // several are as good as one
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	if err := d.ports.adopt(); err != nil {
		return err
	}
	wanted := d.plan.Load().cfg.Addresses()
	ports, err := d.ports.prepare(ctx, wanted)
	if err != nil {
		return err
	}
	ports, _ = d.ports.commit(ports, wanted)
	if d.Opened != nil {
		d.Opened(d.ports.addrs(config.FrontendHTTP), d.ports.addrs(config.AgentChecks))
	}
	d.discovered.restore()
	d.history.Restore(d.sup)
	defer d.history.Close()
	defer d.history.Flush(d.sup) // what changed while all stopped
	changes := d.sup.Subscribe(changeBuffer)
	defer changes.Close()
	d.reloads.at = time.Now()
	e := d.log.Info().Str("version", d.version).Stringer("http", d.ports.addrs(config.FrontendHTTP)[0])
	for _, addr := range d.ports.addrs(config.OperatorHTTP) {
		e.Stringer("operator", addr)
	}
	e.Msg("supervising")

	eg, ctx := errgroup.WithContext(ctx)
	d.serve = func(p *port) {
		ctx, cancel := context.WithCancel(ctx)
		p.stop = cancel
		eg.Go(func() error {
			defer cancel()
			switch p.Service {
			case config.FrontendHTTP:
				return d.http.Serve(ctx, p)
			case config.OperatorHTTP:
				return d.http.ServeOperator(ctx, p)
			}
			return d.agents.Serve(ctx, p, p.question.Load)
		})
	}
	for _, p := range ports {
		d.serve(p)
	}
	eg.Go(func() error { return d.sup.Run(ctx) })
	d.discovered.watcher.Apply(d.plan.Load().source)
	eg.Go(func() error { return d.discovered.watcher.Run(ctx) })
	eg.Go(func() error {
		logChanges(ctx, changes, d.log)
		return nil
	})
	eg.Go(func() error {
		d.history.Write(ctx, d.sup)
		return nil
	})
	eg.Go(func() error {
		if d.sup.WaitReady(ctx) == nil {
			own := d.logOwnHealth(nil)
			d.logHealth()
			d.watchOwnHealth(ctx, own)
		}
		return nil
	})
	eg.Go(func() error {
		d.watchConfig(ctx, hangups)
		return nil
	})
	eg.Go(func() error { return d.tellSystemd(ctx) })
	eg.Go(func() error {
		<-ctx.Done()
		d.log.Info().AnErr("cause", context.Cause(ctx)).Msg("stopping")
		return nil
	})
	begun := time.Now()
	err = eg.Wait()
	d.log.Info().Err(err).Stringer("uptime", time.Since(begun).Round(time.Second)).Msg("stopped")
	return err
}

// listenError says what would help where that is known.
func listenError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: want a free port, or an end of the program that has this one (ss -ltnp shows it)", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: want a port from 1024, or the capability CAP_NET_BIND_SERVICE (patroniglue.service shows how)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: want an address of this machine, or none for all", err)
	}
	return err
}

// reasons are what is wrong with the supervisor itself.
func (d *Daemon) reasons() []cluster.Reason {
	return slices.Concat(d.reloads.reasons(), d.discovered.reasons(time.Now()))
}

// logHealth says once what every cluster looks like when each node was polled:
// what was wrong before the start is no change, and would not be logged.
func (d *Daemon) logHealth() {
	now := time.Now()
	for _, v := range d.sup.Views() {
		h := v.Health(now)
		e := d.log.WithLevel(levelOfHealth(h.Level)).Str("cluster", v.Cluster).Str("leader", cmp.Or(v.Leader, "none")).Stringer("health", h.Level)
		if len(h.Reasons) > 0 {
			e = e.Str("reason", reasonsText(h.Reasons))
		}
		e.Msg("ready: every node was polled")
	}
}

// watchOwnHealth logs what begins to be wrong with the supervisor itself after
// before, and when it is over, until ctx ends.
func (d *Daemon) watchOwnHealth(ctx context.Context, before []cluster.Reason) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	for {
		select {
		case <-looks.C:
			before = d.logOwnHealth(before)
		case <-ctx.Done():
			return
		}
	}
}

// logOwnHealth logs what is new and what is gone since before, and gives what is so now.
func (d *Daemon) logOwnHealth(before []cluster.Reason) []cluster.Reason {
	now := d.http.OwnHealth(time.Now()).Reasons
	for _, r := range before {
		if !slices.Contains(now, r) {
			d.log.Info().Str("reason", r.Text).Msg("no longer wrong with the supervisor itself")
		}
	}
	for _, r := range now {
		if !slices.Contains(before, r) && r.Code != cluster.CodeReloadFailed { // which reload and look have logged
			d.log.WithLevel(levelOfHealth(r.Level)).Str("reason", r.Text).Msg("something is wrong with the supervisor itself")
		}
	}
	return now
}
