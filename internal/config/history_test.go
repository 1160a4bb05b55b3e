package config

import (
	"testing"

	"patroniglue/test/harness"
)

func TestHistoryMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"history size", "history.size = 0", `history.size: want a whole number from 1 to 1000000 (got 0)`},
		{"history file", "history.file = true", `history.file: want a string (got true)`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
