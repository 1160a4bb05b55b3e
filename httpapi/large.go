package httpapi

import (
	"bytes"
	"net/http"
	"time"
)

const (
	largeTimeout = 5 * time.Second // that a large answer waits for its turn to be made
	maxUnsent    = 64 << 20        // bytes of large answers that may wait for their readers
	retryAfter   = "10"            // seconds, for who was put off
)

// large answers what is made of all nodes or of many changes. One such answer is
// made at a time, and then none for as long as it took, so that a check never
// waits behind many; and it is made in whole before its reader gets any of it, so
// that a slow one holds up nobody.
func (s *Server) large(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h(w, r) // has no body
			return
		}
		wait := time.NewTimer(largeTimeout)
		defer wait.Stop()
		select {
		case s.load.turn <- struct{}{}:
		case <-wait.C:
			s.putOff(w, r, "too many ask for large answers")
			return
		case <-r.Context().Done():
			return
		}
		made := &madeAnswer{header: w.Header(), status: http.StatusOK}
		func() {
			begun := time.Now()
			defer func() { time.AfterFunc(time.Since(begun), func() { <-s.load.turn }) }() // also when it panics
			h(made, r)
		}()
		size := int64(made.body.Len())
		defer s.load.unsent.Add(-size)
		if s.load.unsent.Add(size) > maxUnsent {
			h := w.Header()
			clear(h)
			h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff // safe did that before
			s.putOff(w, r, "too many large answers wait for slow readers")
			return
		}
		w.WriteHeader(made.status)
		w.Write(made.body.Bytes()) // a client that is gone is its own affair
	}
}

func (s *Server) putOff(w http.ResponseWriter, r *http.Request, why string) {
	s.load.putOff.Add(1)
	w.Header().Set("Retry-After", retryAfter)
	writeError(w, r, http.StatusServiceUnavailable, why+": come back later; checks are answered as ever")
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
