package httpapi

import (
	"net"
	"sync/atomic"
	"time"

	"patroniglue/internal/listen"
)

// What a client may cost. Checks are answered from memory, so a client that needs
// longer than these times is no health checker.
const (
	readHeaderTimeout = 5 * time.Second  // from the first byte, of the connection or the request, to the last one of the headers
	readTimeout       = 10 * time.Second // to the last byte of the body, although no route reads one
	writeTimeout      = 30 * time.Second // for writing the answer
	idleTimeout       = 75 * time.Second // between two requests
	maxHeaderBytes    = 8 << 10          // with the request line; net/http reads up to 4 KiB more

	defaultMaxConns   = 4096
	defaultMaxStreams = 256 // each has a buffer, and wakes up at every change
)

// load bounds and counts what clients do to the server.
type load struct {
	conns      *listen.Pool
	refused    atomic.Uint64
	unanswered atomic.Uint64

	turn   chan struct{} // has one place, which is taken while a large answer is made
	unsent atomic.Int64
	putOff atomic.Uint64

	pipeline chan struct{} // has one place, which the next pipelined request takes
}

func newLoad() load {
	return load{conns: listen.NewPool(defaultMaxConns), turn: make(chan struct{}, 1), pipeline: make(chan struct{}, 1)}
}

// Conns returns how many connections are open.
func (s *Server) Conns() int { return s.load.conns.Open() }

// Overflowed returns how many connections were closed because of MaxConns.
func (s *Server) Overflowed() uint64 { return s.load.conns.Overflowed() }

// Refused returns how many connections the allow list closed.
func (s *Server) Refused() uint64 { return s.load.refused.Load() }

// Unanswered returns how many connections ended without a request, or with one that
// was malformed, too large, too slow or given up. A connection that brought good
// requests before is counted only when the last one was too large.
func (s *Server) Unanswered() uint64 { return s.load.unanswered.Load() }

// PutOff returns how many requests for large answers were refused with 503.
func (s *Server) PutOff() uint64 { return s.load.putOff.Load() }

// admit adds an allowed connection to the pool.
func (l *load) admit(c net.Conn) net.Conn { return &visit{Conn: l.conns.Add(c)} }
