package httpapi

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// routes is the whole URL surface. A check is any of node.CheckNames. Where there
// is an operator's listener, that answers the whole, and the frontend the bare: the
// same URLs, of which those that are not for load balancers say where they are.
func (s *Server) routes() (whole, bare http.Handler) {
	all, checks := http.NewServeMux(), http.NewServeMux()
	reading := func(h http.HandlerFunc) http.Handler {
		return only(h, http.MethodGet, http.MethodHead, http.MethodOptions)
	}
	balancer := func(pattern string, h http.Handler) { all.Handle(pattern, h); checks.Handle(pattern, h) }
	operator := func(pattern string, h http.Handler) { all.Handle(pattern, h); checks.HandleFunc(pattern, elsewhere) }
	check := func(pattern string, h http.HandlerFunc) { balancer(pattern, reading(h)) }
	read := func(pattern string, h http.HandlerFunc) { operator(pattern, reading(h)) }

	for _, prefix := range []string{"/node/{node}", "/cluster/{cluster}/node/{node}"} {
		check(prefix+"/{check}", s.nodeCheck)
		balancer(prefix+"/leaving", only(s.leave, http.MethodPost, http.MethodDelete)) // with a bearer token
		read(prefix, s.nodeState)
		read(prefix+"/patroni", s.nodeDocument)
		read(prefix+"/cluster", s.members)
		for _, what := range []string{"config", "failsafe", "history", "metrics"} {
			read(prefix+"/"+what, s.onlyPatroni)
		}
		all.Handle(prefix+"/refresh", only(s.refresh, http.MethodPost))
		checks.Handle(prefix+"/refresh", only(s.refreshByToken, http.MethodPost))
	}
	check("/cluster/{cluster}/{check}", s.clusterCheck)
	check("/{check}", s.clusterCheck) // where one cluster is watched; with one node this is the old patroniglue
	check("/livez", s.livez)
	check("/readyz", s.readyz)

	read("/patroni", s.clusterDocument)
	read("/cluster", s.members)
	read("/cluster/{cluster}", s.members)
	read("/cluster/{cluster}/cluster", s.members)
	read("/cluster/{cluster}/patroni", s.clusterDocument)
	read("/health", s.health)
	read("/history", s.large(s.history))
	read("/events", s.events)
	if s.cfg.Metrics != nil {
		operator("/metrics", only(s.large(s.cfg.Metrics.ServeHTTP), http.MethodGet, http.MethodHead))
	}

	all.Handle("/{$}", reading(s.root(s.large(s.page)))) // by another method it is a check
	checks.Handle("/{$}", reading(s.root(elsewhere)))
	read("/ui/{cluster}", s.large(s.page))
	read("/live", s.live) // what changes on the page, as server-sent events
	read("/ui/{cluster}/live", s.live)
	read("/assets/{file}", s.asset)

	all.HandleFunc("/", unknownRoute)
	checks.HandleFunc("/", unknownCheck)
	return safe(noRedirects(all, unknownRoute)), safe(noRedirects(checks, unknownCheck))
}

// safe keeps browsers and proxies from taking an answer for what it is not.
func safe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
		next.ServeHTTP(w, r)
	})
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
func unknownRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, "no route "+quote(r.URL.Path)+", want /node/{node}/{check}, /node/{node}, /cluster, /cluster/{cluster}/{check}, /health, /history, /events, /livez, /readyz, /metrics, /ui/{cluster} or /")
}

func unknownCheck(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, "no check "+quote(r.URL.Path)+", want /node/{node}/{check}, /cluster/{cluster}/{check}, /{check}, /livez or /readyz; all else is on the operator's listener")
}

func elsewhere(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, quote(r.URL.Path)+" is on the operator's listener ([operator] in the configuration), not where checks are answered")
}
