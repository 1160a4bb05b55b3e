package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// defaultLimit is how many changes /history gives where nobody says.
const defaultLimit = 1000

// history answers with what changed, oldest first as in Patroni's own /history
// (api.py, do_GET_history): see [cluster.History] and [cluster.Change].
//
//	?since=1h, or 2026-01-02T15:04:05Z   not before then
//	?after=ID                            only what came after that change
//	?node=N, ?cluster=C                  only of these
//	?limit=50                            the newest so many; default 1000
func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.RawQuery, time.Now(), "since", "after", "node", "cluster", "limit")
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	h, err := s.sup.History(f)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	for i := range h.Changes {
		h.Changes[i].At = h.Changes[i].At.UTC()
	}
	writeJSON(w, r, http.StatusOK, h)
}

// parseFilter reads the parameters of valid, each at most once.
func parseFilter(raw string, now time.Time, valid ...string) (cluster.Filter, error) {
	f := cluster.Filter{Limit: defaultLimit}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return f, &node.ParameterError{Name: "query", Problem: "want name=value&name=value (got " + quote(raw) + ")"}
	}
	for name, values := range query {
		if !slices.Contains(valid, name) {
			return f, &node.ParameterError{Name: name, Problem: "unknown, want " + strings.Join(valid, ", ")}
		}
		if len(values) > 1 {
			return f, &node.ParameterError{Name: name, Problem: "want it once"}
		}
		v, want := values[0], ""
		switch name {
		case "since":
			var ok bool
			if f.Since, ok = parseSince(v, now); !ok {
				want = "want a duration back from now such as 1h, or a time such as 2026-01-02T15:04:05Z"
			}
		case "after":
			if f.After, err = strconv.ParseUint(v, 10, 64); err != nil {
				want = "want the id of a change"
			}
		case "limit":
			if f.Limit, err = strconv.Atoi(v); err != nil || f.Limit < 1 {
				want = "want a whole number, at least 1"
			}
		case "node":
			f.Node = v
		case "cluster":
			f.Cluster = v
		}
		if want != "" {
			return f, &node.ParameterError{Name: name, Problem: want + " (got " + quote(v) + ")"}
		}
	}
	return f, nil
}

// parseSince takes a time by RFC 3339, or how long ago it was.
func parseSince(s string, now time.Time) (time.Time, bool) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), true
	}
	// In a query the + of +01:00 stands for a blank, which no such time has.
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+"))
	return t, err == nil
}

// Of /events.
const (
	eventBuffer  = 256              // changes that may wait for a slow reader
	eventTimeout = 3 * time.Second  // that writing one may take; less than drainTimeout, so that no reader holds up a stop
	heartbeat    = 15 * time.Second // below what proxies take for dead
)

// events streams what changes, as server-sent events (the HTML standard, 9.2):
//
//	event "change"    data is a [cluster.Change], the id is its id
//	event "lost"      the id to go on after is not known any more: /history has what is kept; the stream goes on from now
//	event "dropped"   the reader was too slow; the stream ends
//
// Who comes back with Last-Event-ID, or begins with ?after=ID, misses nothing.
// The stream begins with an id alone, so that this is true of whoever has seen
// no event yet.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	raw := r.URL.RawQuery
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		raw = "after=" + url.QueryEscape(id) // newer than the ?after= that the stream began with
	}
	f, err := parseFilter(raw, time.Now(), "after")
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h["Cache-Control"] = noStore
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodGet {
		return
	}
	changes := s.sup.Subscribe(eventBuffer) // before After, so that nothing falls between
	defer changes.Close()
	out := &eventStream{w: w, rc: http.NewResponseController(w), stopping: s.stopping}
	out.rc.SetReadDeadline(time.Time{}) // else the server's ends the request

	missed, last, complete := s.sup.After(f.After)
	switch {
	case f.After == 0 || complete && len(missed) == 0:
		missed = nil
		out.send("id: " + strconv.FormatUint(last, 10) + "\n\n")
	case !complete:
		missed = nil
		out.send("event: lost\nid: " + strconv.FormatUint(last, 10) + "\ndata: " +
			`{"reason":"what came after that id is not known any more: /history has what is kept"}` + "\n\n")
	}
	for i := range missed {
		out.send(eventOf(&missed[i]))
	}
	beats := time.NewTicker(heartbeat)
	defer beats.Stop()
	for out.err == nil {
		select {
		case c := <-changes.C:
			if c.ID > last { // neither a repeat nor sent above
				out.send(eventOf(&c))
			}
		case <-beats.C:
			out.send(": still here\n\n")
		case <-s.stopping:
			return
		case <-r.Context().Done():
			return
		}
		if lost := changes.Lost(); lost > 0 {
			out.send("event: dropped\ndata: " + `{"reason":"reading too slowly: come back with Last-Event-ID"}` + "\n\n")
			return
		}
	}
}

func eventOf(c *cluster.Change) string {
	change := *c
	change.At = change.At.UTC()
	data, _ := json.Marshal(change) // nothing in it fails, and JSON has no line breaks
	return "event: change\nid: " + strconv.FormatUint(c.ID, 10) + "\ndata: " + string(data) + "\n\n"
}

// eventStream writes until something fails.
type eventStream struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	stopping <-chan struct{}
	err      error
}

func (e *eventStream) send(event string) {
	select {
	case <-e.stopping:
		e.err = http.ErrServerClosed
	default:
	}
	if e.err != nil {
		return
	}
	e.rc.SetWriteDeadline(time.Now().Add(eventTimeout)) // instead of the server's, which is for the whole answer
	if _, e.err = e.w.Write([]byte(event)); e.err == nil {
		e.err = e.rc.Flush()
	}
}
