package config

import (
	"testing"

	"patroniglue/test/harness"
)

const wantListen = `want host:port or :port, such as ":5555"`

func TestAgentMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"listen", "agent.listen = '5555'", `agent.listen: ` + wantListen + ` (got "5555")`},
		{"listen port", "agent.listen = ':65536'", `agent.listen: ` + wantListen + ` (got ":65536")`},
		{"listen empty port", "agent.listen = 'a:'", `agent.listen: ` + wantListen + ` (got "a:")`},
		{"listen service", "agent.listen = ':no-such-service'", `agent.listen: ` + wantListen + ` (got ":no-such-service")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
