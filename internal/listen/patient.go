package listen

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
	logEvery   = time.Minute
)

// Patient makes Accept of ln try again after an error that may pass, for instance a
// lack of file descriptors: after 5 ms, then after longer pauses, up to 1 s. The first
// error, and then one per minute, is logged at level error, the others at debug. The
// only error that Accept returns is [net.ErrClosed].
func Patient(ln net.Listener, log zerolog.Logger) net.Listener {
	return &patient{Listener: ln, log: log.With().Stringer("listener", ln.Addr()).Logger(), closed: make(chan struct{})}
}

type patient struct {
	net.Listener
	log    zerolog.Logger
	logged time.Time // owned by Accept
	closed chan struct{}
	once   sync.Once
}

// Accept is called by one goroutine at a time.
func (l *patient) Accept() (net.Conn, error) {
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		c, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		level := zerolog.DebugLevel
		if l.logged.IsZero() || time.Since(l.logged) >= logEvery {
			level, l.logged = zerolog.ErrorLevel, time.Now()
		}
		l.log.WithLevel(level).Err(err).Dur("retry_in", backoff).Msg("accepting connections")
		select {
		case <-time.After(backoff):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

func (l *patient) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
