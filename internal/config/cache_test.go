package config

import (
	"testing"

	"patroniglue/test/harness"
)

func TestCacheMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"ttl text", "cache.ttl = '5'", `cache.ttl: ` + wantDuration + ` (got "5")`},
		{"ttl and interval", "cache.ttl = '1.05s'", `cache.ttl: want at least 3s (2 * interval 1s + 1s for a poll), else nodes are stale between polls (got "1.05s")`},
		{"ttl and timeout", "cache.ttl = '2.4s'\nbackend.timeout = '0.5s'", `cache.ttl: want at least 2.5s (2 * interval 1s + 500ms for a poll), else nodes are stale between polls (got "2.4s")`},
		{"ttl and a huge interval", "cache.ttl = '1h'\nbackend.interval = '2562047h'", `cache.ttl: want at least 2562047h47m16.854775807s (2 * interval 2562047h0m0s + 3s for a poll), else nodes are stale between polls (got "1h")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

// What is just enough is valid.
func TestLeastTTL(t *testing.T) {
	for _, text := range []string{
		"cache.ttl = 3",
		"cache.ttl = 2.5\nbackend.timeout = 0.5",
		"backend.interval = 1.6\nbackend.primary-interval = 1.6",
		"cache.ttl = 7\nbackend.interval = 2\nbackend.timeout = 3",
	} {
		if _, err := parseTOML([]byte(text+harness.OneNode), harness.Files{}.Read); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
