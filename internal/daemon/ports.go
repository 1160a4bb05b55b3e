package daemon

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/internal/config"
	"patroniglue/internal/listen"
)

// port is an open socket on which a service is answered.
type port struct {
	config.ListenAddress // as configured; a reload may change what is answered there
	net.Listener
	question atomic.Pointer[cluster.Question] // of a dedicated agent port
	stop     context.CancelFunc               // ends the answering; set when it begins
}

// fastAnswer returns how a port is answered fast, and how long an answered connection
// may wait for its peer to close it.
type fastAnswer func(*port) (linger time.Duration, answer listen.Answer)

// ports are all open sockets. Only one goroutine changes them.
type ports struct {
	log    zerolog.Logger
	fast   fastAnswer
	opener *listen.Opener          // set by adopt
	unfit  map[string]bool         // passed sockets that fit no configured address, which was logged
	open   atomic.Pointer[[]*port] // in the order of the configuration
}

func newPorts(log zerolog.Logger, fast fastAnswer) *ports {
	p := &ports{log: log, fast: fast, unfit: make(map[string]bool)}
	p.open.Store(new([]*port))
	return p
}

// adopt takes over the sockets that systemd passed.
func (p *ports) adopt() (err error) {
	p.opener, err = listen.NewOpener()
	return err
}

// prepare returns a port for each wanted address: those that are open already, and new
// ones, all of them or none. Ports that are no longer wanted stay open.
func (p *ports) prepare(ctx context.Context, wanted []config.ListenAddress) ([]*port, error) {
	leaving := slices.Clone(*p.open.Load())
	next := make([]*port, len(wanted))
	for i, w := range wanted {
		if at := slices.IndexFunc(leaving, func(o *port) bool { return o.HostPort == w.HostPort && o.Service == w.Service && o.Fast == w.Fast }); at >= 0 {
			next[i] = leaving[at]
			leaving = slices.Delete(leaving, at, at+1)
		}
	}
	for i, w := range wanted {
		if next[i] != nil {
			continue
		}
		o, err := p.openPort(ctx, w, leaving)
		if err != nil {
			for _, o := range p.begun(next) {
				o.Close()
			}
			return nil, err
		}
		next[i] = o
	}
	return next, nil
}

// openPort listens on an address. The leaving ports are about to close.
func (p *ports) openPort(ctx context.Context, wanted config.ListenAddress, leaving []*port) (*port, error) {
	var lc net.ListenConfig
	doing := "listening for HTTP"
	if wanted.Service == config.AgentChecks {
		lc.KeepAlive = -1 // a connection lives for seconds: it would only cost system calls
		doing = fmt.Sprintf("listening for agent checks on %q", wanted.HostPort)
	}
	var closing []net.Listener
	for _, o := range leaving {
		closing = append(closing, o.Listener)
	}
	_, number, _ := config.SplitAddress(wanted.HostPort) // listening has a better error
	ln, err := p.opener.Open(ctx, lc, wanted.HostPort, number, closing)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	o := &port{ListenAddress: wanted, Listener: ln}
	if wanted.Fast {
		linger, answer := p.fast(o)
		if o.Listener, err = listen.Fast(ln, linger, answer); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
	}
	return o, nil
}

// begun are the ports of next that are new.
func (p *ports) begun(next []*port) []*port {
	open := *p.open.Load()
	return slices.DeleteFunc(slices.Clone(next), func(o *port) bool { return o == nil || slices.Contains(open, o) })
}

// commit makes next the open ports. It returns those that are new and those that are
// no longer wanted.
func (p *ports) commit(next []*port, wanted []config.ListenAddress) (begun, leaving []*port) {
	begun = p.begun(next)
	leaving = slices.DeleteFunc(slices.Clone(*p.open.Load()), func(o *port) bool { return slices.Contains(next, o) })
	for i, o := range next {
		o.Key = wanted[i].Key
		o.question.Store(questionOf(wanted[i]))
	}
	p.open.Store(&next)
	p.logPassed(next, begun)
	return begun, leaving
}

// questionOf is the question that a dedicated agent port answers; nil for every other port.
func questionOf(a config.ListenAddress) *cluster.Question {
	if a.Check == "" {
		return nil
	}
	return &cluster.Question{Cluster: a.Cluster, Node: a.Node, Check: a.Check}
}

// addrs are the addresses on which a service is answered.
func (p *ports) addrs(service config.Service) (addrs []net.Addr) {
	for _, o := range *p.open.Load() {
		if o.Service == service {
			addrs = append(addrs, o.Addr())
		}
	}
	return addrs
}

// logPassed logs which of the new ports systemd passed no socket for, and which of its
// sockets fit no configured address, each time that this begins.
func (p *ports) logPassed(open, begun []*port) {
	passed := p.opener.Passed()
	if len(passed) == 0 {
		return
	}
	hasAddr := func(addr net.Addr) func(net.Addr) bool {
		return func(other net.Addr) bool { return other.String() == addr.String() }
	}
	for _, o := range begun {
		if !slices.ContainsFunc(passed, hasAddr(o.Addr())) {
			p.log.Warn().Str("address", o.HostPort).Str("for", o.Key).Msg("systemd passed no socket for this address: while the daemon restarts, connections are refused there")
		}
	}
	var wanted []string
	var addrs []net.Addr
	for _, o := range open {
		wanted, addrs = append(wanted, o.HostPort+" ("+o.Key+")"), append(addrs, o.Addr())
	}
	for _, addr := range passed {
		unfit := !slices.ContainsFunc(addrs, hasAddr(addr))
		if unfit && !p.unfit[addr.String()] {
			p.log.Error().Stringer("socket", addr).
				Msg("systemd passed a socket that fits no configured address, so connections to it are not answered: want " + strings.Join(wanted, ", "))
		}
		p.unfit[addr.String()] = unfit
	}
}
