package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Opener opens listening sockets. An address for which systemd passed a socket to the
// process gets that socket, every other address a new one. It is for one goroutine.
type Opener struct {
	passed []passedSocket
}

// passedSocket is a listening socket that systemd opened before it started this
// process, and keeps open after its end: connections wait there meanwhile
// (systemd.socket(5)). It is kept even when nothing listens on it, because a later
// configuration may have its address.
type passedSocket struct {
	file *os.File
	addr net.Addr
}

// NewOpener takes over the sockets that systemd passed (sd_listen_fds(3)).
func NewOpener() (*Opener, error) {
	var o Opener
	for _, f := range activation.Files(true) {
		ln, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("taking socket %d (%s) from systemd: want a listening stream socket: %w", f.Fd(), f.Name(), err)
		}
		o.passed = append(o.passed, passedSocket{f, ln.Addr()})
		ln.Close() // it is a duplicate
	}
	return &o, nil
}

// Passed returns the addresses of the sockets that systemd passed.
func (o *Opener) Passed() []net.Addr {
	var addrs []net.Addr
	for _, s := range o.passed {
		addrs = append(addrs, s.addr)
	}
	return addrs
}

// Open listens on addr, whose port has the given number. An address that only
// listeners which are about to close have in use is no obstacle. An error says what
// would help, where that is known.
func (o *Opener) Open(ctx context.Context, lc net.ListenConfig, addr string, port int, closing []net.Listener) (net.Listener, error) {
	ln, err := o.openPassed(addr)
	if ln == nil && err == nil {
		ln, err = lc.Listen(ctx, "tcp", addr)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		closing = slices.DeleteFunc(slices.Clone(closing), func(c net.Listener) bool { return c.Addr().(*net.TCPAddr).Port != port })
		if shareable(closing) {
			ln, err = listenBeside(ctx, lc, addr)
		}
	}
	if err != nil {
		return nil, withHint(err)
	}
	return ln, nil
}

// openPassed returns the socket that systemd passed for addr, or nil without one.
func (o *Opener) openPassed(addr string) (net.Listener, error) {
	if len(o.passed) == 0 {
		return nil, nil
	}
	want, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, nil // listening has a better error
	}
	for _, s := range o.passed {
		if is, ok := s.addr.(*net.TCPAddr); ok && is.Port == want.Port && (is.IP.Equal(want.IP) || isAll(is.IP) && isAll(want.IP)) {
			return net.FileListener(s.file)
		}
	}
	return nil, nil
}

// isAll: Go listens on all addresses of both families for each of :port,
// 0.0.0.0:port and [::]:port.
func isAll(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }

// shareable makes other sockets of the same user able to listen on the ports of
// listeners, and reports whether that worked for all of them.
func shareable(listeners []net.Listener) bool {
	for _, ln := range listeners {
		c, err := ln.(syscall.Conn).SyscallConn()
		if err != nil || reusePort(c) != nil {
			return false
		}
	}
	return len(listeners) > 0
}

// listenBeside listens on a port that shareable listeners have, for instance on all
// addresses while one of them listens on localhost. The kernel permits it when all
// these sockets have SO_REUSEPORT and belong to one user (socket(7)). All other
// sockets lack it, so they keep their port, and a second daemon is refused.
func listenBeside(ctx context.Context, lc net.ListenConfig, addr string) (net.Listener, error) {
	lc.Control = func(_, _ string, c syscall.RawConn) error { return reusePort(c) }
	return lc.Listen(ctx, "tcp", addr)
}

func reusePort(c syscall.RawConn) (err error) {
	if controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); controlErr != nil {
		return controlErr
	}
	return err
}

// withHint adds to an error of listening what would help.
func withHint(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: want a free port, or stop the program that has it (ss -ltnp shows it)", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: want a port from 1024, or the capability CAP_NET_BIND_SERVICE (patroniglue.service shows how)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: want an address of this machine, or none for all", err)
	}
	return err
}
