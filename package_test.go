package main

import (
	"os"
	"os/exec"
	"testing"
)

// requireTool skips where a program is missing, unless build.sh said that all is
// there.
func requireTool(t *testing.T, name string) {
	t.Helper()
	_, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("PATRONIGLUE_LAB") == "required":
		t.Fatal(err)
	default:
		t.Skipf("NOT TESTED: %v", err)
	}
}
