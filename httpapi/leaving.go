package httpapi

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// Leaving is the answer to POST and DELETE of /node/{node}/leaving.
type Leaving struct {
	Node    string     `json:"node"`
	Cluster string     `json:"cluster"`
	Leaving bool       `json:"leaving"` // a stop is announced
	Until   *time.Time `json:"until"`   // the latest end of the announcement; null when there is none
	Reason  string     `json:"reason"`
}

// leave announces, by POST, that a node is about to stop; by DELETE it takes the
// announcement back.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	d, err := leavingFor(r)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	var a cluster.Announcement
	if r.Method == http.MethodDelete {
		a, err = s.sup.Stay(r.PathValue("cluster"), r.PathValue("node"))
	} else {
		a, err = s.sup.Leave(r.PathValue("cluster"), r.PathValue("node"), d)
	}
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	out := Leaving{Node: a.Node, Cluster: a.Cluster, Leaving: a.Leaving, Reason: a.Reason}
	if a.Leaving {
		out.Until = new(a.Until.UTC())
	}
	writeJSON(w, r, http.StatusOK, out)
}

// leavingFor reads ?for=, which is not for DELETE.
func leavingFor(r *http.Request) (time.Duration, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, &node.ParameterError{Name: "query", Problem: "want for=10s (got " + quote(r.URL.RawQuery) + ")"}
	}
	for name := range query {
		if name != "for" || r.Method == http.MethodDelete {
			return 0, &node.ParameterError{Name: name, Problem: "unknown, want for when a stop is announced, and nothing when it is taken back"}
		}
	}
	values, ok := query["for"]
	if !ok {
		return cluster.DefaultLeaving, nil
	}
	d, err := time.ParseDuration(values[0])
	if err != nil || len(values) > 1 || d <= 0 || d > cluster.MaxLeaving {
		return 0, &node.ParameterError{Name: "for", Problem: "want a duration such as 10s, above 0 and at most " + cluster.MaxLeaving.String() +
			" (got " + quote(strings.Join(values, ", ")) + ")"}
	}
	return d, nil
}

// authorized reports whether the request has the token; else it answers the request.
// Only clients that were given the token may change state: one that announces stops
// could keep a cluster without a primary.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	secret := s.settings.Load().Token
	if secret == "" {
		writeError(w, r, http.StatusForbidden, "announced stops are off: token-file in [frontend] turns them on")
		return false
	}
	if hasToken(r, secret) {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="patroniglue"`)
	writeError(w, r, http.StatusUnauthorized, "want the bearer token of token-file in [frontend]")
	return false
}
