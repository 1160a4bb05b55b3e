package httpapi

import (
	"bytes"
	"net/http"
	"time"
)

const (
	largeTimeout = 5 * time.Second // how long a request waits for its turn
	maxUnsent    = 64 << 20        // bytes of large answers that may be unsent at a time
	retryAfter   = "10"            // seconds, in answers that refuse a request for now
)

// large wraps handlers whose answers are made of all nodes or of many changes. One
// large answer is made at a time, and after it none for as long as it took, so that a
// check never waits behind many of them. It is made as a whole before any of it is
// sent, so that a slow reader delays nobody.
func (s *Server) large(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h(w, r) // the answer has no body
			return
		}
		wait := time.NewTimer(largeTimeout)
		defer wait.Stop()
		select {
		case s.load.turn <- struct{}{}:
		case <-wait.C:
			s.putOff(w, r, "too many requests for large answers")
			return
		case <-r.Context().Done():
			return
		}
		made := &madeAnswer{header: w.Header(), status: http.StatusOK}
		func() {
			begun := time.Now()
			defer func() { time.AfterFunc(time.Since(begun), func() { <-s.load.turn }) }() // also after a panic
			h(made, r)
		}()
		size := int64(made.body.Len())
		defer s.load.unsent.Add(-size)
		if s.load.unsent.Add(size) > maxUnsent {
			h := w.Header()
			clear(h)
			h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff // as safeHeaders set them
			s.putOff(w, r, "too many large answers wait for slow readers")
			return
		}
		w.WriteHeader(made.status)
		w.Write(made.body.Bytes()) // an error means that the client is gone
	}
}

func (s *Server) putOff(w http.ResponseWriter, r *http.Request, why string) {
	s.load.putOff.Add(1)
	w.Header().Set("Retry-After", retryAfter)
	writeError(w, r, http.StatusServiceUnavailable, why+": try again later; checks are not affected")
}

// madeAnswer is an answer in memory.
type madeAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *madeAnswer) Header() http.Header         { return a.header }
func (a *madeAnswer) WriteHeader(status int)      { a.status = status }
func (a *madeAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }
