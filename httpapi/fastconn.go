package httpapi

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// fastListener is the listener that net/http accepts from. It keeps a connection for
// as long as all that comes there is fast requests (fast.go), and answers them:
// half of what a check costs otherwise is net/http's. With the first other request
// net/http gets the connection, as if it were new, and for good.
type fastListener struct {
	net.Listener
	server  *Server
	enabled func() bool // whether it answers at all; else all is net/http's

	stopping atomic.Bool
	running  sync.WaitGroup // calls of answer
	theirs   chan net.Conn  // for net/http
	ended    chan struct{}  // closed when no more will come
	err      error          // why; set before that

	mu   sync.Mutex // guards the rest
	ours map[*visit]struct{}
}

func newFastListener(ln net.Listener, s *Server, enabled func() bool) *fastListener {
	return &fastListener{Listener: ln, server: s, enabled: enabled, theirs: make(chan net.Conn), ended: make(chan struct{}), ours: make(map[*visit]struct{})}
}

// run accepts until the listener is closed, and returns when net/http has got all
// that it will get.
func (l *fastListener) run(ctx context.Context) {
	defer close(l.ended)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			if ctx.Err() == nil { // nobody else will
				l.stop()
			}
			l.running.Wait()
			return
		}
		if v, ok := c.(*visit); ok && l.enabled() {
			l.running.Go(func() { l.answer(v) })
		} else {
			l.theirs <- c // with TLS, among others
		}
	}
}

// Accept gives net/http its connections.
func (l *fastListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.theirs:
		return c, nil
	case <-l.ended:
		return nil, l.err
	}
}

// stop closes connections that wait for a request, and all others after their answer.
func (l *fastListener) stop() {
	l.stopping.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for v := range l.ours {
		v.SetReadDeadline(now)
		v.SetWriteDeadline(now.Add(lastWords))
	}
}

// answer answers fast requests until there is another one, or none in time.
func (l *fastListener) answer(v *visit) {
	l.mu.Lock()
	l.ours[v] = struct{}{}
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		delete(l.ours, v)
		l.mu.Unlock()
	}
	defer forget()
	var in [2 << 10]byte
	var out []byte
	var armed time.Time // when the deadline was set: once a second suffices
	for patience := readHeaderTimeout; ; {
		if now := time.Now(); now.Sub(armed) >= time.Second {
			v.SetDeadline(now.Add(patience))
			armed = now
		}
		if l.stopping.Load() { // perhaps since before that
			break
		}
		n, err := v.Read(in[:])
		if n == 0 && err != nil {
			if patience == readHeaderTimeout {
				l.server.load.unanswered.Add(1)
			}
			break
		}
		p, ok := parseFast(string(in[:n]))
		if ok {
			out = l.server.appendFast(out[:0], &p)
		}
		if !ok || len(out) == 0 {
			v.unread = append(v.unread, in[:n]...)
			v.SetDeadline(time.Time{})
			forget()
			l.theirs <- v
			return
		}
		if _, err = v.Write(out); err != nil || p.ends {
			break
		}
		if patience != idleTimeout {
			patience, armed = idleTimeout, time.Time{}
		}
	}
	v.Close()
}
