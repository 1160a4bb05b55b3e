package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const pipelinePause = time.Millisecond // between two of the requests that came before the answer to the one before

// visit is a connection that is counted when it brought nothing.
type visit struct {
	net.Conn
	unread    []byte      // read already, and to be read again
	asked     atomic.Bool // its latest request was one, and reached a handler
	pipelines atomic.Bool // it sends requests without waiting for answers
}

// Read looks for what comes behind a request's headers. Nothing that we answer has
// a body, so it is the next request. Below TLS that cannot be seen.
func (v *visit) Read(b []byte) (int, error) {
	if len(v.unread) > 0 {
		n := copy(b, v.unread)
		v.unread = v.unread[n:]
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
