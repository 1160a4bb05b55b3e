package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi/page"
	"patroniglue/node"
)

// root has GET / answered by get, with the operator's page. Other methods get the check
// primary, as Patroni takes / for /primary (api.py:322): HAProxy's bare "option httpchk"
// sends OPTIONS /, and many configurations send HEAD /. A page that is always 200 would
// pass for a primary.
func (s *Server) root(get http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			get(w, r)
		} else if name, ok := s.clusterName(w, r); ok {
			s.answerCluster(w, r, name, "primary")
		}
	}
}

// page answers / and /ui/{cluster}.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	q, err := s.pageQuery(r)
	if _, unknown := errors.AsType[*cluster.UnknownError](err); unknown {
		s.pageNotFound(w, r, err)
		return
	}
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	body, err := s.pages.Render(q, time.Now())
	if err != nil { // the cluster has just gone, or a template is wrong
		writeError(w, r, http.StatusInternalServerError, "rendering the page: "+err.Error())
		return
	}
	writePage(w, r, http.StatusOK, body)
}

func (s *Server) pageNotFound(w http.ResponseWriter, r *http.Request, err error) {
	body, err := s.pages.NotFound(err, time.Now())
	if err != nil {
		writeError(w, r, http.StatusInternalServerError, "rendering the page: "+err.Error())
		return
	}
	writePage(w, r, http.StatusNotFound, body)
}

// pageQuery reads which page is requested, from the path, ?q= and ?trouble=1. With one
// cluster / is its page, unless there are parameters.
func (s *Server) pageQuery(r *http.Request) (page.Query, error) {
	name := r.PathValue("cluster")
	if name != "" {
		if r.URL.RawQuery != "" {
			return page.Query{}, &node.ParameterError{Name: "query", Problem: "want none here (got " + quote(r.URL.RawQuery) + ")"}
		}
		_, err := s.sup.View(name)
		return page.Query{Cluster: name, Base: "../", Live: "ui/" + name + "/live"}, err
	}
	values, err := parseQuery(r.URL.RawQuery, "q", "trouble")
	q := page.Query{Live: "live", Search: strings.TrimSpace(values["q"]), Trouble: values["trouble"] == "1"}
	if err != nil {
		return q, err
	}
	if v, ok := values["trouble"]; ok && v != "0" && v != "1" {
		return q, &node.ParameterError{Name: "trouble", Problem: "want 1 or 0 (got " + quote(v) + ")"}
	}
	if views := s.sup.Views(); len(views) == 1 && len(values) == 0 {
		q.Cluster = views[0].Cluster
	}
	return q, nil
}

// asset answers /assets/{file}. Pages link to assets with their build, so browsers may
// keep them forever.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	contentType, body, ok := page.Asset(r.PathValue("file"))
	if !ok {
		unknownRoute(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	if r.URL.RawQuery == s.pages.Build() {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	writeBody(w, r, http.StatusOK, body)
}

func writePage(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	writeBody(w, r, status, body)
}

// writeBody writes the body only where the method is GET.
func writeBody(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		w.Write(body) // an error means that the client is gone
	}
}
