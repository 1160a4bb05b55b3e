package nodetest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// maxRequest bounds the size of a request, in bytes.
const maxRequest = 64 << 10

// open opens the port and serves it; it does nothing when the port is open or the node is closed.
func (n *Node) open() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ln != nil || n.closed {
		return nil
	}
	ln, err := n.options.Listen("tcp", n.addr)
	// A process that is being started holds a copy of a socket that was closed, until it executes its program.
	for range 100 {
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		ln, err = n.options.Listen("tcp", n.addr)
	}
	if err != nil {
		return err
	}
	n.ln, n.addr = ln, ln.Addr().String()
	n.wg.Go(func() { n.accept(ln) })
	return nil
}

// dropLocked closes the port and all connections, as the kernel does for a dead process.
func (n *Node) dropLocked() {
	if n.ln != nil {
		n.ln.Close()
		n.ln = nil
	}
	for conn := range n.conns {
		conn.Close()
	}
}

func (n *Node) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, most likely
			if !n.sleep(5*time.Millisecond, nil) {
				return
			}
			continue
		}
		n.admit(ln, conn)
	}
}

// admit counts a connection and starts its goroutine, unless the port was closed meanwhile.
func (n *Node) admit(ln net.Listener, conn net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ln != ln {
		conn.Close()
		return
	}
	n.conns[conn] = struct{}{}
	n.counters.accepted++
	n.counters.open++
	n.counters.maxOpen = max(n.counters.maxOpen, n.counters.open)
	n.wg.Go(func() { n.serve(conn) })
}

// exchange is one connection with its one request.
type exchange struct {
	node *Node
	raw  net.Conn      // what was accepted
	conn net.Conn      // raw, or TLS on top of it
	r    *bufio.Reader // of conn
	req  Request

	finish   func()                 // removes the connection from the counters; only the first call counts
	departed func() <-chan struct{} // returns a channel that is closed when the client has gone; the first call starts reading
}

func (n *Node) serve(raw net.Conn) {
	x := &exchange{node: n, raw: raw, conn: raw}
	x.finish = sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.counters.open--
	})
	x.departed = sync.OnceValue(x.watch)
	if n.options.TLS != nil {
		x.conn = tls.Server(raw, n.options.TLS)
	}
	x.r = bufio.NewReader(io.LimitReader(x.conn, maxRequest))

	// Finish before closing: a client that has seen the end of this answer and connects again must not count twice.
	defer func() {
		x.finish()
		x.conn.Close()
		raw.Close() // also when TLS could not send its closing alert
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, raw)
	}()

	if n.workers != nil {
		select {
		case n.workers <- struct{}{}:
			defer func() { <-n.workers }()
		case <-n.done:
			return
		}
	}

	// Without a deadline, as in Patroni: a client that sends nothing occupies a worker until it goes (#3705).
	req, err := http.ReadRequest(x.r)
	switch {
	case errors.Is(err, io.EOF):
		return
	case err != nil:
		x.send(errorPage(http.StatusBadRequest, "", true))
		return
	}
	x.req = Request{req.Method, req.RequestURI}
	path, _ := splitTarget(x.req.Target)
	n.mu.Lock()
	n.counters.total++
	n.counters.requests[path]++
	n.mu.Unlock()
	x.respond()
}

// watch reads and discards further bytes of the client, to notice when it closes the connection. A client that closes only its sending side
// counts as gone.
func (x *exchange) watch() <-chan struct{} {
	gone := make(chan struct{})
	x.node.wg.Go(func() {
		defer close(gone)
		io.Copy(io.Discard, x.conn)
	})
	return gone
}

// decide makes the answer from the present state.
func (x *exchange) decide() Answer {
	w := x.node.cluster.now.Load()
	return Decide(*w.members[x.node.name], w.view, x.req, time.Now())
}

// send writes an answer. Errors are ignored: the client has gone.
func (x *exchange) send(a Answer) {
	if len(a.Body) == 0 {
		x.finish() // the client knows that the answer is complete before the connection ends
	}
	x.conn.Write(a.Bytes(time.Now()))
}

// wait waits for d. It returns false when the node was closed or the client has gone meanwhile.
func (x *exchange) wait(d time.Duration) bool { return x.node.sleep(d, x.departed()) }

// sleep waits for d. It returns false when Close or stop ended it early.
func (n *Node) sleep(d time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
	case <-n.done:
	}
	return false
}
