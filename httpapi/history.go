package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// defaultLimit is how many changes /history returns without ?limit=.
const defaultLimit = 1000

// history answers with the changes, the oldest first as in Patroni's own /history
// (api.py, do_GET_history): see [cluster.History] and [cluster.Change].
//
//	?since=1h, or 2026-01-02T15:04:05Z   changes since then
//	?after=ID                            changes after that one
//	?node=N, ?cluster=C                  changes of that node or cluster
//	?limit=50                            the newest 50 of them; default 1000
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

// parseFilter reads those parameters that are valid.
func parseFilter(raw string, now time.Time, valid ...string) (cluster.Filter, error) {
	f := cluster.Filter{Limit: defaultLimit}
	query, err := parseQuery(raw, valid...)
	for name, v := range query {
		want := ""
		switch name {
		case "since":
			var ok bool
			if f.Since, ok = parseSince(v, now); !ok {
				want = "want a duration back from now such as 1h, or a time such as 2026-01-02T15:04:05Z"
			}
		case "after":
			if f.After, err = parseID(name, v); err != nil {
				return f, err
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
	return f, err
}

func parseID(name, v string) (uint64, error) {
	id, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, &node.ParameterError{Name: name, Problem: "want the id of a change (got " + quote(v) + ")"}
	}
	return id, nil
}

// parseSince reads a time, in the form of RFC 3339, or as a duration before now.
func parseSince(s string, now time.Time) (time.Time, bool) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), true
	}
	// In a query the + of +01:00 stands for a blank, and no time of RFC 3339 has one.
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+"))
	return t, err == nil
}

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
