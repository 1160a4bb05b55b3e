package httpapi

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

//go:embed page.html
var pageSource string

//go:embed style.css
var styleSource []byte

var page = template.Must(template.New("page").Parse(pageSource))

// root is the operator's page by GET. OPTIONS / is what HAProxy's bare "option
// httpchk" sends, HEAD / what many write there, and Patroni takes / for /primary
// (api.py:322): a page that is always 200 would pass for a primary.
func (s *Server) root(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		if name, ok := s.clusterName(w, r); ok {
			s.answerCluster(w, r, name, "primary")
		}
		return
	}
	var buf bytes.Buffer
	if err := page.Execute(&buf, s.pageData(time.Now())); err != nil {
		writeError(w, r, http.StatusInternalServerError, "rendering the page: "+err.Error())
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.Write(buf.Bytes())
}

func (s *Server) style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(styleSource)
	w.Write(graphStyle)
}

type pageData struct {
	Version  string
	At       string
	Level    cluster.Level
	Clusters []pageCluster
}

type pageCluster struct {
	ClusterHealth
	Nodes []pageNode
}

type pageNode struct {
	Name, Link, Role, State, Timeline, Lag, Age string
	Leader, Fresh                               bool
	Checks                                      []pageCheck
}

type pageCheck struct {
	Name, Word, Reason string
	Outcome            node.Outcome
}

func (s *Server) pageData(now time.Time) pageData {
	out := pageData{Version: s.cfg.Version, At: now.UTC().Format("2006-01-02 15:04:05 UTC")}
	for _, v := range s.sup.Views() {
		h := v.Health(now)
		out.Level = max(out.Level, h.Level)
		c := pageCluster{ClusterHealth: ClusterHealth{v.Cluster, v.Scope, v.Leader, h}}
		for _, m := range v.Members {
			c.Nodes = append(c.Nodes, pageNodeOf(stateOf(v, m, now)))
		}
		out.Clusters = append(out.Clusters, c)
	}
	return out
}

func pageNodeOf(st NodeState) pageNode {
	p := pageNode{Name: st.Node, Link: "/cluster/" + st.Cluster + "/node/" + st.Node, Leader: st.Leader, Fresh: st.Fresh, Role: "unknown", State: "unknown", Timeline: "unknown", Lag: "unknown", Age: "never"}
	if st.Role != nil {
		p.Role, p.State = *st.Role, *st.State
		if !st.Fresh {
			p.Role, p.State = "was "+p.Role, "was "+p.State
		}
		if st.Leaving {
			p.State += ", leaving"
		}
		p.Age = fmt.Sprintf("%.1f s of %g s", *st.Age, st.TTL)
	}
	if st.Timeline != nil {
		p.Timeline = fmt.Sprint(*st.Timeline)
	}
	switch {
	case st.Leader:
		p.Lag = "–"
	case st.Lag != nil:
		p.Lag = node.FormatSize(*st.Lag)
	}
	for _, name := range []string{"primary", "replica"} {
		c := st.Checks[name]
		word := "no"
		if c.Pass {
			word = "yes"
		}
		p.Checks = append(p.Checks, pageCheck{name, word, c.Reason, c.Outcome})
	}
	return p
}
