package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

func withToken(cfg *httpapi.Config) { cfg.Token = "secret" }

func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

// leaving sends a request with the token.
func (s *stack) leaving(method, target string) (answer, httpapi.Leaving) {
	s.Helper()
	a := s.askWith(bearer("secret"), method, target)
	var l httpapi.Leaving
	if err := json.Unmarshal([]byte(a.body), &l); err != nil {
		s.Fatalf("%s %s: %v in %s", method, target, err, a.body)
	}
	return a, l
}

func TestLeaving(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		for _, path := range []string{"/node/pg1/leaving", "/cluster/main/node/pg1/leaving"} {
			a, l := s.leaving("POST", path)
			if a.status != 200 || l.Node != "pg1" || l.Cluster != "main" || !l.Leaving || l.Until == nil || time.Until(*l.Until).Round(time.Millisecond) != cluster.DefaultLeaving {
				t.Fatalf("POST %s = %d %s", path, a.status, a.body)
			}
			for _, check := range []string{"/node/pg1/primary", "/node/pg1/leader", "/node/pg1/read-only", "/primary", "/cluster/main/primary"} {
				if got := s.get(check); got.status != 503 || !strings.Contains(got.body, l.Reason) {
					t.Errorf("%s = %d %s", check, got.status, got.body)
				}
			}
			var st httpapi.NodeState
			s.decode("/node/pg1", &st)
			if !st.Leaving || !st.Leader || !st.Until.Equal(*l.Until) || st.Checks["primary"].Label != "leaving" {
				t.Errorf("/node/pg1: %s", s.get("/node/pg1").body)
			}
			if got := s.get("/node/pg2").body; !strings.Contains(got, `"leaving":false,"fresh"`) {
				t.Errorf("/node/pg2: %s", got)
			}
			warning := `"leader":"pg1","level":"warning","reasons":[{"code":"leaving","level":"warning","node":"pg1","text":"` + l.Reason + `"}]`
			if got := s.get("/health"); got.status != 200 || !strings.Contains(got.body, warning) {
				t.Errorf("/health = %d %s, want %s", got.status, got.body, warning)
			}
			if got := s.get("/").body; !strings.Contains(got, `<span class="note">leaving</span>`) || !strings.Contains(got, "<b>pg1</b> is about to stop, as announced, nobody can write") || !strings.Contains(got, l.Reason) {
				t.Errorf("page: %s", got)
			}

			if a, l = s.leaving("DELETE", path); a.status != 200 || a.body != `{"node":"pg1","cluster":"main","leaving":false,"until":null,"reason":"taken back"}`+"\n" {
				t.Errorf("DELETE %s = %d %s", path, a.status, a.body)
			}
			if got := s.get("/node/pg1/primary"); got.status != 200 {
				t.Errorf("taken back: %d %s", got.status, got.body)
			}
		}
		if a, _ := s.leaving("DELETE", "/node/pg1/leaving"); a.status != 200 || !strings.Contains(a.body, `"reason":"it was not leaving"`) {
			t.Errorf("DELETE again = %d %s", a.status, a.body)
		}
		if a, _ := s.leaving("POST", "/node/pg2/leaving?for=1s"); a.status != 200 || a.body != `{"node":"pg2","cluster":"main","leaving":false,"until":null,"reason":"nothing to announce: pg1 leads, not pg2"}`+"\n" {
			t.Errorf("POST for a replica = %d %s", a.status, a.body)
		}
		for query, want := range map[string]time.Duration{"?for=60s": time.Minute, "?for=1m": time.Minute, "?for=0.25s": 250 * time.Millisecond} {
			a, l := s.leaving("POST", "/node/pg1/leaving"+query)
			if a.status != 200 || l.Until == nil || time.Until(*l.Until) != want {
				t.Errorf("POST %s = %d %s", query, a.status, a.body)
			}
			time.Sleep(want - 1)
			if got := s.get("/node/pg1/primary").status; got != 503 {
				t.Errorf("%s: %d before the time is over", query, got)
			}
			time.Sleep(time.Nanosecond)
			if got := s.get("/node/pg1/primary").status; got != 200 {
				t.Errorf("%s: %d when the time is over", query, got)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestLeavingErrors(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		const wantFor = "parameter for: want a duration such as 10s, above 0 and at most 1m0s (got %q)"
		for _, tt := range []struct {
			target string
			status int
			want   string
		}{
			{"/node/pg1/leaving?for=0s", 400, errorBody(wantFor, "0s")},
			{"/node/pg1/leaving?for=-1s", 400, errorBody(wantFor, "-1s")},
			{"/node/pg1/leaving?for=61s", 400, errorBody(wantFor, "61s")},
			{"/node/pg1/leaving?for=10", 400, errorBody(wantFor, "10")},
			{"/node/pg1/leaving?for=", 400, errorBody(wantFor, "")},
			{"/node/pg1/leaving?for=1s&for=2s", 400, errorBody(wantFor, "1s, 2s")},
			{"/node/pg1/leaving?fro=10s", 400, errorBody("parameter fro: unknown, want for when a stop is announced, and nothing when it is taken back")},
			{"/node/pg1/leaving?for=%zz", 400, errorBody(`parameter query: want for=10s (got "for=%%zz")`)},
			{"/node/pgX/leaving", 404, errorBody(`unknown node "pgX", want one of pg1, pg2`)},
			{"/cluster/prod/node/pg1/leaving", 404, errorBody(`unknown cluster "prod", want one of main`)},
		} {
			if a := s.askWith(bearer("secret"), "POST", tt.target); a.status != tt.status || strings.TrimSpace(a.body) != tt.want {
				t.Errorf("POST %s = %d %s, want %d %s", tt.target, a.status, a.body, tt.status, tt.want)
			}
		}
		if a := s.askWith(bearer("secret"), "DELETE", "/node/pg1/leaving?for=1s"); a.status != 400 {
			t.Errorf("DELETE ?for=1s = %d %s", a.status, a.body)
		}
		if got := s.get("/node/pg1/primary").status; got != 200 {
			t.Errorf("primary = %d after nothing but mistakes", got)
		}
	})
}

func TestLeavingNeedsTheToken(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		for _, header := range []http.Header{
			{}, bearer(""), bearer("Secret"), bearer("secre"), bearer("secrets"), bearer("secret secret"),
			{"Authorization": {"secret"}}, {"Authorization": {"Basic secret"}}, {"X-Token": {"secret"}},
		} {
			for _, method := range []string{"POST", "DELETE"} {
				a := s.askWith(header, method, "/node/pg1/leaving")
				if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="patroniglue"` || strings.TrimSpace(a.body) != errorBody("want the bearer token of token-file in [frontend]") {
					t.Errorf("%s with %v = %d %v %s", method, header, a.status, a.header, a.body)
				}
			}
		}
		if got := s.get("/node/pg1/primary").status; got != 200 {
			t.Errorf("primary = %d after requests without the token", got)
		}
		if a := s.askWith(http.Header{"Authorization": {"bearer secret"}}, "POST", "/node/pg1/leaving"); a.status != 200 { // RFC 9110: any case
			t.Errorf("bearer = %d %s", a.status, a.body)
		}
	})
}

func TestLeavingIsOffWithoutAToken(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		for _, token := range []string{"", "secret"} {
			for _, method := range []string{"POST", "DELETE"} {
				a := s.askWith(bearer(token), method, "/node/pg1/leaving")
				if a.status != 403 || strings.TrimSpace(a.body) != errorBody("announced stops are off: token-file in [frontend] turns them on") {
					t.Errorf("%s = %d %s", method, a.status, a.body)
				}
			}
		}
	})
}
