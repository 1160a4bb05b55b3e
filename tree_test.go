package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree says which of our packages each of our packages may import; test files may import the fakes node/nodetest and cluster/clustertest as well.
// A new package gets its line here.
var tree = map[string]struct{ imports, testImports []string }{
	".":                        {imports: []string{"internal/cli"}},
	"agentapi":                 {imports: []string{"node", "cluster", "internal/listen"}},
	"cache":                    {},
	"cluster":                  {imports: []string{"node", "cache"}},
	"contrib/bench/checks":     {imports: []string{"contrib/lab"}},
	"contrib/bench/fleet":      {imports: []string{"contrib/lab", "node/nodetest"}},
	"contrib/bench/soak":       {imports: []string{"contrib/lab", "node/nodetest"}},
	"contrib/bench/switchover": {imports: []string{"contrib/lab"}},
	"contrib/lab":              {},
	"discovery":                {imports: []string{"node"}, testImports: []string{"discovery/discoverytest"}},
	"discovery/discoverytest":  {},
	"haproxy":                  {imports: []string{"node", "internal/config"}},
	"httpapi":                  {imports: []string{"httpapi/page", "node", "cluster", "internal/listen"}},
	"httpapi/page":             {imports: []string{"node", "cluster"}},
	"internal/cli": {imports: []string{
		"node", "node/nodetest", "cluster", "discovery", "haproxy", "httpapi", "internal/client", "internal/config", "internal/daemon",
	}},
	"internal/client": {imports: []string{"internal/config", "httpapi", "cluster", "node"}},
	"internal/config": {imports: []string{"node"}},
	"internal/daemon": {imports: []string{
		"node", "cache", "cluster", "discovery", "haproxy", "httpapi", "agentapi", "internal/config", "internal/history", "internal/listen", "internal/metrics",
	}},
	"internal/history":    {imports: []string{"cluster"}},
	"internal/listen":     {},
	"internal/metrics":    {imports: []string{"httpapi", "agentapi", "cluster", "node", "discovery"}},
	"cluster/clustertest": {imports: []string{"node"}},
	"node":                {testImports: []string{"contrib/lab"}}, // its conformance test asks a real Patroni
	"node/nodetest":       {},

	"test/abuse":   {testImports: suite},
	"test/faults":  {testImports: suite},
	"test/haproxy": {testImports: suite},
	"test/harness": {imports: []string{"node", "node/nodetest", "cluster", "contrib/lab", "discovery/discoverytest"}},
	"test/page":    {testImports: suite},
	"test/patroni": {testImports: suite},
	"test/program": {testImports: suite},
	"test/shipped": {testImports: suite},
}

// suite is what a suite of tests may import: the program as a whole, the harness that
// starts it, and the words in which answers are given.
var suite = []string{
	"internal/cli", "internal/client", "internal/config", "test/harness", "contrib/lab", "discovery/discoverytest", "node", "node/nodetest",
	"cluster", "httpapi", "agentapi", "haproxy",
}

// dependencies are the modules that may be required directly. Another one needs a reason in the commit that adds it.
var dependencies = []string{
	"github.com/BurntSushi/toml",
	"github.com/coreos/go-systemd/v22",
	"github.com/google/renameio/v2", // a file is replaced whole or not at all
	"github.com/mattn/go-runewidth", // the columns that a text has on a terminal: a wide character has two
	"github.com/prometheus/client_golang",
	"github.com/rs/zerolog",
	"go.etcd.io/etcd/client/v3", // etcd's own client: TLS, authentication and a watch over gRPC, which its JSON gateway has not
	"go.yaml.in/yaml/v3",
	"golang.org/x/crypto", // bcrypt
	"golang.org/x/sync",
	"google.golang.org/grpc", // below etcd's client, which waits for a connection and does not say why there is none
	"golang.org/x/sys",       // SO_REUSEPORT, the clock that runs while the machine is suspended
	"golang.org/x/term",      // what is a terminal, and its size

	// For tests.
	"github.com/chromedp/cdproto", // chromedp's own vocabulary
	"github.com/chromedp/chromedp",
	"github.com/google/go-cmp",
	"github.com/jackc/pgx/v5", // its pgconn: a client that follows libpq, and sees what HAProxy does to it; contrib/bench, too
	"github.com/rogpeppe/go-internal",
}

func TestImportTree(t *testing.T) {
	const module = "patroniglue"
	local := func(path string) (string, bool) {
		if path == module {
			return ".", true
		}
		return strings.CutPrefix(path, module+"/")
	}

	// go test's cache knows what a test opens, not what go list reads. WalkDir opens every directory.
	if err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if path == ".git" {
			return fs.SkipDir
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}

	dec := json.NewDecoder(strings.NewReader(goOutput(t, "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")))
	for {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}

		name, _ := local(p.ImportPath)
		rule, ok := tree[name]
		if !ok {
			t.Errorf("unknown package %q: say in tree (tree_test.go) and in the design what it may import", name)
			continue
		}
		check := func(files string, imports, allowed []string) {
			for _, path := range imports {
				if imported, ours := local(path); ours && !slices.Contains(allowed, imported) {
					t.Errorf("%s of %q import %q, want only %q of ours", files, name, imported, allowed)
				}
			}
		}
		check("files", p.Imports, rule.imports)
		inTests := slices.Concat([]string{name, "test/harness", "node", "node/nodetest", "cluster/clustertest", "discovery/discoverytest"}, rule.imports, rule.testImports)
		check("test files", slices.Concat(p.TestImports, p.XTestImports), inTests)
	}
}

func TestDependencies(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal([]byte(goOutput(t, "mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect && !slices.Contains(dependencies, r.Path) {
			t.Errorf("go.mod requires %q: give a reason and add it to dependencies (tree_test.go), or do without", r.Path)
		}
	}
}

func goOutput(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
