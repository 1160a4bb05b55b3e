package httpapi

import (
	"net/http"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// ClusterHealth is one cluster in what /health answers.
type ClusterHealth struct {
	Cluster string `json:"cluster"`
	Scope   string `json:"scope,omitzero"`
	Leader  string `json:"leader"` // "" when there is none
	cluster.Health
}

// Health is what /health answers.
type Health struct {
	Healthy    bool            `json:"healthy"`    // as patroniglue 1.x said it; false goes with 503
	Level      cluster.Level   `json:"level"`      // the worst of those below
	Supervisor cluster.Health  `json:"supervisor"` // what is wrong with itself, and is of no cluster
	Clusters   []ClusterHealth `json:"clusters"`   // in the order of the configuration
}

// health is 503 when anything is critical; with ?strict also for a warning.
// ?cluster= leaves out the other clusters.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	query, err := parseQuery(r.URL.RawQuery, "cluster", "strict")
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	strict, err := parseStrict(query)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	views := s.sup.Views()
	if name, ok := query["cluster"]; ok {
		v, err := s.sup.View(name)
		if err != nil {
			s.writeQuestionError(w, r, err)
			return
		}
		views = []*cluster.View{v}
	}
	now := time.Now()
	own := s.OwnHealth(now)
	out := Health{Level: own.Level, Supervisor: own, Clusters: []ClusterHealth{}}
	for _, v := range views {
		h := v.Health(now)
		out.Level = max(out.Level, h.Level)
		out.Clusters = append(out.Clusters, ClusterHealth{v.Cluster, v.Scope, v.Leader, h})
	}
	out.Healthy = out.Level == cluster.OK || out.Level == cluster.Warning && !strict
	status := http.StatusOK
	if !out.Healthy {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, r, status, out)
}

func parseStrict(query map[string]string) (bool, error) {
	v, ok := query["strict"]
	switch v {
	case "", "1", "true":
		return ok, nil
	case "0", "false":
		return false, nil
	}
	return false, &node.ParameterError{Name: "strict", Problem: "want nothing, true or false (got " + quote(v) + ")"}
}

// Certificate is one that the supervisor itself shows.
type Certificate struct {
	Use  string // "frontend": to who asks it; "operator": the same on their listener; "client": to nodes; "discovery": to etcd
	File string
	Ends time.Time
}

// OwnHealth judges the supervisor itself. When the frontend's certificate is over,
// the checks of whoever verifies it fail. What follows from one that is shown to
// nodes, they tell: not all of them ask for it.
func (s *Server) OwnHealth(now time.Time) cluster.Health {
	h := cluster.Health{Reasons: []cluster.Reason{}}
	if s.cfg.Reasons != nil {
		for _, r := range s.cfg.Reasons() {
			h.Add(r)
		}
	}
	if s.cfg.Certificates == nil {
		return h
	}
	for _, c := range s.cfg.Certificates() {
		what, over := "the certificate of [frontend] ("+c.File+")", cluster.Critical
		switch c.Use {
		case "operator":
			what, over = "the certificate of [operator] ("+c.File+")", cluster.Warning
		case "discovery":
			what, over = "the certificate that is shown to etcd ("+c.File+")", cluster.Warning
		case "client":
			what, over = "the certificate that is shown to nodes ("+c.File+")", cluster.Warning
		}
		if r, ok := cluster.CertificateReason(what, c.Ends, now, over); ok {
			h.Add(r)
		}
	}
	return h
}
