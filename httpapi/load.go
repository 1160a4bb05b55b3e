package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"patroniglue/internal/listen"
)

// What a client may cost. Checks are answered from memory, so whoever needs
// longer than these times is not a health checker.
const (
	readHeaderTimeout = 5 * time.Second  // from the connection's or the request's first byte to the headers' last
	readTimeout       = 10 * time.Second // the same to the body's last, though nothing wants one
	writeTimeout      = 30 * time.Second // for the answer
	idleTimeout       = 75 * time.Second // between two requests
	maxHeaderBytes    = 8 << 10          // request line included; net/http reads up to 4 KiB more

	defaultMaxConns   = 4096
	defaultMaxStreams = 256 // each has a buffer, and wakes up at each change

	largeTimeout = 5 * time.Second // that a large answer waits for its turn to be made
	maxUnsent    = 64 << 20        // bytes of large answers that may wait for their readers
	retryAfter   = "10"            // seconds, for who was put off

	pipelinePause = time.Millisecond // between two of the requests that came before the answer to the one before
)

// load is what clients do to the server.
type load struct {
	conns      *listen.Pool
	refused    atomic.Uint64
	unanswered atomic.Uint64

	turn   chan struct{} // whose place is taken while a large answer is made
	unsent atomic.Int64
	putOff atomic.Uint64

	pipeline chan struct{} // whose place is taken by the pipelined request that is next
}

func newLoad() load {
	return load{conns: listen.New(defaultMaxConns), turn: make(chan struct{}, 1), pipeline: make(chan struct{}, 1)}
}

// Conns returns how many connections are open.
func (s *Server) Conns() int { return s.load.conns.Open() }

// Overflowed returns how many connections gave way to others because of MaxConns.
func (s *Server) Overflowed() uint64 { return s.load.conns.Overflowed() }

// Refused returns how many connections the allow list closed.
func (s *Server) Refused() uint64 { return s.load.refused.Load() }

// Unanswered returns how many connections ended without a request: silent,
// malformed, too large, too slow or given up. Those that brought good ones before
// are counted when it was too large.
func (s *Server) Unanswered() uint64 { return s.load.unanswered.Load() }

// PutOff returns how many requests for large answers got a 503 instead.
func (s *Server) PutOff() uint64 { return s.load.putOff.Load() }

// visit is a connection that is counted when it brought nothing.
type visit struct {
	net.Conn
	first     []byte      // read already, and to be read again
	asked     atomic.Bool // its latest request was one, and reached a handler
	pipelines atomic.Bool // it sends requests without waiting for answers
}

// Read looks for what comes behind a request's headers. Nothing that we answer has
// a body, so it is the next request. Below TLS that cannot be seen.
func (v *visit) Read(b []byte) (int, error) {
	if len(v.first) > 0 {
		n := copy(b, v.first)
		v.first = v.first[n:]
		return n, nil
	}
	n, err := v.Conn.Read(b)
	if end := bytes.Index(b[:n], headersEnd); end >= 0 {
		v.pipelines.Store(end+len(headersEnd) < n)
	}
	return n, err
}

var headersEnd = []byte("\r\n\r\n")

// visitOf finds it below TLS.
func visitOf(c net.Conn) *visit {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	v, _ := c.(*visit)
	return v
}

type visitKey struct{}

// watch makes srv tell of its connections what asking and the counters need.
func (l *load) watch(srv *http.Server) {
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, visitKey{}, visitOf(c))
	}
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		switch v := visitOf(c); {
		case v == nil:
		case state == http.StateActive:
			v.asked.Store(false)
		case state == http.StateClosed && !v.asked.Load():
			l.unanswered.Add(1)
		}
	}
}

// asking marks the connection of every request that reaches a handler, and holds up
// those that were pipelined.
func (l *load) asking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v, ok := r.Context().Value(visitKey{}).(*visit); ok && v != nil {
			v.asked.Store(true)
			if v.pipelines.Load() {
				l.pause(r.Context())
			}
		}
		next.ServeHTTP(w, r)
	})
}

// pause lets one pipelined request go on at a time, of all connections. No health
// checker pipelines. Who does always has a request that can be answered at once,
// and while every processor is busy Go looks for new connections every 10 ms only
// (runtime, sysmon): so a few of them would make every check wait.
func (l *load) pause(ctx context.Context) {
	select {
	case l.pipeline <- struct{}{}:
		time.Sleep(pipelinePause)
		<-l.pipeline
	case <-ctx.Done():
	}
}

// admit takes a connection that may connect into the pool.
func (l *load) admit(c net.Conn) net.Conn { return &visit{Conn: l.conns.Add(c)} }

// large answers what is made of all nodes or of many changes. One such answer is
// made at a time, and then none for as long as it took, so that a check never
// waits behind many; and it is made in whole before its reader gets any of it, so
// that a slow one holds up nobody.
func (s *Server) large(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h(w, r) // has no body
			return
		}
		wait := time.NewTimer(largeTimeout)
		defer wait.Stop()
		select {
		case s.load.turn <- struct{}{}:
		case <-wait.C:
			s.putOff(w, r, "too many ask for large answers")
			return
		case <-r.Context().Done():
			return
		}
		made := &madeAnswer{header: w.Header(), status: http.StatusOK}
		func() {
			begun := time.Now()
			defer func() { time.AfterFunc(time.Since(begun), func() { <-s.load.turn }) }() // also when it panics
			h(made, r)
		}()
		size := int64(made.body.Len())
		defer s.load.unsent.Add(-size)
		if s.load.unsent.Add(size) > maxUnsent {
			h := w.Header()
			clear(h)
			h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff // safe did that before
			s.putOff(w, r, "too many large answers wait for slow readers")
			return
		}
		w.WriteHeader(made.status)
		w.Write(made.body.Bytes()) // a client that is gone is its own affair
	}
}

func (s *Server) putOff(w http.ResponseWriter, r *http.Request, why string) {
	s.load.putOff.Add(1)
	w.Header().Set("Retry-After", retryAfter)
	writeError(w, r, http.StatusServiceUnavailable, why+": come back later; checks are answered as ever")
}

// madeAnswer is an answer in memory.
type madeAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *madeAnswer) Header() http.Header         { return a.header }
func (a *madeAnswer) WriteHeader(status int)      { a.status = status }
func (a *madeAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }
