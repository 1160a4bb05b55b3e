package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	entry = Main
	testscript.Main(withoutBinary{M: m}, map[string]func(){"patroniglue": main, "confined": confine, "attacker": attacker})
}

// withoutBinary removes what builtBinary made.
type withoutBinary struct{ *testing.M }

func (m withoutBinary) Run() int {
	code := m.M.Run()
	binary.Lock()
	defer binary.Unlock()
	os.RemoveAll(binary.dir)
	return code
}

var binary struct {
	sync.Mutex
	dir string
}

// builtBinary is the program as build.sh makes it, built once, for what the test
// binary cannot stand in for: signals, memory and how soon it is up.
func builtBinary(t *testing.T) string {
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

// TestScripts runs the command line as people do: testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
		Condition: func(name string) (bool, error) {
			if name != "installed" {
				return false, errors.New("unknown condition " + name)
			}
			return exists("/etc/patroniglue/patroniglue.toml"), nil
		},
	})
}

// exits is the script command "exits CODE PROGRAM ARGUMENTS".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENTS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
