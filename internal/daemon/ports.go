package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"patroniglue/cluster"
	"patroniglue/internal/config"
	"patroniglue/internal/listen"
)

// port is an open socket that is answered on.
type port struct {
	config.ListenAddress // as configured; what is answered there may change
	net.Listener
	question atomic.Pointer[cluster.Question] // of a dedicated agent port
	stop     context.CancelFunc               // set when it is served
}

// ports are all sockets that are open. Only one goroutine changes them.
type ports struct {
	log    zerolog.Logger
	fast   func(*port) (linger time.Duration, answer listen.Answer) // fast answers for those that have them; nil = there is none
	passed []*passedSocket
	open   atomic.Pointer[[]*port]
}

// passedSocket is a listening socket that systemd opened before it started us,
// and keeps open when we end: connections wait in it then (systemd.socket(5)).
// It is kept whether it is used or not: a reload may come to it.
type passedSocket struct {
	file *os.File
	addr net.Addr
	used bool
}

func newPorts(log zerolog.Logger) *ports {
	p := &ports{log: log}
	p.open.Store(new([]*port))
	return p
}

// adopt takes what systemd passed (sd_listen_fds(3)).
func (p *ports) adopt() error {
	for _, f := range activation.Files(true) {
		ln, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("taking socket %d (%s) from systemd: want a listening stream socket: %w", f.Fd(), f.Name(), err)
		}
		p.passed = append(p.passed, &passedSocket{file: f, addr: ln.Addr(), used: true})
		ln.Close() // a duplicate
	}
	return nil
}

// prepare gives a port for each of wanted: those that are open already, and new
// ones, all of them or none. What is not wanted any more is still open.
func (p *ports) prepare(ctx context.Context, wanted []config.ListenAddress) (_ []*port, err error) {
	leaving := slices.Clone(*p.open.Load())
	next := make([]*port, len(wanted))
	for i, l := range wanted {
		if at := slices.IndexFunc(leaving, func(o *port) bool { return o.HostPort == l.HostPort && o.Service == l.Service && o.Fast == l.Fast }); at >= 0 {
			next[i] = leaving[at]
			leaving = slices.Delete(leaving, at, at+1)
		}
	}
	for i, l := range wanted {
		if next[i] != nil {
			continue
		}
		o := &port{ListenAddress: l}
		if o.Listener, err = p.listen(ctx, l, leaving); err == nil && l.Fast && p.fast != nil {
			linger, answer := p.fast(o)
			o.Listener, err = listen.Fast(o.Listener, linger, answer)
		}
		if err != nil {
			closeAll(p.begun(next))
			return nil, listenError(err)
		}
		next[i] = o
	}
	return next, nil
}

// begun are those of next that are not open yet.
func (p *ports) begun(next []*port) []*port {
	open := *p.open.Load()
	return slices.DeleteFunc(slices.Clone(next), func(o *port) bool { return o == nil || slices.Contains(open, o) })
}

func closeAll(ports []*port) {
	for _, o := range ports {
		o.Close()
	}
}

// commit makes next the open ports, and gives those that are new and those that
// are not wanted any more.
func (p *ports) commit(next []*port, wanted []config.ListenAddress) (begun, leaving []*port) {
	begun = p.begun(next)
	leaving = slices.DeleteFunc(slices.Clone(*p.open.Load()), func(o *port) bool { return slices.Contains(next, o) })
	for i, o := range next {
		o.Key = wanted[i].Key
		o.question.Store(questionOf(wanted[i]))
	}
	p.open.Store(&next)
	p.tellPassed(next, begun)
	return begun, leaving
}

// questionOf is what a dedicated agent port answers; nil for every other port.
func questionOf(l config.ListenAddress) *cluster.Question {
	if l.Check == "" {
		return nil
	}
	return &cluster.Question{Cluster: l.Cluster, Node: l.Node, Check: l.Check}
}

// addrs gives where a service is answered.
func (p *ports) addrs(of config.Service) (addrs []net.Addr) {
	for _, o := range *p.open.Load() {
		if o.Service == of {
			addrs = append(addrs, o.Addr())
		}
	}
	return addrs
}

func (p *ports) listen(ctx context.Context, l config.ListenAddress, leaving []*port) (net.Listener, error) {
	var lc net.ListenConfig
	doing := "listening for HTTP"
	if l.Service == config.AgentChecks {
		lc.KeepAlive = -1 // a connection lives for seconds: it would only cost system calls
		doing = fmt.Sprintf("listening for agent checks on %q", l.HostPort)
	}
	ln, err := p.passedTo(l.HostPort)
	if ln == nil && err == nil {
		ln, err = lc.Listen(ctx, "tcp", l.HostPort)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		ln, err = listenBeside(ctx, lc, l, leaving, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return ln, nil
}

// passedTo gives the socket of that address that systemd passed, nil when there
// is none.
func (p *ports) passedTo(addr string) (net.Listener, error) {
	if len(p.passed) == 0 {
		return nil, nil
	}
	want, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, nil // listening says so better
	}
	for _, s := range p.passed {
		if is, ok := s.addr.(*net.TCPAddr); ok && is.Port == want.Port && (is.IP.Equal(want.IP) || isAll(is.IP) && isAll(want.IP)) {
			return net.FileListener(s.file)
		}
	}
	return nil, nil
}

// isAll: Go listens on all addresses of both families, whichever of :port,
// 0.0.0.0:port and [::]:port it is given.
func isAll(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }

// tellPassed says which sockets of systemd's fit no address, whenever that
// changes, and which of the new ports had none.
func (p *ports) tellPassed(open, begun []*port) {
	if len(p.passed) == 0 {
		return
	}
	var wanted []string
	for _, o := range open {
		wanted = append(wanted, o.HostPort+" ("+o.Key+")")
		if slices.Contains(begun, o) && !slices.ContainsFunc(p.passed, func(s *passedSocket) bool { return s.addr.String() == o.Addr().String() }) {
			p.log.Warn().Str("address", o.HostPort).Str("for", o.Key).Msg("systemd passed no socket for this address: while the daemon restarts, connections are refused there")
		}
	}
	for _, s := range p.passed {
		used := slices.ContainsFunc(open, func(o *port) bool { return s.addr.String() == o.Addr().String() })
		if s.used && !used {
			p.log.Error().Stringer("socket", s.addr).
				Msg("systemd passed a socket that fits no address of the configuration, so nobody answers there: want " + strings.Join(wanted, ", "))
		}
		s.used = used
	}
}

// listenBeside listens where only ports that are about to close are in the way:
// localhost:8009 and all addresses with that port. The kernel lets both listen
// when both have SO_REUSEPORT (socket(7)) and belong to one user. Whoever has not,
// as every daemon that starts, is refused as before.
func listenBeside(ctx context.Context, lc net.ListenConfig, l config.ListenAddress, leaving []*port, inUse error) (net.Listener, error) {
	_, wanted, err := config.SplitAddress(l.HostPort)
	if err != nil {
		return nil, inUse
	}
	same := slices.DeleteFunc(slices.Clone(leaving), func(o *port) bool { return o.Addr().(*net.TCPAddr).Port != wanted })
	if len(same) == 0 {
		return nil, inUse
	}
	for _, o := range same {
		if c, err := o.Listener.(syscall.Conn).SyscallConn(); err != nil || reusePort(c) != nil {
			return nil, inUse
		}
	}
	lc.Control = func(_, _ string, c syscall.RawConn) error { return reusePort(c) }
	return lc.Listen(ctx, "tcp", l.HostPort)
}

func reusePort(c syscall.RawConn) (err error) {
	if controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); controlErr != nil {
		return controlErr
	}
	return err
}
