// Package daemon runs the supervisor: it gives every other package what it needs of the
// configuration, and connects them. What runs is listed in run.go. A start and a reload
// both make a plan (plan.go) and the ports of it (ports.go), and then install them.
package daemon

import (
	"net"
	"net/netip"
	"os"
	"sync/atomic"
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

// Options say what a Daemon does.
type Options struct {
	Config  *config.Config
	Path    string // where Config was read, and is read again by a reload; "" = nowhere, so that a reload does nothing
	Version string // of the program
	Log     zerolog.Logger
	Opened  func(http, agents []net.Addr) // called once when all ports are open; may be nil
}

// Daemon is the supervisor with everything that asks it.
type Daemon struct {
	version string
	path    string // of the configuration; "" = it has no file
	opened  func(http, agents []net.Addr)
	log     zerolog.Logger

	plan       atomic.Pointer[plan] // that is installed; see install
	sup        *cluster.Supervisor
	http       *httpapi.Server
	agents     *agentapi.Server
	ports      *ports
	history    *history.File
	metrics    *metrics.Metrics
	discovered *discovered
	reloads    reloads
	hangups    chan os.Signal  // SIGHUP; several are as good as one
	running    *errgroup.Group // of all parts; set by Run
}

// New makes a daemon, which opens no port and makes no connection before Run. An error is
// about the configuration.
func New(o Options) (*Daemon, error) {
	d := &Daemon{
		version: o.Version, path: o.Path, opened: o.Opened, log: o.Log,
		metrics: metrics.New(), reloads: reloads{at: time.Now()}, hangups: make(chan os.Signal, 1),
	}
	p, err := newPlan(o.Config, found{pending: pendingText(o.Config, discovery.Status{})}, nil, d.metrics)
	if err != nil {
		return nil, err
	}
	d.plan.Store(p)
	d.sup = cluster.New(p.clusters)
	d.agents = agentapi.New(agentapi.Config{Asker: d.sup, Settings: p.agents, Log: o.Log})
	d.http = httpapi.New(httpapi.Config{
		Supervisor: d.sup, Settings: p.http, Version: o.Version, Metrics: d.metrics.Handler(o.Log), Log: o.Log,
		Certificates: d.certificates, Reasons: d.reasons, AgentLine: agentapi.AppendLine,
	})
	d.ports = newPorts(o.Log, d.fastAnswer)
	d.history = history.New(d.sup, o.Config.History.File, o.Config.History.Size, o.Log)
	d.discovered = newDiscovered(d)
	d.metrics.Register(metrics.Sources{
		Views: d.sup.Views, HTTP: d.http, Agents: d.agents, Certificates: d.certificates, Reloads: d.reloads.state,
		Discovery: d.discovered.state, Version: o.Version,
	})
	d.metrics.SetClusters(p.clusters.Clusters)
	return d, nil
}

// install makes a plan's nodes those that are polled and answered for.
func (d *Daemon) install(p *plan) {
	d.plan.Store(p)
	d.sup.Apply(p.clusters)
	d.metrics.SetClusters(p.clusters.Clusters)
}

// certificates are those that this program shows to others.
func (d *Daemon) certificates() []httpapi.Certificate { return d.plan.Load().certificates() }

// fastAnswer is how checks on a port are answered fast.
func (d *Daemon) fastAnswer(p *port) (linger time.Duration, answer listen.Answer) {
	if p.Service == config.FrontendHTTP {
		return 0, d.http.AnswerFast
	}
	return agentapi.LingerTimeout, func(peer netip.AddrPort, request, out []byte) []byte {
		return d.agents.AnswerFast(p.question.Load(), peer, request, out)
	}
}

// logNotes logs remarks about the configuration which are no errors.
func (d *Daemon) logNotes(notes []string) {
	for _, note := range notes {
		d.log.Warn().Str("file", d.path).Msg(note)
	}
}
