package config

import (
	"testing"

	"patroniglue/test/harness"
)

func TestCacheMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"ttl text", "cache.ttl = '5'", `cache.ttl: ` + wantDuration + ` (got "5")`},
		{"ttl and interval", "cache.ttl = 1", `cache.ttl: want more than backend.interval, which is 1s, else every node is stale between polls (got 1)`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
