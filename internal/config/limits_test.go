package config

import (
	"testing"

	"patroniglue/test/harness"
)

func TestLimitsMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no HTTP connections", "limits.http-connections = 15", `limits.http-connections: want a whole number from 16 to 1000000 (got 15)`},
		{"agent connections", "limits.agent-connections = 1e6", `limits.agent-connections: want a whole number from 16 to 1000000 (got 1e+06)`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
