package shipped

import (
	"testing"

	"patroniglue/internal/cli"
	"patroniglue/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, cli.Main, map[string]func(){"confined": confine}) }
