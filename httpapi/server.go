package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
)

// Config is what a Server needs, resolved and valid.
type Config struct {
	Supervisor *cluster.Supervisor
	Address    string         // host:port to listen on
	TLS        *tls.Config    // nil = plain HTTP
	Allow      []netip.Prefix // who may connect; empty = everybody
	Token      string         // who has it may announce stops; "" = nobody may
	Version    string         // shown on the page
	Metrics    http.Handler   // answers /metrics; nil = no such route
	AgentLine  AgentLine      // what HAProxy's agent is told, for the page; nil = not shown
	Log        zerolog.Logger

	// Certificates gives those in use now; nil = there are none.
	Certificates func() []Certificate
}

// AgentLine appends the line that answers an agent check, newline included.
// agentapi.AppendLine is one: the page shows what that says, letter by letter.
type AgentLine func([]byte, cluster.Answer) []byte

// Timeouts of the server. Checks are answered from memory, so whoever needs
// longer than these is not a health checker.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 75 * time.Second
	drainTimeout      = 5 * time.Second
	maxHeaderBytes    = 16 << 10
)

// Server serves everything in routes.go.
type Server struct {
	cfg Config
	sup *cluster.Supervisor
	srv *http.Server
	ln  net.Listener // set by Open

	build    string       // of the page
	pageSize atomic.Int64 // of the latest one, in bytes: about as long will be the next

	stopping chan struct{} // closed when ServeListener begins to drain
	served   served
	streams  streams
}

// New makes a server; it listens on nothing before Open.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, sup: cfg.Supervisor, stopping: make(chan struct{}), build: buildID(cfg.Version)}
	s.srv = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Else OPTIONS * is always 200: a check that passes whatever happens.
		DisableGeneralOptionsHandler: true,
		// A health checker that hangs up is no news (HAProxy resets often).
		ErrorLog: log.New(debugWriter{cfg.Log}, "", 0),
	}
	s.srv.RegisterOnShutdown(sync.OnceFunc(func() { close(s.stopping) }))
	return s
}

// Handler answers every route, for tests and for other listeners.
func (s *Server) Handler() http.Handler { return s.srv.Handler }

// Open listens, so that a port in use is an error at start.
func (s *Server) Open(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listening for HTTP: %w", err)
	}
	s.ln = ln
	return nil
}

// Addr is where Open listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close ends what Open began, for when Serve is never called.
func (s *Server) Close() error { return s.ln.Close() }

// Serve answers until ctx ends, then lets open requests finish for a few
// seconds. It returns nil when that was why it ended.
func (s *Server) Serve(ctx context.Context) error { return s.ServeListener(ctx, s.ln) }

// ServeListener is Serve on another listener.
func (s *Server) ServeListener(ctx context.Context, ln net.Listener) error {
	if len(s.cfg.Allow) > 0 {
		ln = &allowListener{ln, s.cfg.Allow, s.cfg.Log}
	}
	if s.cfg.TLS != nil {
		ln = tls.NewListener(ln, s.cfg.TLS)
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := s.srv.Shutdown(ctx)
		if err != nil {
			s.srv.Close()
		}
		drained <- err
	})
	err := s.srv.Serve(ln)
	if stop() {
		return fmt.Errorf("serving HTTP: %w", err) // it ended by itself
	}
	if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("draining HTTP: %w", err)
	}
	return nil
}

// allowListener closes connections from addresses that are not allowed.
type allowListener struct {
	net.Listener
	allow []netip.Prefix
	log   zerolog.Logger
}

func (l *allowListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			ip := tcp.AddrPort().Addr().Unmap().WithZone("")
			if slices.ContainsFunc(l.allow, func(p netip.Prefix) bool { return p.Contains(ip) }) {
				return c, nil
			}
		}
		l.log.Debug().Stringer("peer", c.RemoteAddr()).Msg("peer is not in the allow list")
		c.Close()
	}
}

// debugWriter takes net/http's complaints.
type debugWriter struct{ log zerolog.Logger }

func (d debugWriter) Write(p []byte) (int, error) {
	d.log.Debug().Str("from", "net/http").Msg(string(p[:max(0, len(p)-1)]))
	return len(p), nil
}
