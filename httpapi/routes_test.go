package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// No path gets a 3xx, which load balancers take for a passed check, or a 5xx other than
// 503, which would be a fault of ours.
func FuzzPath(f *testing.F) {
	for _, p := range paths {
		f.Add(uint8(0), p)
	}
	for _, p := range []string{"*", "/node/pg1/primary", "/node/pg2/replica?lag=1MB&tag_a=b", "/cluster/main/node/pg1/cluster", "/health?strict&cluster=main", "http://h/primary", "/node/pg1/refresh", "/node/pg1/leaving?for=1s", "/history?since=1h&node=pg1&limit=2", "/events?after=1", "/live?q=a&trouble=1", "/ui/main", "/ui/main/live", "/?q=x", "/assets/page.js"} {
		for method := range uint8(6) {
			f.Add(method, p)
		}
	}
	methods := []string{"GET", "HEAD", "OPTIONS", "POST", "DELETE", "CONNECT"}
	h := httpapi.New(httpapi.Config{Supervisor: ready(f)}).Handler()
	f.Fuzz(func(t *testing.T, method uint8, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Skip() // net/http answers 400
		}
		r := &http.Request{Method: methods[int(method)%len(methods)], URL: u, RequestURI: target, Header: http.Header{}, Body: http.NoBody, Host: "glue", ProtoMajor: 1, ProtoMinor: 1}
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, r)
		switch {
		case w.status >= 300 && w.status < 400, w.status < 200, w.status >= 500 && w.status != 503, w.header.Get("Location") != "":
			t.Errorf("%s %q = %d %v", r.Method, target, w.status, w.header)
		case w.header.Get("Content-Type") == "application/json" && w.body.Len() > 0 && !json.Valid(w.body.Bytes()):
			t.Errorf("%s %q: not JSON: %s", r.Method, target, w.body.String())
		}
	})
}

// paths are paths that net/http might clean or redirect.
var paths = []string{
	"//", "///", "/./", "/../", "/.", "/..", "/%2F", "/%2e", "/%2e%2e", "/%2e%2e/primary", "/node//primary", "/node/pg1//primary", "//node/pg1/primary",
	"/node/pg1/primary/", "/node/pg1/", "/node/", "/node", "/cluster/", "/cluster/main/", "/cluster//primary", "/cluster/main//", "/primary/", "/health/",
	"/node/./primary", "/node/../primary", "/node/pg1/../pg1/primary", "/node/pg1/.", "/node/pg1/%2e%2e", "/node/pg1%2Fprimary", "/node/%2Fpg1/primary",
	"/node/pg1/primary%00", "/node/pg1/primary%0d%0aLocation:%20x", "/Node/pg1/primary", "/node/PG1/primary", "/node/pg1/Primary", "/metrics/", "/favicon.ico",
	"/\xff\xfe", "/node/\xc3\x28/primary", "/%ff", "/node/pg1/primary;x", "/;", "/?", "/primary?lag=%", "/node/pg1/primary?a=1;b=2", "/style.css/", "/index.html",
	"/livez/", "/readyz/..", "/node/pg1/refresh/", "/" + strings.Repeat("a", 8000), "/" + strings.Repeat("a/", 4000), "/" + strings.Repeat("/", 3000), "/" + strings.Repeat("../", 3000),
}

func TestNoRedirects(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		for _, path := range paths {
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST"} {
				resp, body := s.raw(method + " " + path + " HTTP/1.0\r\n\r\n")
				ok := resp.StatusCode >= 400 && resp.StatusCode < 500 // none of them is a route,
				if path == "/?" {
					ok = resp.StatusCode == 200 || method == "POST" && resp.StatusCode == 405 // but this
				}
				if !ok || resp.Header.Get("Location") != "" {
					t.Errorf("%s %.60q = %d %.200s", method, path, resp.StatusCode, body)
				}
			}
		}
		if resp, _ := s.raw("GET /" + strings.Repeat("a", 40_000) + " HTTP/1.0\r\n\r\n"); resp.StatusCode != 431 {
			t.Errorf("a path of 40 kB = %d", resp.StatusCode)
		}
	})
}
