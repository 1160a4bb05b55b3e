package harness

import (
	"context"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// entry is the program without its process, cli.Main: the suite's TestMain says so,
// because the packages below it have tests that need the harness too.
var entry func(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int

// Main runs the tests of a suite in the module's folder, so that they name files as
// people do. The program is found as "patroniglue" in PATH, and so are more commands:
// each of them is the test binary itself.
func Main(m *testing.M, program func(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int, more map[string]func()) {
	entry = program
	commands := map[string]func(){"patroniglue": runProgram, "attacker": Attacker}
	maps.Copy(commands, more)
	testscript.Main(suite{m}, commands)
}

func runProgram() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(entry(ctx, "unknown", os.Args[1:], os.Stdout, os.Stderr))
}

type suite struct{ *testing.M }

// Run also removes what BuiltBinary made.
func (m suite) Run() int {
	if err := os.Chdir(root()); err != nil {
		panic(err)
	}
	code := m.M.Run()
	binary.Lock()
	defer binary.Unlock()
	os.RemoveAll(binary.dir)
	return code
}

// root is the module's folder, above that of the package under test.
func root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			panic("no go.mod above the package under test")
		}
		dir = filepath.Dir(dir)
	}
}
