package httpapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/httpapi/page"
	"patroniglue/internal/listen"
)

// Config is what a Server needs, resolved and valid.
type Config struct {
	Supervisor *cluster.Supervisor
	Settings
	Version   string         // shown on the page
	Metrics   http.Handler   // answers /metrics; nil = no such route
	AgentLine page.AgentLine // what HAProxy's agent is told, for the page; nil = not shown
	Log       zerolog.Logger

	// Certificates gives those in use now; nil = there are none.
	Certificates func() []Certificate

	// Reasons are what else is wrong with the supervisor itself; nil = nothing.
	Reasons func() []cluster.Reason
}

// Settings are what may change while a Server serves.
type Settings struct {
	TLS   *tls.Config    // of connections to come; nil = plain HTTP
	Allow []netip.Prefix // who may connect; empty = everybody
	Token string         // who has it may announce stops; "" = nobody may
	Fast  bool           // answer checks fast (fast.go), in Serve, without TLS

	// MaxConns is how many connections may be open at once; for one more the one
	// gives way that waits for longest. Default 4096.
	MaxConns int

	// MaxStreams is how many streams of events may be open at once; one more gets a
	// 503. Default 256.
	MaxStreams int

	// Operator is what the operator's listener asks for. With it, Serve answers
	// nothing but what load balancers need; nil = Serve answers all.
	Operator *Operator
}

// Of a stop.
const (
	lastWords    = 100 * time.Millisecond
	drainTimeout = 5 * time.Second
)

// Server serves everything in routes.go.
type Server struct {
	cfg      Config // read-only after New
	sup      *cluster.Supervisor
	settings atomic.Pointer[Settings]
	handler  http.Handler // of all routes
	checks   http.Handler // of those for load balancers, where others have a listener of their own
	guarded  http.Handler // handler, for who logged in

	pages   *page.Renderer
	served  served
	streams streams
	load    load
	logins  logins
}

// New makes a server; it serves nothing before Serve.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, sup: cfg.Supervisor, load: newLoad(), logins: newLogins()}
	s.pages = page.New(page.Config{Supervisor: cfg.Supervisor, OwnHealth: s.OwnHealth, AgentLine: cfg.AgentLine, Version: cfg.Version})
	s.Apply(cfg.Settings)
	s.cfg.Settings = Settings{} // from now on they are in settings only
	s.handler, s.checks = s.routes()
	s.guarded = s.guard(s.handler)
	return s
}

// Apply replaces the settings: for connections and requests to come. No
// connection is closed.
func (s *Server) Apply(settings Settings) {
	s.settings.Store(&settings)
	s.load.conns.SetMax(cmp.Or(settings.MaxConns, defaultMaxConns))
}

// Settings are those in force.
func (s *Server) Settings() Settings { return *s.settings.Load() }

// Handler answers every route, for tests and for other listeners.
func (s *Server) Handler() http.Handler { return s.handler }

// stoppingKey is of a request's context: a channel that is closed when its
// listener's connections begin to drain.
type stoppingKey struct{}

// Serve answers checks, and all else where there is no operator's listener, on ln
// until ctx ends, then closes it, and lets open requests finish for a few seconds.
// It returns nil when that was why it ended. Several may run at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if s.settings.Load().Operator != nil {
			s.checks.ServeHTTP(w, r)
		} else {
			s.handler.ServeHTTP(w, r)
		}
	}
	lets := func(peer net.Addr) (*tls.Config, bool) {
		settings := s.settings.Load()
		return settings.TLS, listen.AllowsPeer(settings.Allow, peer)
	}
	return s.serve(ctx, ln, http.HandlerFunc(handler), lets, func() bool { return s.settings.Load().Fast })
}

// ServeOperator is Serve for the operator's listener: all routes, for who is let in.
func (s *Server) ServeOperator(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.guarded, func(peer net.Addr) (*tls.Config, bool) {
		o := s.settings.Load().Operator
		if o == nil {
			return nil, false // it is about to close
		}
		return o.TLS, listen.AllowsPeer(o.Allow, peer)
	}, func() bool { return false }) // the fast path asks for no password
}

func (s *Server) serve(ctx context.Context, ln net.Listener, handler http.Handler, lets func(net.Addr) (*tls.Config, bool), enabled func() bool) error {
	stopping := make(chan struct{})
	srv := &http.Server{
		Handler:           s.load.asking(handler),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Else OPTIONS * is always 200: a check that passes whatever happens.
		DisableGeneralOptionsHandler: true,
		// A health checker that hangs up is no news (HAProxy resets often).
		ErrorLog: log.New(debugWriter{s.cfg.Log}, "", 0),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), stoppingKey{}, stopping)
		},
	}
	s.load.watch(srv)
	srv.RegisterOnShutdown(sync.OnceFunc(func() { close(stopping) }))
	fastLn := newFastListener(&door{listen.Patient(ln, s.cfg.Log), s, lets}, s, enabled)
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		// Shutdown drops connections that were accepted and whose first request it has
		// not read yet. They are answered, too.
		ln.Close()
		time.Sleep(lastWords)
		fastLn.stop()
		<-fastLn.ended
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := srv.Shutdown(ctx)
		if err != nil {
			srv.Close()
		}
		drained <- err
	})
	go fastLn.run(ctx)
	err := srv.Serve(fastLn)
	if stop() {
		return fmt.Errorf("serving HTTP: %w", err) // it ended by itself
	}
	if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("draining HTTP: %w", err)
	}
	return nil
}

// door lets in by the settings of the moment: it closes connections from
// addresses that are not allowed, has others give way when there are too many,
// and speaks TLS or not.
type door struct {
	net.Listener
	server *Server
	lets   func(peer net.Addr) (*tls.Config, bool)
}

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		config, ok := d.lets(c.RemoteAddr())
		if !ok {
			d.server.load.refused.Add(1)
			d.server.cfg.Log.Debug().Stringer("peer", c.RemoteAddr()).Msg("peer is not in the allow list")
			c.Close()
			continue
		}
		c = d.server.load.admit(c)
		if config != nil {
			c = tls.Server(c, config) // net/http shakes hands
		}
		return c, nil
	}
}

// debugWriter takes net/http's complaints.
type debugWriter struct{ log zerolog.Logger }

func (d debugWriter) Write(p []byte) (int, error) {
	d.log.Debug().Str("from", "net/http").Msg(string(p[:max(0, len(p)-1)]))
	return len(p), nil
}
