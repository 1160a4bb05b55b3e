package config

import (
	"testing"

	"patroniglue/test/harness"
)

func TestListenersMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"operator on the frontend's port", "operator.listen = 'localhost:8009'", `operator.listen: want an address of its own, frontend.port has "localhost:8009" too (got "localhost:8009")`},
		{"listen is frontend's", "agent.listen = ':8009'", `agent.listen: want an address of its own, frontend.port has "localhost:8009" too (got ":8009")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

func TestConfigPortZeroTwice(t *testing.T) {
	if _, err := parseTOML([]byte("frontend.port = 0\nagent.listen = ':0'"+harness.OneNode+"agent = {primary = ':0', replica = ':0'}"), harness.Files{}.Read); err != nil {
		t.Error(err)
	}
}
