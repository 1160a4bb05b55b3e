package httpapi

import (
	"net/http"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// ClusterHealth is one cluster in the answer of /health.
type ClusterHealth struct {
	Cluster string `json:"cluster"`
	Scope   string `json:"scope,omitzero"`
	Leader  string `json:"leader"` // "" when there is none
	cluster.Health
}

// Health is the answer of /health.
type Health struct {
	Healthy    bool            `json:"healthy"`    // as in patroniglue 1.x; 503 when it is false
	Level      cluster.Level   `json:"level"`      // the worst of the levels below
	Supervisor cluster.Health  `json:"supervisor"` // the supervisor itself, apart from all clusters
	Clusters   []ClusterHealth `json:"clusters"`   // in the order of the configuration
}

// health answers 503 when anything is critical; with ?strict also when anything is a
// warning. ?cluster= selects one cluster.
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

// Certificate is a certificate of the supervisor itself.
type Certificate struct {
	Use  string // "frontend", "operator": shown to their clients; "client": to nodes; "discovery": to etcd
	File string
	Ends time.Time
}

// OwnHealth judges the supervisor itself. When the frontend's certificate has expired,
// checks fail in every load balancer that verifies it: that is critical. An expired
// client certificate is a warning: not all nodes ask for it, and those that do refuse
// polls, which shows.
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

// livez answers that the daemon is alive.
func (s *Server) livez(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, http.StatusOK, map[string]bool{"alive": true})
}

// readyz answers 200 when all nodes are known and each was polled at least once.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if pending := s.sup.Pending(); pending != "" {
		writeError(w, r, http.StatusServiceUnavailable, pending)
		return
	}
	var waiting []string
	for _, v := range s.sup.Views() {
		for _, m := range v.Members {
			if !m.Polled {
				waiting = append(waiting, v.Cluster+"/"+m.Name)
			}
		}
	}
	if len(waiting) > 0 {
		writeError(w, r, http.StatusServiceUnavailable, "not polled yet: "+strings.Join(waiting[:min(len(waiting), maxNamed)], ", "))
		return
	}
	writeJSON(w, r, http.StatusOK, map[string]bool{"ready": true})
}
