package abuse

import (
	"testing"

	"patroniglue/internal/cli"
	"patroniglue/test/harness"
)

func TestMain(m *testing.M) {
	harness.Suite{Program: cli.Main, Commands: map[string]func(){"attacker": attacker}}.Main(m)
}
