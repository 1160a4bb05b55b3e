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

// pipelinePause is the time between two pipelined requests: those that arrive before
// the answer to the request before them.
const pipelinePause = time.Millisecond

// visit is a client's connection. It is counted as unanswered when it brings no
// request.
type visit struct {
	net.Conn
	unread    []byte      // was read already, and is read again
	begun     bool        // its first request was read; owned by its reader
	asked     atomic.Bool // its latest request reached a handler
	pipelines atomic.Bool // it sends requests without waiting for answers
}

// Read is for net/http.
func (v *visit) Read(b []byte) (int, error) {
	if !v.begun {
		v.begun = true
		v.readFirst()
	}
	return v.read(b)
}

// read also notices whether anything follows a request's headers. No request that we
// answer has a body, so that is the next request. With TLS it cannot be noticed.
func (v *visit) read(b []byte) (int, error) {
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

// visitOf returns the visit that c is, or that is below its TLS.
func visitOf(c net.Conn) *visit {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	v, _ := c.(*visit)
	return v
}

type visitKey struct{}

// trackConns makes srv put each connection into its requests' contexts, and count
// connections that end without a request.
func (l *load) trackConns(srv *http.Server) {
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

// trackRequests marks the connection of every request that reaches a handler, and
// delays pipelined requests.
func (l *load) trackRequests(next http.Handler) http.Handler {
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

// pause lets one pipelined request of all connections pass at a time. No health checker
// pipelines. A client that does always has a request ready to be answered, and while
// every processor is busy Go looks for new connections only every 10 ms (runtime,
// sysmon): a few such clients would make every check wait.
func (l *load) pause(ctx context.Context) {
	select {
	case l.pipeline <- struct{}{}:
		time.Sleep(pipelinePause)
		<-l.pipeline
	case <-ctx.Done():
	}
}
