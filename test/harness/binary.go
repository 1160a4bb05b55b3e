package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var binary struct {
	sync.Mutex
	dir string
}

// BuiltBinary returns the path of the program as build.sh makes it, built once for all
// tests of a package. The test binary cannot stand in for it where signals, memory or the
// time to start are measured.
func BuiltBinary(t *testing.T) string {
	t.Helper()
	binary.Lock()
	defer binary.Unlock()
	if binary.dir == "" {
		dir, err := os.MkdirTemp("", "patroniglue-test")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X main.version=test", "-o", dir+"/patroniglue", ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			os.RemoveAll(dir)
			t.Fatalf("go build: %v\n%s", err, out)
		}
		binary.dir = dir
	}
	return filepath.Join(binary.dir, "patroniglue")
}
