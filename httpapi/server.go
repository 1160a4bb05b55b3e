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

// Config is what a Server needs. All values are valid.
type Config struct {
	Supervisor *cluster.Supervisor
	Settings
	Version   string         // the page shows it
	Metrics   http.Handler   // answers /metrics; nil = no such route
	AgentLine page.AgentLine // for the page, which shows what HAProxy's agent check gets; nil = not shown
	Log       zerolog.Logger

	// Certificates returns the certificates in use; nil = none.
	Certificates func() []Certificate

	// Reasons returns what else is wrong with the supervisor itself; nil = nothing.
	Reasons func() []cluster.Reason
}

// Settings are the part of a Config that may change while a Server serves.
type Settings struct {
	TLS   *tls.Config    // for new connections; nil = plain HTTP
	Allow []netip.Prefix // peers that may connect; empty = all
	Token string         // the bearer token for announcing stops; "" = nobody may
	Fast  bool           // answer checks fast (fast.go), in Serve, without TLS

	// MaxConns is how many connections may be open at once. For one more, the
	// connection that has waited for longest is closed. Default 4096.
	MaxConns int

	// MaxStreams is how many streams of events may be open at once. One more is
	// refused with 503. Default 256.
	MaxStreams int

	// Operator is the settings of the operator's listener. Where there is one, Serve
	// answers only what load balancers need; nil = Serve answers everything.
	Operator *Operator
}

// A stop takes its time, so that requests on their way are answered.
const (
	stopGrace    = 100 * time.Millisecond // for connections that were accepted and whose request is on its way
	drainTimeout = 5 * time.Second        // for requests that are being answered
)

// Server serves everything in routes.go.
type Server struct {
	cfg      Config // read-only after New
	sup      *cluster.Supervisor
	settings atomic.Pointer[Settings]
	handler  http.Handler // all routes
	checks   http.Handler // the routes for load balancers, where there is an operator's listener
	guarded  http.Handler // all routes, after a login

	pages   *page.Renderer
	served  served
	streams streams
	load    load
	logins  logins
}

// New makes a Server. It serves nothing before Serve.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, sup: cfg.Supervisor, load: newLoad(), logins: newLogins()}
	s.pages = page.New(page.Config{Supervisor: cfg.Supervisor, OwnHealth: s.OwnHealth, AgentLine: cfg.AgentLine, Version: cfg.Version})
	s.Apply(cfg.Settings)
	s.cfg.Settings = Settings{} // they are kept in settings only
	s.handler, s.checks = s.routes()
	s.guarded = s.guard(s.handler)
	return s
}

// Apply replaces the settings, for new connections and requests. It closes no
// connection.
func (s *Server) Apply(settings Settings) {
	s.settings.Store(&settings)
	s.load.conns.SetMax(cmp.Or(settings.MaxConns, defaultMaxConns))
}

// Settings returns the settings in force.
func (s *Server) Settings() Settings { return *s.settings.Load() }

// Handler answers every route, for tests and for other listeners.
func (s *Server) Handler() http.Handler { return s.handler }

// stoppingKey is the key, in a request's context, of a channel that is closed when
// the server begins to drain its connections.
type stoppingKey struct{}

// Serve answers checks on ln, and everything else where there is no operator's
// listener, until ctx ends. Then it closes ln, gives open requests a few seconds to
// finish, and returns nil. Several may run at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if s.settings.Load().Operator != nil {
			s.checks.ServeHTTP(w, r)
		} else {
			s.handler.ServeHTTP(w, r)
		}
	}
	policy := func(peer net.Addr) (*tls.Config, bool) {
		settings := s.settings.Load()
		return settings.TLS, listen.AllowsPeer(settings.Allow, peer)
	}
	return s.serve(ctx, ln, http.HandlerFunc(handler), policy, func() bool { return s.settings.Load().Fast })
}

// ServeOperator is Serve for the operator's listener: all routes, after a login.
func (s *Server) ServeOperator(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.guarded, func(peer net.Addr) (*tls.Config, bool) {
		o := s.settings.Load().Operator
		if o == nil {
			return nil, false // it is about to close
		}
		return o.TLS, listen.AllowsPeer(o.Allow, peer)
	}, func() bool { return false }) // the fast path asks for no password
}

func (s *Server) serve(ctx context.Context, ln net.Listener, handler http.Handler, policy func(net.Addr) (*tls.Config, bool), enabled func() bool) error {
	stopping := make(chan struct{})
	srv := &http.Server{
		Handler:           s.load.trackRequests(handler),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Else OPTIONS * always gets 200: a check that passes whatever happens.
		DisableGeneralOptionsHandler: true,
		// Health checkers often hang up (HAProxy resets connections): that is no error.
		ErrorLog: log.New(debugWriter{s.cfg.Log}, "", 0),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), stoppingKey{}, stopping)
		},
	}
	s.load.trackConns(srv)
	srv.RegisterOnShutdown(sync.OnceFunc(func() { close(stopping) }))
	fastLn := newFastListener(&gate{listen.Patient(ln, s.cfg.Log), s, policy}, s, enabled)
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		// Shutdown drops accepted connections whose first request it has not read yet.
		// They are answered first.
		ln.Close()
		time.Sleep(stopGrace)
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
		return fmt.Errorf("serving HTTP: %w", err) // nobody stopped it
	}
	if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("draining HTTP: %w", err)
	}
	return nil
}

// gate admits connections by the current settings: it closes those of peers that are
// not allowed, closes idle ones when there are too many, and adds TLS.
type gate struct {
	net.Listener
	server *Server
	policy func(peer net.Addr) (tls *tls.Config, allowed bool)
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		config, allowed := g.policy(c.RemoteAddr())
		if !allowed {
			g.server.load.refused.Add(1)
			g.server.cfg.Log.Debug().Stringer("peer", c.RemoteAddr()).Msg("peer is not in the allow list")
			c.Close()
			continue
		}
		c = g.server.load.admit(c)
		if config != nil {
			c = tls.Server(c, config) // net/http shakes hands
		}
		return c, nil
	}
}

// debugWriter logs net/http's errors at debug.
type debugWriter struct{ log zerolog.Logger }

func (d debugWriter) Write(p []byte) (int, error) {
	d.log.Debug().Str("from", "net/http").Msg(string(p[:max(0, len(p)-1)]))
	return len(p), nil
}
