package program

import (
	"testing"

	"patroniglue/internal/cli"
	"patroniglue/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, cli.Main, nil) }
