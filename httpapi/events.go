package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"patroniglue/cluster"
)

// events streams changes, as server-sent events (the HTML standard, 9.2):
//
//	event "change"    data is a [cluster.Change], the id is its id
//	event "lost"      changes after the given id are no longer kept; the stream continues from now
//	event "dropped"   the reader was too slow; the stream ends
//
// ?node= and ?cluster= select changes as for /history. A reader that reconnects with
// Last-Event-ID, or begins with ?after=ID, misses no change. The stream begins with an
// id alone, so that this is true also for a reader that has got no event yet.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	f, err := s.eventFilter(r)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	out, ok := s.openStream(w, r)
	if !ok {
		return
	}
	defer out.close()
	changes := s.sup.Subscribe(eventBuffer) // before After, so that nothing falls between
	defer changes.Close()

	last := s.sendMissed(out, f)
	beats := time.NewTicker(heartbeat)
	defer beats.Stop()
	for out.err == nil {
		select {
		case c := <-changes.C:
			if c.ID > last { // else it is a repeat, or sent before
				last = c.ID
				if f.Picks(&c) {
					out.send(eventOf(&c))
				}
			}
		case <-beats.C:
			// The id may be that of a change which the reader does not get: it need not reconnect before that one.
			out.send(": still here\nid: " + strconv.FormatUint(last, 10) + "\n\n")
		case <-out.stopping:
			return
		case <-r.Context().Done():
			return
		}
		if changes.Lost() > 0 {
			out.drop()
			return
		}
	}
}

// eventFilter reads which changes an event stream has.
func (s *Server) eventFilter(r *http.Request) (cluster.Filter, error) {
	f, err := parseFilter(r.URL.RawQuery, time.Now(), "after", "node", "cluster")
	if id := r.Header.Get("Last-Event-ID"); id != "" && err == nil {
		f.After, err = parseID("Last-Event-ID", id) // newer than the ?after= with which the stream began
	}
	if err == nil {
		err = s.sup.Knows(f)
	}
	return f, err
}

// sendMissed sends the changes after the one that the reader got last, or only the
// latest id where there are none. It returns that id.
func (s *Server) sendMissed(out *eventStream, f cluster.Filter) (last uint64) {
	missed, last, complete := s.sup.After(f.After)
	switch {
	case f.After == 0 || complete && len(missed) == 0:
		out.send("id: " + strconv.FormatUint(last, 10) + "\n\n")
		return last
	case !complete:
		out.send("event: lost\nid: " + strconv.FormatUint(last, 10) + "\ndata: " +
			`{"reason":"changes after that id are no longer kept: see /history"}` + "\n\n")
		return last
	}
	for i := range missed {
		if f.Picks(&missed[i]) {
			out.send(eventOf(&missed[i]))
		}
	}
	return last
}

func eventOf(c *cluster.Change) string {
	change := *c
	change.At = change.At.UTC()
	data, _ := json.Marshal(change) // nothing in it fails, and JSON has no line breaks
	return "event: change\nid: " + strconv.FormatUint(c.ID, 10) + "\ndata: " + string(data) + "\n\n"
}
