package httpapi

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// routes is the whole URL surface. A check is any of node.CheckNames.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	read := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, only(h, http.MethodGet, http.MethodHead, http.MethodOptions))
	}
	post := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, only(h, http.MethodPost)) }
	change := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, only(h, http.MethodPost, http.MethodDelete))
	}

	for _, prefix := range []string{"/node/{node}", "/cluster/{cluster}/node/{node}"} {
		read(prefix, s.nodeState)
		read(prefix+"/{check}", s.nodeCheck)
		read(prefix+"/patroni", s.nodeDocument)
		read(prefix+"/cluster", s.members)
		for _, what := range []string{"config", "failsafe", "history", "metrics"} {
			read(prefix+"/"+what, s.onlyPatroni)
		}
		post(prefix+"/refresh", s.refresh)
		change(prefix+"/leaving", s.leave) // with a bearer token
	}
	read("/patroni", s.clusterDocument)
	read("/cluster", s.members)
	read("/cluster/{cluster}", s.members)
	read("/cluster/{cluster}/cluster", s.members)
	read("/cluster/{cluster}/patroni", s.clusterDocument)
	read("/cluster/{cluster}/{check}", s.clusterCheck)
	read("/{check}", s.clusterCheck) // where one cluster is watched; with one node this is the old patroniglue

	read("/health", s.health)
	read("/history", s.large(s.history))
	read("/events", s.events)
	read("/livez", s.livez)
	read("/readyz", s.readyz)
	if s.cfg.Metrics != nil {
		mux.Handle("/metrics", only(s.large(s.cfg.Metrics.ServeHTTP), http.MethodGet, http.MethodHead))
	}

	read("/{$}", s.large(s.root)) // by another method it is a check
	read("/ui/{cluster}", s.large(s.page))
	read("/live", s.live) // what changes on the page, as server-sent events
	read("/ui/{cluster}/live", s.live)
	read("/assets/{file}", s.asset)
	mux.HandleFunc("/", s.unknownRoute)
	return noRedirects(mux, s.unknownRoute)
}

// only answers other methods with 405.
func only(h http.HandlerFunc, methods ...string) http.Handler {
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(methods, r.Method) {
			h(w, r)
			return
		}
		w.Header().Set("Allow", allow)
		writeError(w, r, http.StatusMethodNotAllowed, "method "+r.Method+" is not for this route, want "+allow)
	})
}

// noRedirects keeps http.ServeMux from answering a path such as /node//primary
// with a redirect: HAProxy takes 3xx for a passed check (its manual, httpchk).
func noRedirects(next http.Handler, unknown http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No route but / ends in a slash; "*" and "host:port" have none in front.
		if p := r.URL.Path; path.Clean(p) != p || !strings.HasPrefix(p, "/") {
			unknown(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// unknownRoute names what would be valid.
func (s *Server) unknownRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, "no route "+quote(r.URL.Path)+", want /node/{node}/{check}, /node/{node}, /cluster, /cluster/{cluster}/{check}, /health, /history, /events, /livez, /readyz, /metrics, /ui/{cluster} or /")
}
