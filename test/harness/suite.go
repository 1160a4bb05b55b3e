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

	"patroniglue/contrib/lab"
)

// entry is the program without its process, cli.Main: the suite says so, because the
// packages below it have tests that need the harness too.
var entry Entry

// Suite is what the tests of a package need around them.
type Suite struct {
	Program  Entry             // cli.Main
	Commands map[string]func() // what the test binary is, started under these names, beside "patroniglue"
	Online   bool              // it fetches modules, so it stays in the machine's network
}

// Entry is a program without its process: args are without its name, and the exit code
// is what it returns.
type Entry func(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int

// Main runs the tests in the module's folder, so that they name files as people do, and
// in a network namespace of their own where they may have one. TestMain calls it.
func (s Suite) Main(m *testing.M) {
	entry = s.Program
	commands := map[string]func(){"patroniglue": runProgram}
	maps.Copy(commands, s.Commands)
	testscript.Main(&running{m, s.Online}, commands)
}

func runProgram() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(entry(ctx, "unknown", os.Args[1:], os.Stdout, os.Stderr))
}

type running struct {
	*testing.M
	online bool
}

// Run also removes what BuiltBinary made.
func (m *running) Run() int {
	if !m.online {
		if err := lab.Isolate(); err != nil {
			panic(err)
		}
	}
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
