package httpapi

import (
	"cmp"
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// What a stream of events may cost.
const (
	eventBuffer  = 256              // changes that may wait for a slow reader
	eventTimeout = 3 * time.Second  // for writing one; below drainTimeout, so that no reader delays a stop
	heartbeat    = 15 * time.Second // proxies close connections that are idle for longer
)

// streams counts streams of events.
type streams struct {
	open                   atomic.Int64
	sent, dropped, refused atomic.Uint64
}

// Streams counts the streams of events.
type Streams struct {
	Open    int    // now
	Sent    uint64 // events, heartbeats included
	Dropped uint64 // streams that ended because their reader was too slow
	Refused uint64 // streams, because too many were open
}

// Streams returns the counts since the start.
func (s *Server) Streams() Streams {
	c := &s.streams
	return Streams{int(c.open.Load()), c.sent.Load(), c.dropped.Load(), c.refused.Load()}
}

// eventStream writes events until something fails.
type eventStream struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	stopping <-chan struct{}
	counts   *streams
	err      error
	slow     bool // the reader was too slow
}

// openStream begins an answer of server-sent events, which the caller has to close. When
// ok is false, the request is answered: with an error, or, where its method is not GET,
// with the header of a stream.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request) (e *eventStream, ok bool) {
	most := cmp.Or(s.settings.Load().MaxStreams, defaultMaxStreams)
	if s.streams.open.Add(1) > int64(most) {
		s.streams.open.Add(-1)
		s.streams.refused.Add(1)
		w.Header().Set("Retry-After", retryAfter)
		writeError(w, r, http.StatusServiceUnavailable, "no more than "+strconv.Itoa(most)+" streams of events may be open: try again later, or use /history")
		return nil, false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodGet {
		s.streams.open.Add(-1)
		return nil, false
	}
	stopping, _ := r.Context().Value(stoppingKey{}).(chan struct{}) // nil in tests, which use Handler without Serve
	e = &eventStream{w: w, rc: http.NewResponseController(w), stopping: stopping, counts: &s.streams}
	e.rc.SetReadDeadline(time.Time{}) // the server's would end the request
	return e, true
}

func (e *eventStream) close() {
	e.counts.open.Add(-1)
	if e.slow {
		e.counts.dropped.Add(1)
	}
}

// send writes one event. The event has to end with an empty line.
func (e *eventStream) send(event string) {
	select {
	case <-e.stopping:
		e.err = http.ErrServerClosed
	default:
	}
	if e.err != nil {
		return
	}
	e.rc.SetWriteDeadline(time.Now().Add(eventTimeout)) // the server's is for a whole answer
	if _, e.err = e.w.Write([]byte(event)); e.err == nil {
		e.err = e.rc.Flush()
	}
	if e.err == nil {
		e.counts.sent.Add(1)
	}
	e.slow = e.slow || errors.Is(e.err, os.ErrDeadlineExceeded)
}

// drop ends the stream of a reader that is too slow, and tells it to reconnect.
func (e *eventStream) drop() {
	e.slow = true
	e.send("event: dropped\ndata: " + `{"reason":"reading too slowly: reconnect with Last-Event-ID"}` + "\n\n")
}
