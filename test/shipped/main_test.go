package shipped

import (
	"testing"

	"patroniglue/internal/cli"
	"patroniglue/test/harness"
)

func TestMain(m *testing.M) {
	harness.Suite{Program: cli.Main, Commands: map[string]func(){"confined": confine}, Online: true}.Main(m)
}
