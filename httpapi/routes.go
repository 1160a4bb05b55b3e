package httpapi

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// routes is the whole URL surface. A check is any of node.CheckNames. Where there is
// an operator's listener, it serves all routes, and the frontend serves bare: the same
// URLs, but those that are not for load balancers only say where they are served.
func (s *Server) routes() (all, bare http.Handler) {
	whole, checks := http.NewServeMux(), http.NewServeMux()
	readOnly := func(h http.HandlerFunc) http.Handler {
		return onlyMethods(h, http.MethodGet, http.MethodHead, http.MethodOptions)
	}
	balancer := func(pattern string, h http.Handler) { whole.Handle(pattern, h); checks.Handle(pattern, h) }
	operator := func(pattern string, h http.Handler) {
		whole.Handle(pattern, h)
		checks.HandleFunc(pattern, operatorOnly)
	}
	check := func(pattern string, h http.HandlerFunc) { balancer(pattern, readOnly(h)) }
	read := func(pattern string, h http.HandlerFunc) { operator(pattern, readOnly(h)) }

	for _, prefix := range []string{"/node/{node}", "/cluster/{cluster}/node/{node}"} {
		check(prefix+"/{check}", s.nodeCheck)
		balancer(prefix+"/leaving", onlyMethods(s.leave, http.MethodPost, http.MethodDelete)) // with a bearer token
		read(prefix, s.nodeState)
		read(prefix+"/patroni", s.nodeDocument)
		read(prefix+"/cluster", s.members)
		for _, what := range []string{"config", "failsafe", "history", "metrics"} {
			read(prefix+"/"+what, s.onlyPatroni) // the answer says where Patroni is
		}
		whole.Handle(prefix+"/refresh", onlyMethods(s.refresh, http.MethodPost))
		checks.Handle(prefix+"/refresh", onlyMethods(s.refreshByToken, http.MethodPost))
	}
	check("/cluster/{cluster}/{check}", s.clusterCheck)
	check("/{check}", s.clusterCheck) // where only one cluster is watched; with one node, as in patroniglue 1.x
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
		operator("/metrics", onlyMethods(s.large(s.cfg.Metrics.ServeHTTP), http.MethodGet, http.MethodHead))
	}

	whole.Handle("/{$}", readOnly(s.root(s.large(s.page)))) // other methods are a check
	checks.Handle("/{$}", readOnly(s.root(operatorOnly)))
	read("/ui/{cluster}", s.large(s.page))
	read("/live", s.live) // the changes of the page, as server-sent events
	read("/ui/{cluster}/live", s.live)
	read("/assets/{file}", s.asset)

	whole.HandleFunc("/", unknownRoute)
	checks.HandleFunc("/", unknownCheck)
	return safeHeaders(noRedirects(whole, unknownRoute)), safeHeaders(noRedirects(checks, unknownCheck))
}

// safeHeaders sets the headers that keep answers out of caches, and browsers from guessing types.
func safeHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
		next.ServeHTTP(w, r)
	})
}

// onlyMethods answers other methods with 405.
func onlyMethods(h http.HandlerFunc, methods ...string) http.Handler {
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

// noRedirects keeps http.ServeMux from redirecting a path such as /node//primary:
// HAProxy takes 3xx for a passed check (its manual, httpchk).
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

// unknownRoute answers with the valid routes.
func unknownRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, "no route "+quote(r.URL.Path)+", want /node/{node}/{check}, /node/{node}, /cluster, /cluster/{cluster}/{check}, /health, /history, /events, /livez, /readyz, /metrics, /ui/{cluster} or /")
}

// unknownCheck answers with the routes that load balancers have.
func unknownCheck(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, "no check "+quote(r.URL.Path)+", want /node/{node}/{check}, /cluster/{cluster}/{check}, /{check}, /livez or /readyz; everything else is on the operator's listener")
}

// operatorOnly answers, where load balancers ask, for a route of the operator's listener.
func operatorOnly(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, http.StatusNotFound, quote(r.URL.Path)+" is on the operator's listener ([operator] in the configuration), not where checks are answered")
}
