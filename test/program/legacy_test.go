package program

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

func TestDaemonLegacy(t *testing.T) {
	for _, role := range []string{"primary", "replica"} {
		t.Run(role, func(t *testing.T) {
			sim := harness.NewSimulated(t, "one", "two")
			name := map[string]string{"primary": "one", "replica": "two"}[role]
			host, port, err := net.SplitHostPort(sim.Node(name).Addr())
			if err != nil {
				t.Fatal(err)
			}
			p := harness.Start(t, "config.yml", fmt.Sprintf("frontend:\n  host: 127.0.0.1\n  port: 0\nbackend:\n  host: %s\n  port: %s\n  scheme: http\n  insecure: false\ncache:\n  ttl: 1\n  interval: 0.25\n", host, port), "-verbose")
			lead, follow := 200, 503
			if role == "replica" {
				lead, follow = follow, lead
			}
			for path, want := range map[string]int{
				"/primary": lead, "/master": lead, "/read-write": lead, "/replica": follow, "/read-only": 200, "/health": 200,
			} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					resp, body := harness.Ask(t, nil, method, "http://"+p.HTTP+path)
					if resp.StatusCode != want {
						t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, body)
					}
					if path == "/health" && method == "GET" && !strings.Contains(body, `"healthy":true`) {
						t.Errorf("GET /health: %s, want healthy", body)
					}
				}
			}
			if n := len(p.Log.Lines("level", "warn", "message", "cache.interval: has no effect, answers expire by their ttl and are not swept")); n != 1 {
				t.Errorf("the note on cache.interval is logged %d times", n)
			}
		})
	}
}
