package httpapi

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// forerunner is the listener that net/http accepts from. It keeps a connection for
// as long as all that comes there is plain requests (fast.go), and answers them:
// half of what a check costs otherwise is net/http's. With the first other request
// net/http gets the connection, as if it were new, and for good.
type forerunner struct {
	net.Listener
	server *Server
	plain  func() bool // whether it answers at all; else all is net/http's

	stopping atomic.Bool
	running  sync.WaitGroup // calls of answer
	theirs   chan net.Conn  // for net/http
	ended    chan struct{}  // closed when no more will come
	err      error          // why; set before that

	mu   sync.Mutex // guards the rest
	ours map[*visit]struct{}
}

func newForerunner(ln net.Listener, s *Server, plain func() bool) *forerunner {
	return &forerunner{Listener: ln, server: s, plain: plain, theirs: make(chan net.Conn), ended: make(chan struct{}), ours: make(map[*visit]struct{})}
}

// run accepts until the listener is closed, and returns when net/http has got all
// that it will get.
func (f *forerunner) run(ctx context.Context) {
	defer close(f.ended)
	for {
		c, err := f.Listener.Accept()
		if err != nil {
			f.err = err
			if ctx.Err() == nil { // nobody else will
				f.stop()
			}
			f.running.Wait()
			return
		}
		if v, ok := c.(*visit); ok && f.plain() {
			f.running.Go(func() { f.answer(v) })
		} else {
			f.theirs <- c // with TLS, among others
		}
	}
}

// Accept gives net/http its connections.
func (f *forerunner) Accept() (net.Conn, error) {
	select {
	case c := <-f.theirs:
		return c, nil
	case <-f.ended:
		return nil, f.err
	}
}

// stop closes connections that wait for a request, and all others after their answer.
func (f *forerunner) stop() {
	f.stopping.Store(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for v := range f.ours {
		v.SetReadDeadline(now)
		v.SetWriteDeadline(now.Add(lastWords))
	}
}

// answer answers plain requests until there is another one, or none in time.
func (f *forerunner) answer(v *visit) {
	f.mu.Lock()
	f.ours[v] = struct{}{}
	f.mu.Unlock()
	forget := func() {
		f.mu.Lock()
		delete(f.ours, v)
		f.mu.Unlock()
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
		if f.stopping.Load() { // perhaps since before that
			break
		}
		n, err := v.Read(in[:])
		if n == 0 && err != nil {
			if patience == readHeaderTimeout {
				f.server.load.unanswered.Add(1)
			}
			break
		}
		p, ok := parsePlain(string(in[:n]))
		if ok {
			out = f.server.appendPlain(out[:0], &p)
		}
		if !ok || len(out) == 0 {
			v.first = append(v.first, in[:n]...)
			v.SetDeadline(time.Time{})
			forget()
			f.theirs <- v
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
