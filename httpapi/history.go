package httpapi

import (
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
