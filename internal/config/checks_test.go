package config

import (
	"testing"

	"patroniglue/test/harness"
)

const wantSize = `want a size in B, kB, MB, GB or TB, such as "100MB", or "" for none`

func TestChecksMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"checks primary", "checks.primary = 'locked'", `checks.primary: want "writable" or "lock" (got "locked")`},
		{"max-lag", "checks.max-lag = '100 megs'", `checks.max-lag: ` + wantSize + ` (got "100 megs")`},
		{"max-lag negative", "checks.max-lag = -1", `checks.max-lag: ` + wantSize + ` (got -1)`},
		{"lag-hold", "checks.lag-hold = -1", `checks.lag-hold: want a duration, 0 or more, such as "1s" (got -1)`},
		{"min-replicas", "checks.min-replicas = -1", `checks.min-replicas: want a whole number, at least 0 (got -1)`},
		{"fallback", "checks.fallback = 'leader'", `checks.fallback: want "" or "primary" (got "leader")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
