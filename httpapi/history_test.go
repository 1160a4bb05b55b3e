package httpapi_test

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/node/nodetest"
)

// toggle makes changes of pg1: its stop is announced, and taken back.
func (s *stack) toggle() {
	s.Helper()
	for _, method := range []string{"POST", "DELETE"} {
		if a, _ := s.leaving(method, "/node/pg1/leaving"); a.status != 200 {
			s.Fatalf("%s leaving: %d %s", method, a.status, a.body)
		}
	}
}

func (s *stack) history(query string) cluster.History {
	s.Helper()
	var h cluster.History
	if status := s.decode("/history"+query, &h); status != 200 {
		s.Fatalf("/history%s: status code %d", query, status)
	}
	return h
}

func TestHistory(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := start(t, nw, withToken, partOf(c, "main"))
		settle()
		settled := time.Now()
		first := s.history("")
		if len(first.Changes) == 0 || first.Truncated || first.LastID != first.Changes[len(first.Changes)-1].ID {
			t.Errorf("at first: %+v", first)
		}
		time.Sleep(2 * time.Minute)
		s.toggle()
		all := s.history("")
		recent := all.Changes[len(first.Changes):]
		if len(recent) < 2 || !reflect.DeepEqual(all.Changes[:len(first.Changes)], first.Changes) {
			t.Fatalf("after a toggle: %+v", all)
		}
		for _, tt := range []struct {
			query     string
			want      []cluster.Change
			truncated bool
		}{
			{"?since=1m", recent, false},
			{"?since=2h", all.Changes, false},
			{"?since=" + settled.UTC().Format(time.RFC3339), recent, false},
			{"?since=" + settled.In(time.FixedZone("", 3600)).Format(time.RFC3339), recent, false}, // its + as it is
			{fmt.Sprintf("?after=%d", first.LastID), recent, false},
			{fmt.Sprintf("?after=%d", all.LastID), []cluster.Change{}, false},
			{"?limit=1", recent[len(recent)-1:], true},
			{"?cluster=main&since=1m", recent, false},
			{"?node=pg2", slices.DeleteFunc(slices.Clone(all.Changes), func(c cluster.Change) bool { return c.Node != "pg2" }), false},
		} {
			if got := s.history(tt.query); !reflect.DeepEqual(got.Changes, tt.want) || got.Truncated != tt.truncated {
				t.Errorf("%s: %+v\nwant %+v, truncated %t", tt.query, got, tt.want, tt.truncated)
			}
		}
		own := s.history("?node=pg1").Changes
		last := own[len(own)-1]
		s.want("/history?node=pg1&limit=1", 200, fmt.Sprintf(`{"changes":[{"id":%d,"at":%q,"cluster":"main","node":"pg1","kind":"leaving","before":"yes","after":"no","reason":"taken back"}],"truncated":true,"last_id":%d}`,
			last.ID, last.At.Format(time.RFC3339Nano), all.LastID))
	})
}

func TestHistoryErrors(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		since := "parameter since: want a duration back from now such as 1h, or a time such as 2026-01-02T15:04:05Z (got %q)"
		for _, tt := range []struct {
			target string
			status int
			want   string
		}{
			{"/history?since=yesterday", 400, fmt.Sprintf(since, "yesterday")},
			{"/history?since=-1h", 400, fmt.Sprintf(since, "-1h")},
			{"/history?since=5", 400, fmt.Sprintf(since, "5")},
			{"/history?since=", 400, fmt.Sprintf(since, "")},
			{"/history?after=x", 400, `parameter after: want the id of a change (got "x")`},
			{"/history?limit=0", 400, `parameter limit: want a whole number, at least 1 (got "0")`},
			{"/history?limit=1&limit=2", 400, `parameter limit: want it once`},
			{"/history?nod=pg1", 400, `parameter nod: unknown, want since, after, node, cluster, limit`},
			{"/history?a=%zz", 400, `parameter query: want name=value&name=value (got "a=%zz")`},
			{"/history?node=pgX", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/history?cluster=prod", 404, `unknown cluster "prod", want one of main`},
			{"/events?after=x", 400, `parameter after: want the id of a change (got "x")`},
			{"/events?since=1h", 400, `parameter since: unknown, want after, node, cluster`},
			{"/events?node=pgX", 404, `unknown node "pgX", want one of pg1, pg2`},
			{"/events?cluster=prod", 404, `unknown cluster "prod", want one of main`},
		} {
			s.want(tt.target, tt.status, errorBody("%s", tt.want))
		}
		if a, want := s.askWith(http.Header{"Last-Event-Id": {"x"}}, "GET", "/events"), errorBody(`parameter Last-Event-ID: want the id of a change (got "x")`); a.status != 400 || a.body != want+"\n" {
			t.Errorf("Last-Event-ID: x: %d %s, want 400 %s", a.status, a.body, want)
		}
		for _, method := range []string{"HEAD", "OPTIONS"} {
			if a := s.ask(method, "/events"); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%s /events: %+v", method, a)
			}
		}
		if a := s.ask("POST", "/events"); a.status != 405 {
			t.Errorf("POST /events: status code %d, want 405", a.status)
		}
	})
}
