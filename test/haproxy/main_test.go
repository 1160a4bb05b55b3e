package haproxy

import (
	"testing"

	"patroniglue/internal/cli"
	"patroniglue/test/harness"
)

func TestMain(m *testing.M) { harness.Suite{Program: cli.Main}.Main(m) }
