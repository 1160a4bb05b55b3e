package httpapi

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// The operator's page: server-rendered, whole without JavaScript, live with it
// (pagelive.go). Its marks do not change between versions, for tests and for who
// scripts it:
//
//	<html data-level data-page data-live>  the worst level; what was rendered, by which build; "yes" or "no" once the script runs
//	#banner[data-cluster][data-level]      one cluster's verdict; its reasons are li[data-code]
//	tbody[data-node][data-level]           one node, in the table #nodes; [data-leader] on the one primary
//	td[data-check][data-outcome]           what a check answers, of primary and replica
//	#timeline, #changes                    who was primary when; what changed, latest first
//	tr[data-cluster][data-level]           one cluster of the overview
//	#own                                   what is wrong with the supervisor itself
//	#live                                  the bar that says that the page is old

//go:embed ui
var ui embed.FS

var templates = template.Must(template.ParseFS(ui, "ui/page.html"))

// assets are what the page loads, by name.
var assets = func() map[string]asset {
	all := make(map[string]asset)
	for name, kind := range map[string]string{
		"page.css": "text/css; charset=utf-8", "graph.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8",
		"ok.svg": "image/svg+xml", "warning.svg": "image/svg+xml", "critical.svg": "image/svg+xml",
	} {
		body, err := ui.ReadFile("ui/" + name)
		if err != nil {
			panic(err) // embedded above
		}
		all[name] = asset{kind, body}
	}
	return all
}()

type asset struct {
	contentType string
	body        []byte
}

// buildID differs between builds whose pages differ.
func buildID(version string) string {
	h := sha256.New()
	h.Write([]byte(version))
	files, _ := ui.ReadDir("ui")
	for _, f := range files {
		body, _ := ui.ReadFile("ui/" + f.Name()) // embedded
		h.Write(body)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// root is what get answers by GET: the operator's page. OPTIONS / is what HAProxy's bare "option
// httpchk" sends, HEAD / what many write there, and Patroni takes / for /primary
// (api.py:322): a page that is always 200 would pass for a primary.
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
	p, err := s.render(q, time.Now())
	if err != nil { // a cluster that is gone since, or a mistake in the template
		writeError(w, r, http.StatusInternalServerError, "rendering the page: "+err.Error())
		return
	}
	writePage(w, r, http.StatusOK, p.bytes())
}

func (s *Server) pageNotFound(w http.ResponseWriter, r *http.Request, err error) {
	p := s.newPage(pageQuery{base: "../"}, time.Now())
	p.Title, p.Problem, p.LevelName = "no such cluster", err.Error(), cluster.Warning.String()
	for _, v := range s.sup.Views() {
		p.Names = append(p.Names, v.Cluster)
	}
	if err := p.execute("notfound"); err != nil {
		writeError(w, r, http.StatusInternalServerError, "rendering the page: "+err.Error())
		return
	}
	writePage(w, r, http.StatusNotFound, p.bytes())
}

// pageQuery is which page is asked for.
type pageQuery struct {
	cluster string // "" = the overview
	base    string // from the page to /: all links are relative, for proxies that serve us below a path
	live    string // from / to its stream
	search  string // of the overview: part of the name of a cluster or a node
	trouble bool   // of the overview: only where something is wrong
}

// pageQuery reads the path and ?q= and ?trouble=1. With one cluster / is its
// page, unless something is searched.
func (s *Server) pageQuery(r *http.Request) (pageQuery, error) {
	name := r.PathValue("cluster")
	if name != "" {
		if r.URL.RawQuery != "" {
			return pageQuery{}, &node.ParameterError{Name: "query", Problem: "want none here (got " + quote(r.URL.RawQuery) + ")"}
		}
		_, err := s.sup.View(name)
		return pageQuery{cluster: name, base: "../", live: "ui/" + name + "/live"}, err
	}
	values, err := parseQuery(r.URL.RawQuery, "q", "trouble")
	q := pageQuery{live: "live", search: strings.TrimSpace(values["q"]), trouble: values["trouble"] == "1"}
	if err != nil {
		return q, err
	}
	if v, ok := values["trouble"]; ok && v != "0" && v != "1" {
		return q, &node.ParameterError{Name: "trouble", Problem: "want 1 or 0 (got " + quote(v) + ")"}
	}
	if views := s.sup.Views(); len(views) == 1 && len(values) == 0 {
		q.cluster = views[0].Cluster
	}
	return q, nil
}

// asset answers /assets/{file}. The page names each with its build, so a browser
// may keep it for good.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets[r.PathValue("file")]
	if !ok {
		unknownRoute(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	if r.URL.RawQuery == s.build {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	writeBody(w, r, http.StatusOK, a.body)
}

func writePage(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	writeBody(w, r, status, body)
}

// writeBody writes the body by GET alone.
func writeBody(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		w.Write(body) // a client that is gone is its own affair
	}
}
