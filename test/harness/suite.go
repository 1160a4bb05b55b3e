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

// entry is cli.Main. The suite sets it: if this package imported cli, packages that cli
// imports could not use the harness in their tests.
var entry Entry

// Suite is what the tests of a package need around them.
type Suite struct {
	Program  Entry             // cli.Main
	Commands map[string]func() // what the test binary does when it is run by these names; "patroniglue" is always there
	Online   bool              // the tests stay in the machine's network, because they fetch modules
}

// Entry is a program without a process. Its args do not have the program's name; it returns
// the exit code.
type Entry func(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int

// Main is called by TestMain. It runs the tests in the module's folder, so that they name
// files as people do, and in a network namespace of their own where that is allowed.
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

// Run also removes the binary of [BuiltBinary].
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
