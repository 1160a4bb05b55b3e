package httpapi_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// New settings apply to new connections and requests. No open connection is closed.
func TestApply(t *testing.T) {
	lent := httptest.NewTLSServer(nil) // for its certificate
	lent.Close()
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		kept := s.dial()
		defer kept.Close()
		r := bufio.NewReader(kept)
		ask := func(method, path, token string) int {
			t.Helper()
			io.WriteString(kept, method+" "+path+" HTTP/1.1\r\nhost: glue\r\nauthorization: Bearer "+token+"\r\n\r\n")
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("the open connection: %v", err)
			}
			io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		want := func(got, want int, what string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		want(ask("POST", "/node/pg1/leaving", "new"), 403, "without a token")
		s.server.Apply(httpapi.Settings{Token: "new"})
		want(ask("DELETE", "/node/pg1/leaving", "new"), 200, "with the token")
		want(ask("DELETE", "/node/pg1/leaving", "old"), 401, "with another token")

		s.server.Apply(httpapi.Settings{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
		refused := s.dial()
		if got, err := io.ReadAll(refused); err != nil || len(got) > 0 {
			t.Errorf("who is not allowed any more: %q, %v", got, err)
		}
		want(ask("GET", "/livez", ""), 200, "the open connection of one who is not allowed any more")

		s.server.Apply(httpapi.Settings{TLS: &tls.Config{Certificates: lent.TLS.Certificates}})
		raw := s.dial()
		defer raw.Close()
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			t.Errorf("a new connection by TLS: %v", err)
		}
		s.server.Apply(httpapi.Settings{})
		want(ask("GET", "/livez", ""), 200, "the connection that was there first")
		if resp, _ := s.raw("GET /livez HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 {
			t.Errorf("a new connection without TLS: %d", resp.StatusCode)
		}
	})
}
