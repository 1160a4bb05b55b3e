package httpapi

import (
	"bytes"
	"cmp"
	"net/http"
	"strings"

	"patroniglue/cluster"
	"patroniglue/node"
)

// nodeCheck answers a check of one node: Patroni's status code, and by GET
// Patroni's document with our verdict in it.
func (s *Server) nodeCheck(w http.ResponseWriter, r *http.Request) {
	a, err := s.sup.Ask(r.Context(), cluster.Question{
		Cluster: r.PathValue("cluster"), Node: r.PathValue("node"), Check: r.PathValue("check"), Query: r.URL.RawQuery,
	})
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	s.served.count(a.Check.Ask, a.Verdict.Passes())
	status := http.StatusServiceUnavailable
	if a.Verdict.Passes() {
		status = http.StatusOK
	}
	if e := &a.Member.Entry; e.Known && r.Header.Get(node.AgeHeader) != "" {
		w.Header().Set(node.AgeHeader, node.FormatAge(e.Age(a.At)))
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	appendAnswer(buf, &a)
	write(w, r, status, buf.Bytes())
}

// clusterCheck answers a check of a whole cluster, which passes when any node passes.
func (s *Server) clusterCheck(w http.ResponseWriter, r *http.Request) {
	if _, err := node.ParseCheck(r.PathValue("check"), r.URL.RawQuery); err != nil {
		s.writeQuestionError(w, r, err) // a wrong check is reported before a missing cluster
		return
	}
	name, ok := s.clusterName(w, r)
	if !ok {
		return
	}
	s.answerCluster(w, r, name, r.PathValue("check"))
}

func (s *Server) answerCluster(w http.ResponseWriter, r *http.Request, name, check string) {
	answers, err := s.sup.AskAll(r.Context(), name, check, r.URL.RawQuery)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	status := http.StatusServiceUnavailable
	nodes, reasons := []string{}, map[string]string{}
	for _, a := range answers {
		reasons[a.Member.Name] = a.Verdict.Reason
		if a.Verdict.Passes() {
			status = http.StatusOK
			nodes = append(nodes, a.Member.Name)
		}
	}
	s.served.count(answers[0].Check.Ask, status == http.StatusOK) // a cluster has nodes
	// The check's own name as a key is what patroniglue 1.x answered.
	writeJSON(w, r, status, map[string]any{check: status == http.StatusOK, "cluster": name, "nodes": nodes, "reasons": reasons})
}

// maxNamed is how many names an error lists at most.
const maxNamed = 20

// clusterName returns the cluster that the path names, or the only one. When ok is
// false, the request is answered.
func (s *Server) clusterName(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	if name := r.PathValue("cluster"); name != "" {
		return name, true
	}
	views := s.sup.Views()
	if len(views) == 1 {
		return views[0].Cluster, true
	}
	if len(views) == 0 {
		writeError(w, r, http.StatusServiceUnavailable, "no cluster is known: "+cmp.Or(s.sup.Pending(), "discovery: no member is listed"))
		return "", false
	}
	var full []string
	for _, v := range views[:min(len(views), maxNamed)] {
		full = append(full, "/cluster/"+v.Cluster+strings.TrimPrefix(r.URL.Path, "/cluster"))
	}
	writeError(w, r, http.StatusNotFound, "several clusters are watched, want one of "+strings.Join(full, ", "))
	return "", false
}
