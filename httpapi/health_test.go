package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

func TestHealth(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		a, b := members(t, nw, "", "alpha", "pg1", "pg2"), members(t, nw, "", "beta", "pg1", "pg2")
		s := start(t, nw, nil, partOf(a, "a"), partOf(b, "b"))
		const (
			well  = `"supervisor":{"level":"ok","reasons":[]}`
			alpha = `{"cluster":"a","scope":"alpha","leader":"pg1","level":"ok","reasons":[]}`
			beta  = `{"cluster":"b","scope":"beta","leader":"pg1","level":"ok","reasons":[]}`
		)
		if got := s.get("/health"); got.status != 503 || !strings.HasPrefix(got.body, `{"healthy":false,"level":"critical"`) {
			t.Errorf("before the first poll: %d %s", got.status, got.body)
		}
		settle()
		ok := `{"healthy":true,"level":"ok",` + well + `,"clusters":[` + alpha + `,` + beta + `]}`
		s.want("/health", 200, ok)
		s.want("/health?strict", 200, ok)
		s.want("/health?cluster=b", 200, `{"healthy":true,"level":"ok",`+well+`,"clusters":[`+beta+`]}`)

		b.SetPause(true)
		settle()
		warned := strings.Replace(beta, `"ok","reasons":[]`, `"warning","reasons":[{"code":"paused","level":"warning","text":"Patroni is paused: there is no automatic failover"}]`, 1)
		s.want("/health", 200, `{"healthy":true,"level":"warning",`+well+`,"clusters":[`+alpha+`,`+warned+`]}`)
		s.want("/health?strict", 503, `{"healthy":false,"level":"warning",`+well+`,"clusters":[`+alpha+`,`+warned+`]}`)
		s.want("/health?strict&cluster=a", 200, `{"healthy":true,"level":"ok",`+well+`,"clusters":[`+alpha+`]}`)

		b.SetPause(false)
		a.Node("pg1").Set(func(s *nodetest.State) { s.Lock = false })
		settle()
		lost := `{"cluster":"a","scope":"alpha","leader":"","level":"critical","reasons":[{"code":"no_primary","level":"critical","text":"no node claims to be primary"}]}`
		critical := `{"healthy":false,"level":"critical",` + well + `,"clusters":[` + lost + `,` + beta + `]}`
		s.want("/health", 503, critical)
		s.want("/health?strict", 503, critical)
		s.want("/health?cluster=b", 200, `{"healthy":true,"level":"ok",`+well+`,"clusters":[`+beta+`]}`)
		for _, method := range []string{"HEAD", "OPTIONS"} {
			if got := s.ask(method, "/health"); got.status != 503 || got.body != "" {
				t.Errorf("%s /health = %d %q", method, got.status, got.body)
			}
		}
	})
}

// A monitoring system that misspells a parameter must not hear that all is well.
func TestHealthParameters(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		a, b := members(t, nw, "", "alpha", "pg1", "pg2"), members(t, nw, "", "beta", "pg1", "pg2")
		s := start(t, nw, nil, partOf(a, "a"), partOf(b, "b"))
		a.SetPause(true)
		settle()
		for target, status := range map[string]int{
			"/health": 200, "/health?strict": 503, "/health?strict=": 503, "/health?strict=1": 503, "/health?strict=true": 503,
			"/health?strict=0": 200, "/health?strict=false": 200, "/health?strict=true&cluster=a": 503, "/health?strict&cluster=b": 200,
		} {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				if got := s.ask(method, target); got.status != status || (got.body == "") != (method != "GET") {
					t.Errorf("%s %s: %d %q, want %d", method, target, got.status, got.body, status)
				}
			}
		}
		for _, tt := range []struct {
			target string
			status int
			want   string
		}{
			{"/health?cluster=c", 404, `unknown cluster "c", want one of a, b`},
			{"/health?cluster=", 404, `unknown cluster "", want one of a, b`},
			{"/health?cluster=a&cluster=b", 400, `parameter cluster: want it once`},
			{"/health?strict=yes", 400, `parameter strict: want nothing, true or false (got "yes")`},
			{"/health?node=pg1", 400, `parameter node: unknown, want cluster, strict`},
			{"/health?strict&%zz", 400, `parameter query: want name=value&name=value (got "strict&%zz")`},
		} {
			s.want(tt.target, tt.status, errorBody("%s", tt.want))
			for _, method := range []string{"HEAD", "OPTIONS"} {
				if got := s.ask(method, tt.target); got.status != tt.status {
					t.Errorf("%s %s: %d, want %d", method, tt.target, got.status, tt.status)
				}
			}
		}
	})
}

// What is wrong with the supervisor itself belongs to no cluster, and counts for all.
func TestHealthOfTheSupervisor(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		var certificates []httpapi.Certificate // it is asked each time, as after a reload
		s := start(t, nw, func(c *httpapi.Config) { c.Certificates = func() []httpapi.Certificate { return certificates } }, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		const (
			well     = `"clusters":[{"cluster":"main","scope":"main","leader":"pg1","level":"ok","reasons":[]}]}`
			expiring = `{"code":"certificate_expiring","level":"warning","text":"the certificate of [frontend] (/etc/front.crt) ends at 2000-01-15 00:00 UTC"}`
			client   = `{"code":"certificate_expired","level":"warning","text":"the certificate that is shown to nodes (/etc/client.crt) ended at 1999-12-31 00:00 UTC"}`
			expired  = `{"code":"certificate_expired","level":"critical","text":"the certificate of [frontend] (/etc/front.crt) ended at 1999-12-30 00:00 UTC"}`
		)
		front := httpapi.Certificate{Use: "frontend", File: "/etc/front.crt", Ends: time.Date(2000, 1, 15, 0, 0, 0, 0, time.UTC)}
		certificates = []httpapi.Certificate{front}
		s.want("/health", 200, `{"healthy":true,"level":"warning","supervisor":{"level":"warning","reasons":[`+expiring+`]},`+well)
		s.want("/health?strict&cluster=main", 503, `{"healthy":false,"level":"warning","supervisor":{"level":"warning","reasons":[`+expiring+`]},`+well)
		certificates = append(certificates, httpapi.Certificate{Use: "client", File: "/etc/client.crt", Ends: time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)})
		s.want("/health", 200, `{"healthy":true,"level":"warning","supervisor":{"level":"warning","reasons":[`+expiring+`,`+client+`]},`+well)
		front.Ends = time.Date(1999, 12, 30, 0, 0, 0, 0, time.UTC)
		certificates = []httpapi.Certificate{certificates[1], front}
		s.want("/health?cluster=main", 503, `{"healthy":false,"level":"critical","supervisor":{"level":"critical","reasons":[`+expired+`,`+client+`]},`+well)
		certificates = []httpapi.Certificate{{Use: "frontend", File: "/etc/front.crt", Ends: time.Now().Add(15 * 24 * time.Hour)}}
		s.want("/health?strict", 200, `{"healthy":true,"level":"ok","supervisor":{"level":"ok","reasons":[]},`+well)
	})
}

func TestNotReady(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		c.Node("pg2").Freeze()
		s := start(t, nw, nil, partOf(c, "main"))
		time.Sleep(time.Second)
		s.want("/readyz", 503, errorBody("not polled yet: main/pg2"))
		time.Sleep(timeout)
		s.want("/readyz", 200, `{"ready":true}`)
	})
}
