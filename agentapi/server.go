package agentapi

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/internal/listen"
)

// Asker answers questions about nodes. Ask may wait until its context ends: a node's
// first poll may still be under way, and HAProxy must not get a guess. What Ask
// returns after its context has ended is ignored. An error says, in one line for
// people, what is wrong with the question. Ask is called by many goroutines at once.
type Asker interface {
	Ask(ctx context.Context, q cluster.Question) (cluster.Answer, error)
	// AskNow is Ask where that need not wait and returns no error; else ok is false.
	AskNow(q cluster.Question) (a cluster.Answer, ok bool)
}

// Config is what a Server needs.
type Config struct {
	Asker Asker
	Settings
	Log zerolog.Logger
}

// Settings are the part of a Config that may change while a Server serves.
type Settings struct {
	// Allow lists the networks whose connections are answered; empty allows
	// all. Others are closed without an answer.
	Allow []netip.Prefix

	// AskTimeout bounds one question to Asker; after it the connection is
	// closed without an answer. It should be above the time that a node's first
	// poll may take. Default 5s.
	AskTimeout time.Duration

	// MaxConns is how many connections may be open at once, over all
	// listeners. For one more, the connection that has waited for longest is
	// closed. Default 4096.
	MaxConns int
}

const (
	defaultMaxConns   = 4096
	defaultAskTimeout = 5 * time.Second

	writeTimeout = time.Second
	closeTimeout = time.Second // how long the peer has to close first
	maxDiscard   = 1 << 20     // bytes read while waiting for that
)

// Server answers agent-checks.
type Server struct {
	cfg      Config // read-only after New
	settings atomic.Pointer[Settings]

	ports      atomic.Int64
	conns      *listen.Pool
	answers    [numWords]atomic.Uint64
	refused    atomic.Uint64
	unanswered atomic.Uint64
}

// New makes a Server. It answers nothing before Serve.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, conns: listen.NewPool(defaultMaxConns)}
	s.Apply(cfg.Settings)
	s.cfg.Settings = Settings{} // they are kept in settings only
	return s
}

// Apply replaces the settings, for new connections.
func (s *Server) Apply(settings Settings) {
	settings.AskTimeout = cmp.Or(settings.AskTimeout, defaultAskTimeout)
	settings.Allow = slices.Clone(settings.Allow)
	for i, p := range settings.Allow {
		// Peers are compared by their IPv4 address where they have one.
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			settings.Allow[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}
	s.settings.Store(&settings)
	s.conns.SetMax(cmp.Or(settings.MaxConns, defaultMaxConns))
}

// Serve answers on ln until ctx ends. Then it closes ln at once, lets the open
// connections end, each within a few seconds, and returns nil. Several may run
// at once. For each connection it calls port for the question that a dedicated port
// answers, whatever the peer sends. Where port returns nil the listener is a shared
// one: the question is the line that HAProxy's agent-send sends.
func (s *Server) Serve(ctx context.Context, ln net.Listener, port func() *cluster.Question) error {
	s.ports.Add(1)
	defer s.ports.Add(-1)
	var handlers sync.WaitGroup
	defer handlers.Wait()
	ln = listen.Patient(ln, s.cfg.Log)
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()

	log := s.cfg.Log.With().Stringer("listener", ln.Addr()).Logger()
	log.Info().Bool("shared", port() == nil).Msg("answering agent checks")
	for {
		conn, err := ln.Accept()
		if err != nil {
			return nil // closed
		}
		if ctx.Err() != nil {
			conn.Close()
			return nil
		}
		if !s.allowed(conn.RemoteAddr()) {
			s.refused.Add(1)
			log.Debug().Stringer("peer", conn.RemoteAddr()).Msg("peer is not in the allow list")
			conn.Close()
			continue
		}
		conn = s.conns.Add(conn)
		handlers.Go(func() { s.handle(ctx, conn, port()) })
	}
}

// allowed reports whether the allow list allows addr.
func (s *Server) allowed(addr net.Addr) bool { return listen.AllowsPeer(s.settings.Load().Allow, addr) }

// AnswerFast is a [listen.Answer] for a port that Serve serves: q is the question of
// a dedicated port, and nil for a shared one. It answers where it need not wait.
func (s *Server) AnswerFast(q *cluster.Question, peer netip.AddrPort, request, out []byte) []byte {
	if !listen.Allows(s.settings.Load().Allow, peer.Addr()) {
		return nil
	}
	if q == nil {
		if requestEnd(request) < 0 {
			return nil
		}
		asked, err := ParseRequest(request)
		if err != nil {
			return nil
		}
		q = &asked
	}
	a, ok := s.cfg.Asker.AskNow(*q)
	if !ok {
		return nil
	}
	line := AppendLine(out, a)
	s.record(peer, wordsFor(a.Check, a.Verdict.Outcome), line)
	return line
}

// record counts and logs an answer.
func (s *Server) record(peer fmt.Stringer, w words, line []byte) {
	s.answers[w].Add(1)
	if e := s.cfg.Log.Debug(); e.Enabled() {
		e.Stringer("peer", peer).Bytes("answer", line[:len(line)-1]).Msg("agent check")
	}
}

// LingerTimeout is how long a peer that got its answer from AnswerFast has to close first.
const LingerTimeout = closeTimeout

// scratch is a connection's memory.
type scratch struct {
	in  [requestBuffer]byte
	out [MaxLine]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// handle answers one connection, in at most requestTotal + AskTimeout +
// writeTimeout + closeTimeout.
func (s *Server) handle(ctx context.Context, conn net.Conn, q *cluster.Question) {
	defer conn.Close()
	mem := scratches.Get().(*scratch)
	defer scratches.Put(mem)

	w, line, err := s.answer(ctx, conn, q, mem)
	if err == nil {
		err = write(conn, line)
	}
	if err != nil {
		// The peer is gone (HAProxy resets a connection that takes too long), or
		// the supervisor is stopping: neither needs attention.
		s.unanswered.Add(1)
		s.cfg.Log.Debug().Err(err).Stringer("peer", conn.RemoteAddr()).Msg("agent check without an answer")
		return
	}
	s.record(conn.RemoteAddr(), w, line)
	awaitClose(conn, mem.in[:])
}

// answer makes the line for one connection. An error means that there is no answer,
// or that the peer is gone.
func (s *Server) answer(ctx context.Context, conn net.Conn, q *cluster.Question, mem *scratch) (words, []byte, error) {
	dedicated := q != nil
	if !dedicated {
		request, err := readRequest(conn, mem.in[:])
		if err != nil {
			return 0, nil, err
		}
		asked, err := ParseRequest(request)
		if err != nil {
			return maintDown, AppendError(mem.out[:0], err), nil
		}
		q = &asked
	}
	ctx, cancel := context.WithTimeout(ctx, s.settings.Load().AskTimeout)
	defer cancel()
	a, err := s.cfg.Asker.Ask(ctx, *q)
	switch {
	case ctx.Err() != nil: // the wait for a first poll may have been cut short: the answer may be a guess
		return 0, nil, context.Cause(ctx)
	case err != nil && dedicated: // the question comes from the configuration, which is being reloaded
		return 0, nil, err
	case err != nil:
		return wordsForError(err), AppendError(mem.out[:0], err), nil
	default:
		return wordsFor(a.Check, a.Verdict.Outcome), AppendLine(mem.out[:0], a), nil
	}
}

// write sends the line in one piece: HAProxy joins pieces, but does not wait for long.
func write(conn net.Conn, line []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := conn.Write(line)
	return err
}

// awaitClose reads until the peer closes. The side that closes first keeps the
// connection in TIME_WAIT, and there is one connection per check: that should be the
// peer. Reading also discards what the peer sent in excess: closing with unread bytes
// would reset the connection, perhaps before the peer has read its answer.
func awaitClose(conn net.Conn, buf []byte) {
	if err := conn.SetReadDeadline(time.Now().Add(closeTimeout)); err != nil {
		return
	}
	for left := maxDiscard; left > 0; {
		n, err := conn.Read(buf)
		if err != nil { // usually EOF or a reset, at worst the deadline
			return
		}
		left -= n
	}
}

// Answers yields the number of answers given, by their words: "ready up",
// "drain up", "maint down" and "ready down".
func (s *Server) Answers() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for w, text := range wordTexts {
			if !yield(text, s.answers[w].Load()) {
				return
			}
		}
	}
}

// Ports returns how many listeners are served.
func (s *Server) Ports() int { return int(s.ports.Load()) }

// Conns returns how many connections are open.
func (s *Server) Conns() int { return s.conns.Open() }

// Refused returns how many connections the allow list closed.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Overflowed returns how many connections were closed because of MaxConns.
func (s *Server) Overflowed() uint64 { return s.conns.Overflowed() }

// Unanswered returns how many connections ended without an answer: the peer was gone,
// there was no answer in time, or the server was stopping.
func (s *Server) Unanswered() uint64 { return s.unanswered.Load() }
