package listen

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fastListener is the listener that Fast makes. It has an epoll instance of its own,
// and the goroutine that calls Accept does the work. To register each connection with
// the runtime's poller, and to park and wake a goroutine for it, would double the cost
// of a check.
//
// The system calls are raw ones, of which the scheduler is not told. That is safe, as
// none of them can block: every socket is non-blocking. Only the wait for the next
// connection is an ordinary system call.
type fastListener struct {
	addr   net.Addr
	answer Answer
	linger time.Duration // how long an answered connection stays open at most

	epoll, socket int // file descriptors
	wake          int // an eventfd; readable once the listener is about to close
	once          sync.Once

	mu      sync.Mutex // held by Accept; guards the rest
	closed  bool
	in      [maxRequest]byte
	out     []byte
	waiting []answered // for their peers to close; the oldest in front
}

// answered is a connection that has its answer, and that its peer should close.
type answered struct {
	socket int
	until  time.Time
}

func newFast(ln *net.TCPListener, linger time.Duration, answer Answer) (_ net.Listener, err error) {
	l := &fastListener{addr: ln.Addr(), answer: answer, linger: linger, epoll: -1, socket: -1, wake: -1, out: make([]byte, 0, maxRequest)}
	defer func() {
		ln.Close() // else each connection wakes up the runtime's poller as well
		if err != nil {
			l.free()
		}
	}()
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) { l.socket, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if controlErr != nil {
		return nil, controlErr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	for _, fd := range []int{l.socket, l.wake} {
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, os.NewSyscallError("epoll_ctl", err)
		}
	}
	return l, nil
}

// Accept answers connections for as long as their requests can be answered at once.
// It returns the first connection for which that is not so.
func (l *fastListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events [2]unix.EpollEvent
	for !l.closed {
		n, err := unix.EpollWait(l.epoll, events[:], l.closeLingering(time.Now()))
		if err != nil && err != unix.EINTR {
			return nil, l.error("epoll_wait", err)
		}
		ready := false
		for _, e := range events[:max(n, 0)] {
			switch int(e.Fd) {
			case l.wake:
				return nil, net.ErrClosed
			case l.socket:
				ready = true
			}
		}
		if !ready {
			continue
		}
		switch c, err := l.next(); {
		case err != nil:
			return nil, err
		case c != nil:
			return c, nil
		}
	}
	return nil, net.ErrClosed
}

// next accepts one connection, and answers or returns it. It returns nil also when
// the connection is gone already.
func (l *fastListener) next() (net.Conn, error) {
	socket, peer, errno := accept(l.socket)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
		return nil, nil
	default:
		return nil, l.error("accept", errno)
	}
	n, errno := read(socket, l.in[:])
	if errno != 0 {
		n = 0
	}
	if errno == unix.EAGAIN || 0 < n && n < len(l.in) {
		if out := l.answer(peer, l.in[:n], l.out[:0]); out != nil {
			write(socket, out) // the buffer is empty: all of it is written, or the connection is gone
			if l.linger > 0 {
				l.waiting = append(l.waiting, answered{socket, time.Now().Add(l.linger)})
			} else {
				closeSocket(socket)
			}
			return nil, nil
		}
	}
	f := os.NewFile(uintptr(socket), "connection")
	defer f.Close()
	c, err := net.FileConn(f) // of a duplicate
	if err != nil || n == 0 {
		return c, err
	}
	return &begun{c, append([]byte(nil), l.in[:n]...)}, nil
}

// closeLingering closes answered connections whose time is over. It returns for how
// many milliseconds the next one may stay open, -1 when there is none.
func (l *fastListener) closeLingering(now time.Time) int {
	n := 0
	for n < len(l.waiting) && (len(l.waiting)-n > maxLingering || !now.Before(l.waiting[n].until)) {
		closeSocket(l.waiting[n].socket)
		n++
	}
	l.waiting = append(l.waiting[:0], l.waiting[n:]...)
	if len(l.waiting) == 0 {
		return -1
	}
	return int(l.waiting[0].until.Sub(now)/time.Millisecond) + 1
}

func (l *fastListener) error(call string, err error) error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: os.NewSyscallError(call, err)}
}

// Close makes Accept return. When Close returns, the port is closed.
func (l *fastListener) Close() error {
	l.once.Do(func() {
		unix.Write(l.wake, []byte{7: 1}) // any number but 0 will do
		l.mu.Lock()
		defer l.mu.Unlock()
		l.free()
	})
	return nil
}

func (l *fastListener) free() {
	l.closed = true
	for _, a := range l.waiting {
		closeSocket(a.socket)
	}
	for _, fd := range []int{l.epoll, l.socket, l.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (l *fastListener) Addr() net.Addr { return l.addr }

// SyscallConn gives access to the options of the socket, until Close.
func (l *fastListener) SyscallConn() (syscall.RawConn, error) { return rawFast{listener: l}, nil }

type rawFast struct {
	syscall.RawConn // Read and Write are of no use here
	listener        *fastListener
}

func (r rawFast) Control(f func(fd uintptr)) error {
	f(uintptr(r.listener.socket))
	return nil
}

func accept(socket int) (int, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(socket), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(fd), addrPort(&sa), 0
}

func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), port(&in.Port))
	}
	return netip.AddrPort{}
}

// port reads what the kernel wrote in network byte order.
func port(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }

func read(socket int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(socket), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func write(socket int, b []byte) {
	unix.RawSyscall(unix.SYS_WRITE, uintptr(socket), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
}

func closeSocket(socket int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(socket), 0, 0) }
