package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
	"patroniglue/internal/config"
	"patroniglue/internal/history"
	"patroniglue/internal/listen"
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
	wanted := d.plan.Load().cfg.ListenAddresses()
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

// newDaemon gives each package what it needs of the configuration at path. It
// opens no port and contacts nobody.
func New(path string, cfg *config.Config, version string, log zerolog.Logger) (*Daemon, error) {
	d := &Daemon{version: version, path: path, log: log, history: history.New(cfg.History.File, cfg.History.Size, log), ports: newPorts(log)}
	certificates := func() []httpapi.Certificate { return d.plan.Load().certificates() }
	d.metrics = metrics.New()
	d.discovered = newDiscovered(d)
	p, err := newPlan(cfg, found{pending: pendingText(cfg, discovery.Status{})}, nil, d.metrics)
	if err != nil {
		return nil, err
	}
	d.plan.Store(p)
	d.sup = cluster.New(p.clusters)
	d.http = httpapi.New(httpapi.Config{
		Supervisor: d.sup, Settings: p.http, Version: version, Metrics: d.metrics.Handler(log), Log: log,
		Certificates: certificates, Reasons: d.reasons, AgentLine: agentapi.AppendLine,
	})
	d.agents = agentapi.New(agentapi.Config{Asker: d.sup, Settings: p.agents, Log: log})
	d.ports.fast = d.fast
	d.metrics.Register(metrics.Sources{
		Views: d.sup.Views, Http: d.http, Agents: d.agents, Certificates: certificates, Reloads: d.reloads.state, Discovery: d.discovered.state,
		Version: version,
	})
	d.metrics.Keep(p.clusters.Clusters)
	return d, nil
}

// fast answers plain checks on a port.
func (d *Daemon) fast(p *port) (linger time.Duration, answer listen.Answer) {
	if p.Service == config.FrontendHTTP {
		return 0, d.http.AnswerFast
	}
	return agentapi.LingerTimeout, func(peer netip.AddrPort, first, out []byte) []byte {
		return d.agents.AnswerFast(p.question.Load(), peer, first, out)
	}
}
