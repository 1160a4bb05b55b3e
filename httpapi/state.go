package httpapi

import (
	"net/http"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// NodeState is the answer of /node/{node}. Unknown values are null.
type NodeState struct {
	Node     string                  `json:"node"`
	Cluster  string                  `json:"cluster"`
	URL      string                  `json:"url"`
	Postgres string                  `json:"postgres,omitzero"` // host:port as configured
	Leader   bool                    `json:"leader"`            // elected by the supervisor
	Leaving  bool                    `json:"leaving"`           // its stop is announced: it does not pass as primary
	Until    *time.Time              `json:"leaving_until,omitzero"`
	Unlisted *time.Time              `json:"unlisted,omitzero"` // since when discovery no longer lists it
	Fresh    bool                    `json:"fresh"`             // the values below are believed
	Role     *string                 `json:"role"`
	State    *string                 `json:"state"`
	Timeline *int64                  `json:"timeline"`
	Lag      *int64                  `json:"lag_bytes"` // how far its replay is behind the primary
	Since    *time.Time              `json:"since"`     // role and state are unchanged since
	Tags     map[string]any          `json:"tags,omitzero"`
	Patroni  string                  `json:"patroni_version,omitzero"`
	Server   int64                   `json:"server_version,omitzero"` // PostgreSQL's, such as 150020
	PolledAt *time.Time              `json:"polled_at"`               // when the last good poll began
	Age      *float64                `json:"age_seconds"`             // of the last good poll
	TTL      float64                 `json:"ttl_seconds"`
	Took     *float64                `json:"poll_seconds"` // the last good poll
	Failures int                     `json:"failures"`     // polls in a row
	Error    string                  `json:"error,omitzero"`
	Expires  *time.Time              `json:"certificate_ends,omitzero"` // of its REST API; only by https
	Checks   map[string]CheckVerdict `json:"checks"`
}

// CheckVerdict is one verdict in a NodeState.
type CheckVerdict struct {
	Pass    bool         `json:"pass"`
	Outcome node.Outcome `json:"outcome"`
	Label   string       `json:"label"`
	Reason  string       `json:"reason"`
}

func (s *Server) nodeState(w http.ResponseWriter, r *http.Request) {
	v, m, err := s.sup.Find(r.Context(), r.PathValue("cluster"), r.PathValue("node"))
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, stateOf(v, m, time.Now()))
}

func stateOf(v *cluster.View, m *cluster.Member, now time.Time) NodeState {
	e := &m.Entry
	out := NodeState{
		Node: m.Name, Cluster: v.Cluster, URL: m.URL, Postgres: m.Postgres, Leader: v.Leader == m.Name,
		Fresh: e.Fresh(now), TTL: v.TTL.Seconds(), Failures: e.Failures, Checks: map[string]CheckVerdict{},
	}
	if until, leaves := m.Leaving(now); leaves {
		out.Leaving, out.Until = true, new(until.UTC())
	}
	if !m.Unlisted.IsZero() {
		out.Unlisted = new(m.Unlisted.UTC())
	}
	if e.Err != nil {
		out.Error = e.Err.Error()
	}
	for _, name := range node.CheckNames() {
		c, _ := node.ParseCheck(name, "") // its own names parse
		verdict := m.Verdict(&c, now)
		out.Checks[name] = CheckVerdict{verdict.Passes(), verdict.Outcome, verdict.Label, verdict.Reason}
	}
	if !e.Known {
		return out
	}
	d := &e.Value.Document
	role, state := string(d.Role), string(d.State)
	age, took := seconds(e.Age(now)), seconds(e.Value.Took)
	began, since := e.Began.UTC(), m.Since.UTC()
	out.Role, out.State, out.Tags, out.Patroni, out.Server = &role, &state, d.Tags, d.Version, d.ServerVersion
	out.PolledAt, out.Age, out.Took, out.Since = &began, &age, &took, &since
	if d.Timeline != 0 {
		out.Timeline = &d.Timeline
	}
	if m.Standing.Lag >= 0 {
		out.Lag = &m.Standing.Lag
	}
	if ends := e.Value.CertificateEnds; !ends.IsZero() {
		out.Expires = new(ends.UTC())
	}
	return out
}
