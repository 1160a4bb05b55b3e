package httpapi

import (
	"net"
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
	return load{conns: listen.NewPool(defaultMaxConns), turn: make(chan struct{}, 1), pipeline: make(chan struct{}, 1)}
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

// admit takes a connection that may connect into the pool.
func (l *load) admit(c net.Conn) net.Conn { return &visit{Conn: l.conns.Add(c)} }
