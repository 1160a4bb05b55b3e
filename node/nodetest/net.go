package nodetest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// Net is a network in memory, made of net.Pipe. Inside a testing/synctest bubble it takes the place of the real one, whose sockets
// keep a bubble from going idle: listen with Options{Listen: nw.Listen}, dial with http.Transport{DialContext: nw.DialContext}.
// Create it inside the bubble that uses it.
//
// As with real sockets, dialing an address where nothing listens is "connection refused". Unlike them, a connection has no buffer: a write waits
// until the other side reads or closes.
type Net struct {
	mu        sync.Mutex
	listeners map[string]*netListener
	port      int // the last one assigned
}

// NewNet returns an empty network.
func NewNet() *Net { return &Net{listeners: map[string]*netListener{}, port: 40000} }

// Listen has net.Listen's signature. The host may be any word; port 0 assigns a free port.
func (n *Net) Listen(network, addr string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: netAddr(addr), Err: err}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fail(err)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "0" {
		n.port++
		addr = net.JoinHostPort(host, strconv.Itoa(n.port))
	}
	if n.listeners[addr] != nil {
		return fail(os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	ln := &netListener{net: n, addr: netAddr(addr), conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[addr] = ln
	return ln, nil
}

// DialContext has net.Dialer's signature.
func (n *Net) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: netAddr(addr), Err: err}
	}
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	n.mu.Lock()
	ln := n.listeners[addr]
	n.mu.Unlock()
	if ln == nil {
		return fail(refused)
	}

	client, server := net.Pipe()
	reset := new(atomic.Bool)
	select {
	case ln.conns <- &netConn{Conn: server, local: ln.addr, remote: "client:0", reset: reset}:
		return &netConn{Conn: client, local: "client:0", remote: ln.addr, reset: reset}, nil
	case <-ln.done:
		return fail(refused)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fail(os.ErrDeadlineExceeded) // "i/o timeout", as a real dialer says
		}
		return fail(ctx.Err())
	}
}

type netListener struct {
	net   *Net
	addr  netAddr
	conns chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

func (ln *netListener) Accept() (net.Conn, error) {
	select {
	case conn := <-ln.conns:
		return conn, nil
	case <-ln.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: ln.addr, Err: net.ErrClosed}
	}
}

func (ln *netListener) Close() error {
	ln.once.Do(func() {
		ln.net.mu.Lock()
		defer ln.net.mu.Unlock()
		delete(ln.net.listeners, string(ln.addr))
		close(ln.done)
	})
	return nil
}

func (ln *netListener) Addr() net.Addr { return ln.addr }

// netConn is one end of a pipe, with addresses and a way to end like a TCP reset.
type netConn struct {
	net.Conn
	local, remote netAddr
	reset         *atomic.Bool // shared by both ends
}

func (c *netConn) LocalAddr() net.Addr  { return c.local }
func (c *netConn) RemoteAddr() net.Addr { return c.remote }

func (c *netConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) && c.reset.Load() {
		err = &net.OpError{Op: "read", Net: "tcp", Source: c.local, Addr: c.remote, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
	return n, err
}

// abort closes the connection so that the other end reads "connection reset by peer".
func (c *netConn) abort() error {
	c.reset.Store(true)
	return c.Close()
}

type netAddr string

func (netAddr) Network() string  { return "tcp" }
func (a netAddr) String() string { return string(a) }
