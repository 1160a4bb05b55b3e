package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// want skips where a test cannot be had, unless build.sh said that it is required.
func want(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("PATRONIGLUE_LAB") == "required" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		want(t, fmt.Errorf("want root (got user %d)", os.Geteuid()))
	}
}

func TestSuites(t *testing.T) {
	t.Setenv("PATRONIGLUE_SUITES", " forky  bookworm")
	if got := Suites(); !slices.Equal(got, []Suite{Forky, Bookworm}) {
		t.Errorf("got %v, want forky and bookworm", got)
	}
	t.Setenv("PATRONIGLUE_SUITES", "")
	if got := Suites(); got[0] != Bookworm || slices.Contains(got, Trixie) != (os.Geteuid() == 0) || slices.Contains(got, Forky) {
		t.Errorf("got %v, want bookworm and, for root, trixie", got)
	}
	if got := Suite("").String(); got != "bookworm" {
		t.Errorf("the zero suite is %q, want bookworm", got)
	}
}

// TestCommand is what a test relies on that starts HAProxy with sockets of its own.
func TestCommand(t *testing.T) {
	for _, suite := range Suites() {
		t.Run(suite.String(), func(t *testing.T) {
			want(t, Options{Suite: suite}.Check(t.Context()))
			if err := suite.Make(t.Context(), io.Discard); err != nil {
				t.Fatal(err)
			}
			visible, hidden := t.TempDir(), t.TempDir()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.WriteString(w, "an open file\n"); err != nil {
				t.Fatal(err)
			}
			w.Close()

			const script = `cat <&3; pwd; echo $$; echo "$SEEN"; echo made >made; if [ -e "$1" ]; then echo seen; else echo hidden; fi`
			cmd := suite.Command(t.Context(), []string{visible}, "sh", "-c", script, "sh", hidden)
			cmd.Dir = visible
			cmd.Env = append(os.Environ(), "SEEN=the environment")
			cmd.ExtraFiles = []*os.File{r}
			cmd.Stderr = os.Stderr
			var out bytes.Buffer
			cmd.Stdout = &out
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			where := "hidden"
			if suite == Bookworm {
				where = "seen"
			}
			want := fmt.Sprintf("an open file\n%s\n%d\nthe environment\n%s\n", visible, cmd.Process.Pid, where)
			if d := gocmp.Diff(want, out.String()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if text, err := os.ReadFile(filepath.Join(visible, "made")); string(text) != "made\n" {
				t.Errorf("a file written there is %q here, %v", text, err)
			}

			if err := suite.Command(t.Context(), nil, "haproxy", "-v").Run(); err != nil {
				t.Errorf("haproxy -v: %v", err)
			}
			if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte("/scratch ")) {
				t.Errorf("a mount is left over (%v):\n%s", err, mounts)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	series := map[Suite]Versions{
		Bookworm: {Patroni: "3.0", PostgreSQL: "15", HAProxy: "2.6", ETCD: "3.4"},
		Trixie:   {Patroni: "4.0", PostgreSQL: "17", HAProxy: "3.0", ETCD: "3.5", PgBouncer: "1.24", CheckPatroni: "2.2"},
		// Forky is not released: all that is sure is that it is later.
	}
	for suite, want := range series {
		t.Run(suite.String(), func(t *testing.T) {
			if !slices.Contains(Suites(), suite) {
				t.Skip("not among the suites to be tested")
			}
			got, err := suite.Versions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if suite == Bookworm && !strings.HasPrefix(got.Patroni, want.Patroni) {
				t.Skipf("this machine is of another generation: %+v", got)
			}
			for _, pair := range [][2]string{
				{got.Patroni, want.Patroni}, {got.PostgreSQL, want.PostgreSQL}, {got.HAProxy, want.HAProxy},
				{got.ETCD, want.ETCD}, {got.PgBouncer, want.PgBouncer}, {got.CheckPatroni, want.CheckPatroni},
			} {
				if !strings.HasPrefix(pair[0], pair[1]) {
					t.Errorf("version %q, want %q", pair[0], pair[1])
				}
			}
		})
	}
}

// maker is a copy of the script with a mmdebstrap of its own, which takes a while.
type maker struct{ dir string }

func newMaker(t *testing.T, mmdebstrap string) *maker {
	t.Helper()
	root(t)
	m := &maker{dir: t.TempDir()}
	script, err := os.ReadFile("suite")
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "suite", string(script), 0o755)
	m.write(t, "packages", "patroni\n", 0o644)
	m.write(t, "mmdebstrap", "#!/bin/sh -eu\nfor last; do root=${before-} before=$last; done\n"+mmdebstrap, 0o755)
	return m
}

func (m *maker) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (m *maker) suite(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(m.dir, "suite"), args...)
	cmd.Env = append(os.Environ(), "PATH="+m.dir+":"+os.Getenv("PATH"), "LAB_CACHE="+filepath.Join(m.dir, "cache"), "LAB_MIRROR=http://mirror.invalid/debian")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m *maker) list(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestMake: several makers make one root file system, another list of packages makes another one.
func TestMake(t *testing.T) {
	m := newMaker(t, `echo made >>"$(dirname "$0")/calls"; mkdir "$root"; sleep 0.2; echo "$*" >"$root/arguments"`)
	make4 := func() {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if out, err := m.suite(t.Context(), "make", "forky"); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		wg.Wait()
	}
	path := func() string {
		out, err := m.suite(t.Context(), "path", "forky")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	make4()
	arguments, err := os.ReadFile(filepath.Join(path(), "arguments"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(arguments), ",patroni,") || !strings.HasSuffix(string(arguments), "http://mirror.invalid/debian\n") {
		t.Errorf("arguments of mmdebstrap: %s", arguments)
	}
	first := path()
	m.write(t, "packages", "patroni\nzookeeperd\n", 0o644)
	if path() == first {
		t.Errorf("another list of packages has the same root %s", first)
	}
	make4()
	if calls, err := os.ReadFile(filepath.Join(m.dir, "calls")); string(calls) != "made\nmade\n" {
		t.Errorf("mmdebstrap said %q, want that it was called once for each list (%v)", calls, err)
	}
	if out, err := m.suite(t.Context(), "remove", "forky"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if left := m.list(t, "cache/forky-*"); len(left) != 0 {
		t.Errorf("remove left %v", left)
	}
}

// TestMakeFails: there is no half of a root file system, and what went wrong is said.
func TestMakeFails(t *testing.T) {
	m := newMaker(t, `mkdir "$root"; touch "$root/half"; echo "E: no such package"; exit 1`)
	out, err := m.suite(t.Context(), "make", "trixie")
	if err == nil || !strings.HasSuffix(out, "suite: mmdebstrap made no trixie:\nE: no such package") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := m.suite(t.Context(), "run", "trixie", "true"); err == nil || !strings.HasPrefix(out, "suite: no trixie yet: ") {
		t.Errorf("run: %v: %s", err, out)
	}
	m.write(t, "mmdebstrap", "#!/bin/sh\nfor last; do root=${before-} before=$last; done; mkdir \"$root\"", 0o755)
	if out, err := m.suite(t.Context(), "make", "trixie"); err != nil {
		t.Errorf("the next one: %v: %s", err, out)
	}
	if half := m.list(t, "cache/trixie-*/root/half"); len(half) != 0 {
		t.Errorf("the first one's half is in the second one's: %v", half)
	}
}

// TestClaim: two labs never have the same ports, and people's are left alone.
func TestClaim(t *testing.T) {
	first, lock, err := claim(0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	second, another, err := claim(0)
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	if first == second || first < firstPort+blockSize || first+lockPort > lastPort || first%blockSize != 0 {
		t.Errorf("blocks at %d and %d, want two of %d ports above %d", first, second, blockSize, firstPort+blockSize)
	}
	if _, _, err := claim(first); err == nil {
		t.Errorf("the block at %d was claimed twice", first)
	}

	// Nor do people get a block that a test has claimed.
	script, err := findScript("lab")
	if err != nil {
		t.Fatal(err)
	}
	want(t, Check(t.Context(), ETCD))
	cmd := exec.CommandContext(t.Context(), script, "up")
	cmd.Env = append(os.Environ(), "LAB_DIR="+filepath.Join(t.TempDir(), "lab"), "LAB_PARTS=etcd", "LAB_PORT="+strconv.Itoa(first))
	if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), fmt.Sprintf("lab: somebody else listens on %d: ", first+lockPort)) {
		t.Errorf("lab up at %d: %v: %s", first, err, out)
	}
}

// TestPortRange: where the kernel hands out the lab's ports to outgoing connections, no lab starts.
func TestPortRange(t *testing.T) {
	root(t)
	script, err := findScript("lab")
	if err != nil {
		t.Fatal(err)
	}
	want(t, Check(t.Context(), ETCD))
	for _, tt := range []struct{ low, high, says string }{
		{"20000", "60999", ""},
		{"1024", "17999", ""},
		{"10000", "60999", "lab: ports 18000 to 18019: want none that outgoing connections get: 10000 to 60999 (sysctl net.ipv4.ip_local_port_range)"},
		{"18019", "60999", "lab: ports 18000 to 18019: want none that outgoing connections get: 18019 to 60999 (sysctl net.ipv4.ip_local_port_range)"},
	} {
		cmd := exec.CommandContext(t.Context(), "unshare", "-n", "sh", "-c", `echo "$1 $2" >/proc/sys/net/ipv4/ip_local_port_range && exec "$3" check`, "sh", tt.low, tt.high, script)
		cmd.Env = append(os.Environ(), "LAB_PARTS=etcd", "LAB_PORT=18000", "LAB_DIR="+filepath.Join(t.TempDir(), "lab"))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != tt.says || (err == nil) != (tt.says == "") {
			t.Errorf("%s to %s: %v: %s", tt.low, tt.high, err, got)
		}
	}
}
