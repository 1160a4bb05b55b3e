package httpapi

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// fastListener is the listener from which net/http accepts. It keeps a connection for
// as long as only fast requests (fast.go) arrive on it, and answers them itself, as
// net/http would double the cost of a check. When another request arrives, net/http
// accepts the connection, as if it were a new one, and keeps it.
type fastListener struct {
	net.Listener
	server  *Server
	enabled func() bool // else net/http gets every connection

	stopping atomic.Bool
	running  sync.WaitGroup // the calls of answer
	slow     chan net.Conn  // to net/http
	ended    chan struct{}  // closed when no more connections come
	err      error          // why; set before ended is closed

	mu   sync.Mutex          // guards the rest
	kept map[*visit]struct{} // connections that net/http did not get
}

func newFastListener(ln net.Listener, s *Server, enabled func() bool) *fastListener {
	return &fastListener{Listener: ln, server: s, enabled: enabled, slow: make(chan net.Conn), ended: make(chan struct{}), kept: make(map[*visit]struct{})}
}

// run accepts until the listener is closed. It returns when net/http has got all the
// connections that it will get.
func (l *fastListener) run(ctx context.Context) {
	defer close(l.ended)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			if ctx.Err() == nil { // nobody called stop
				l.stop()
			}
			l.running.Wait()
			return
		}
		if v, ok := c.(*visit); ok && l.enabled() {
			l.running.Go(func() { l.answer(v) })
		} else {
			l.slow <- c // also every connection with TLS
		}
	}
}

// Accept returns the next connection for net/http.
func (l *fastListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.slow:
		return c, nil
	case <-l.ended:
		return nil, l.err
	}
}

// stop closes connections that wait for a request at once, and others after their answer.
func (l *fastListener) stop() {
	l.stopping.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for v := range l.kept {
		v.SetReadDeadline(now)
		v.SetWriteDeadline(now.Add(stopGrace))
	}
}

// answer answers fast requests, until another request arrives or none arrives in time.
func (l *fastListener) answer(v *visit) {
	l.mu.Lock()
	l.kept[v] = struct{}{}
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		delete(l.kept, v)
		l.mu.Unlock()
	}
	defer forget()
	var in [2 << 10]byte
	var out []byte
	var armed time.Time // when the deadline was set, which is done once per second at most
	for patience := readHeaderTimeout; ; {
		if now := time.Now(); now.Sub(armed) >= time.Second {
			v.SetDeadline(now.Add(patience))
			armed = now
		}
		if l.stopping.Load() { // stop may have been called before the deadline was set
			break
		}
		n, err := v.read(in[:])
		if n == 0 && err != nil {
			if patience == readHeaderTimeout {
				l.server.load.unanswered.Add(1)
			}
			break
		}
		p, ok := parseFast(string(in[:n]))
		if p.noHost && v.begun {
			ok = false
		}
		if ok {
			out = l.server.appendFast(out[:0], &p)
		}
		if !ok || len(out) == 0 {
			v.unread = append(v.unread, in[:n]...)
			v.SetDeadline(time.Time{})
			forget()
			l.slow <- v
			return
		}
		if _, err = v.Write(out); err != nil || p.ends {
			break
		}
		v.begun = true
		if patience != idleTimeout {
			patience, armed = idleTimeout, time.Time{}
		}
	}
	v.Close()
}
