package shipped

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"patroniglue/test/harness"
)

const (
	unitFile        = "contrib/systemd/patroniglue.service"
	installedConfig = "/etc/patroniglue/patroniglue.toml"
)

// maxExposure is the highest result of systemd-analyze security that passes, 0 to 100. 10 to 49 is
// "OK". It is 14 in systemd 252; much more means that a protection was lost.
const maxExposure = "20"

func TestUnit(t *testing.T) {
	harness.RequireProgram(t, "systemd-analyze")
	text := strings.ReplaceAll(harness.ReadFile(t, unitFile), "/usr/bin/patroniglue", harness.BuiltBinary(t))
	harness.MustRun(t, "systemd-analyze", "verify", "--man=no", harness.WriteFile(t, "patroniglue.service", text))
	// With its socket: a service is started for it.
	dir := t.TempDir()
	for name, text := range map[string]string{"patroniglue.service": text, "patroniglue.socket": harness.ReadFile(t, "contrib/systemd/patroniglue.socket")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	harness.MustRun(t, "systemd-analyze", "verify", "--man=no", filepath.Join(dir, "patroniglue.socket"))
	harness.MustRun(t, "systemd-analyze", "security", "--offline=true", "--threshold="+maxExposure, unitFile)
}

// release makes the packages for this machine and returns their directory.
func release(t *testing.T) string {
	t.Helper()
	if os.Getenv("PATRONIGLUE_LAB") != "required" {
		t.Skip("PACKAGES NOT TESTED: want root on Debian and ./build.sh test")
	}
	dist := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "./build.sh", "release", runtime.GOARCH)
	cmd.Env = append(os.Environ(), "DIST="+dist)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("./build.sh release: %v\n%s", err, out)
	}
	return dist
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v, want one file", pattern, found, err)
	}
	return found[0]
}

// hooks is the scripts that Patroni runs.
func hooks(t *testing.T) (names []string) {
	t.Helper()
	found, err := filepath.Glob("contrib/patroni-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		names = append(names, filepath.Base(path))
	}
	return names
}

// testReproducible: two builds of one commit are the same, so anybody can prove that what we
// publish is made from it.
func testReproducible(t *testing.T, first, second string) {
	harness.MustRun(t, "diff", "-r", first, second)
	if sums := harness.ReadFile(t, first+"/sha256sums"); strings.Count(sums, "\n") != 2 {
		t.Errorf("sha256sums of a .deb and a .tar.gz:\n%s", sums)
	}
	list := harness.MustRun(t, "tar", "-tzf", only(t, first+"/*.tar.gz"))
	for _, want := range append(hooks(t),
		"patroniglue", "LICENSE", "README.md", "CHANGELOG.md", "patroniglue.example.toml",
		"man/patroniglue.8", "man/patroniglue.toml.5", "systemd/patroniglue.service", "systemd/patroniglue.socket", "systemd/patroniglue.conf", "prometheus/rules.yml", "grafana/patroniglue.json",
		"logrotate/patroniglue", "docs/api.md", "docs/clients.md", "docs/security.md",
	) {
		if !regexp.MustCompile(`(?m)^patroniglue-[^/]+/` + regexp.QuoteMeta(want) + `$`).MatchString(list) {
			t.Errorf("the .tar.gz has no %s:\n%s", want, list)
		}
	}
}

// TestDebianVersion: for Debian a release is newer than its snapshots, else it is never installed.
func TestDebianVersion(t *testing.T) {
	harness.RequireProgram(t, "dpkg")
	_, function, _ := strings.Cut(harness.ReadFile(t, "build.sh"), "\ndeb_version()")
	function, _, _ = strings.Cut(function, "\n}\n")
	before := "1.9.9"
	for _, version := range []struct{ ours, want string }{ // oldest first
		{"2.0.0-dev+abc1234", "2.0.0~dev+abc1234"},
		{"2.0.0-dev+abc1234-dirty", "2.0.0~dev+abc1234.dirty"},
		{"2.0.0-rc1", "2.0.0~rc1"},
		{"2.0.0-rc1-5-gabc1234", "2.0.0~rc1+5.gabc1234"},
		{"2.0.0", "2.0.0"},
		{"2.0.0-5-gabc1234", "2.0.0+5.gabc1234"},
		{"2.0.0-12-gabc1234-dirty", "2.0.0+12.gabc1234.dirty"},
		{"2.0.1", "2.0.1"},
	} {
		got := strings.TrimSpace(harness.MustRun(t, "bash", "-c", "version() { echo '"+version.ours+"'; }\ndeb_version()"+function+"\n}\ndeb_version"))
		if got != version.want {
			t.Errorf("%s is %s, want %s", version.ours, got, version.want)
		}
		harness.MustRun(t, "dpkg", "--compare-versions", before, "lt", got)
		before = got
	}
}

// TestPackage installs the .deb on this machine and removes it again.
func TestPackage(t *testing.T) {
	dist := release(t)
	t.Run("reproducible", func(t *testing.T) { testReproducible(t, dist, release(t)) })
	deb := only(t, dist+"/*.deb")
	lockPackage(t)

	if out := harness.MustRun(t, "dpkg", "-i", deb); !strings.Contains(out, "patroniglue -check && systemctl enable --now patroniglue") {
		t.Errorf("dpkg -i does not say what to do next:\n%s", out)
	}
	files := strings.Split(strings.TrimSpace(harness.MustRun(t, "dpkg", "-L", "patroniglue")), "\n")
	wants := []string{
		"/usr/bin/patroniglue", "/usr/lib/systemd/system/patroniglue.service", "/usr/lib/sysusers.d/patroniglue.conf", installedConfig,
		"/usr/share/man/man8/patroniglue.8.gz", "/usr/share/man/man5/patroniglue.toml.5.gz", "/usr/share/doc/patroniglue/copyright",
	}
	for _, hook := range hooks(t) {
		wants = append(wants, "/usr/share/patroniglue/"+hook)
	}
	for _, want := range wants {
		if _, err := os.Stat(want); err != nil || !slices.Contains(files, want) {
			t.Errorf("%s: %v, want it, and as the package's", want, err)
		}
	}
	if got := harness.MustRun(t, "stat", "-c", "%U:%G %a", "/etc/patroniglue"); got != "root:patroniglue 750\n" {
		t.Errorf("/etc/patroniglue is %s, want root:patroniglue 750: it may hold tokens", got)
	}
	harness.MustRun(t, "systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/patroniglue.service")
	if out, _ := exec.CommandContext(t.Context(), "systemctl", "is-enabled", "patroniglue.service").CombinedOutput(); string(out) != "disabled\n" {
		t.Errorf("systemctl is-enabled: %s, want disabled: it has no nodes", out)
	}
	// Without a configuration it says what is missing, and is not started again and again.
	cmd := exec.CommandContext(t.Context(), "/usr/bin/patroniglue", "-config", installedConfig)
	out, err := cmd.CombinedOutput()
	want := "patroniglue: " + installedConfig + ": node: want at least one [[node]], or [discovery] (got nothing)\n"
	if string(out) != want || cmd.ProcessState.ExitCode() != 78 || !strings.Contains(harness.ReadFile(t, unitFile), "\nRestartPreventExitStatus=78\n") {
		t.Errorf("run as installed: %s, %v, want %sand exit code 78, for which the unit does not restart it", out, err, want)
	}
	// Nobody else may read it, and is told so.
	out, err = exec.CommandContext(t.Context(), "setpriv", "--reuid=nobody", "--clear-groups", "env", "HOME=/", "/usr/bin/patroniglue", "status").CombinedOutput()
	if want := `patroniglue: reading the configuration "` + installedConfig + "\": permission denied\n"; err == nil || string(out) != want {
		t.Errorf("status as nobody: %s, %v, want %s", out, err, want)
	}

	adapted := runPackage(t)

	t.Run("an upgrade keeps the configuration", func(t *testing.T) {
		harness.MustRun(t, "dpkg", "-i", deb)
		if got := harness.ReadFile(t, installedConfig); got != adapted {
			t.Errorf("installed again, the configuration is\n%s", got)
		}
		// As unattended-upgrades does.
		if out := harness.MustRun(t, "dpkg", "--force-confdef", "--force-confold", "-i", newerPackage(t, deb)); strings.Contains(out, "enable --now") {
			t.Errorf("an upgrade prints what a first installation prints:\n%s", out)
		}
		if got := harness.ReadFile(t, installedConfig); got != adapted {
			t.Errorf("after an upgrade the configuration is\n%s", got)
		}
		if got := harness.ReadFile(t, installedConfig+".dpkg-dist"); !strings.Contains(got, "# newer\n") {
			t.Errorf("beside it, the package's is\n%s", got)
		}
	})
	t.Run("removed", func(t *testing.T) {
		harness.MustRun(t, "dpkg", "-r", "patroniglue")
		if _, err := os.Stat("/usr/bin/patroniglue"); err == nil || harness.ReadFile(t, installedConfig) != adapted {
			t.Errorf("/usr/bin/patroniglue: %v, want it removed, and the configuration unchanged", err)
		}
	})
	t.Run("purged", func(t *testing.T) {
		account, err := user.Lookup("patroniglue")
		if err != nil {
			t.Fatal(err)
		}
		const token, state = "/etc/patroniglue/token", "/var/lib/patroniglue"
		for _, path := range []string{token, state + "/members.json"} {
			harness.MustRun(t, "install", "-D", "-o", "patroniglue", "-g", "patroniglue", "-m", "600", "/dev/null", path)
		}
		t.Cleanup(func() { os.RemoveAll("/etc/patroniglue") })
		harness.MustRun(t, "dpkg", "-P", "patroniglue")
		if out := harness.MustRun(t, "find", "/etc/patroniglue", "-uid", account.Uid, "-o", "-gid", account.Gid); out != "" {
			t.Errorf("the next user with these numbers owns\n%s", out)
		}
		if _, err := os.Stat(token); err != nil {
			t.Errorf("a token of the administrator: %v", err)
		}
		if _, err := os.Stat(state); err == nil {
			t.Errorf("%s is still there", state)
		}
		for _, path := range files {
			if _, err := os.Lstat(path); err == nil && strings.Contains(path, "patroniglue") && path != filepath.Dir(token) {
				t.Errorf("%s is still there", path)
			}
		}
		if _, err := user.Lookup("patroniglue"); err == nil {
			t.Error("the user is still there")
		}
		if _, err := user.LookupGroup("patroniglue"); err == nil {
			t.Error("the group is still there")
		}
	})
}

// lockPackage lets one test at a time install the package, on a machine where it is not installed,
// and removes it in the end. It also removes what a test left that was killed.
func lockPackage(t *testing.T) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "patroniglue-package-test"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	leftOver, err := io.ReadAll(lock)
	if err != nil {
		t.Fatal(err)
	}
	installed := exec.Command("dpkg-query", "-W", "patroniglue").Run() == nil
	if _, err := os.Stat("/etc/patroniglue"); len(leftOver) == 0 && (installed || err == nil) {
		t.Fatal("patroniglue is installed here, or /etc/patroniglue exists: the test would remove it")
	}
	purge := func() {
		if out, err := exec.Command("dpkg", "-P", "patroniglue").CombinedOutput(); err != nil {
			t.Errorf("dpkg -P: %v\n%s", err, out)
		}
	}
	if installed {
		purge()
	}
	if _, err := lock.WriteAt([]byte("installed\n"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		purge() // nothing to do where the test did it: dpkg only says so
		if err := lock.Truncate(0); err != nil {
			t.Error(err)
		}
	})
}

// newerPackage is the same package with a higher version and another
// configuration file.
func newerPackage(t *testing.T, deb string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	harness.MustRun(t, "dpkg-deb", "-R", deb, root)
	control := harness.ReadFile(t, root+"/DEBIAN/control")
	control = regexp.MustCompile(`(?m)^Version: .*`).ReplaceAllString(control, "${0}+newer")
	for path, text := range map[string]string{
		root + "/DEBIAN/control": control,
		root + installedConfig:   harness.ReadFile(t, root+installedConfig) + "# newer\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0); err != nil { // it keeps its mode
			t.Fatal(err)
		}
	}
	harness.MustRun(t, "dpkg-deb", "-Zgzip", "-z1", "-b", root, root+".deb")
	return root + ".deb"
}

// runPackage runs the installed program as the unit does, with the example adapted: as its user,
// without privileges, with the test in systemd's place. It returns the configuration.
func runPackage(t *testing.T) string {
	t.Helper()
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	replace := []string{"port = 8009", "port = 0", "[agent]\nlisten = \"\"", "[agent]\nlisten = \"127.0.0.1:0\""}
	for _, n := range sim.Nodes()[:2] {
		replace = append(replace, fmt.Sprintf("http://10.0.0.1%s:8008", n.Name()[2:]), n.URL())
	}
	replace = append(replace, `host = "10.0.0.13"`, `host = "127.0.0.1"`, "port = 8008", "port = "+harness.PortOf(sim.Node("pg3").Addr()))
	text := strings.NewReplacer(replace...).Replace(harness.ReadFile(t, "/usr/share/doc/patroniglue/examples/patroniglue.toml"))
	text = regexp.MustCompile(`":55\d\d"`).ReplaceAllString(text, `"127.0.0.1:0"`)
	if regexp.MustCompile(`10\.0\.0\.1\d:8008|host = "10|":5`).MatchString(text) {
		t.Fatalf("the example has changed, adapt it again:\n%s", text)
	}
	if err := os.WriteFile(installedConfig, []byte(text), 0); err != nil { // it keeps its mode
		t.Fatal(err)
	}

	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: fmt.Sprintf("@patroniglue-test-%d", os.Getpid()), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	told := func(want string) {
		t.Helper()
		if err := systemd.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 4096)
		for {
			n, err := systemd.Read(message)
			if err != nil {
				t.Fatalf("systemd is not told %q: %v", want, err)
			}
			if strings.HasPrefix(string(message[:n]), want) {
				return
			}
		}
	}

	_, line, _ := strings.Cut(harness.ReadFile(t, "/usr/lib/systemd/system/patroniglue.service"), "\nExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	args := []string{"--reuid=patroniglue", "--regid=patroniglue", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"}
	cmd := exec.Command("setpriv", append(args, strings.Fields(line)...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"NOTIFY_SOCKET=" + systemd.LocalAddr().String(), "WATCHDOG_USEC=500000"}
	p := harness.StartProcess(t, text, cmd)
	for _, want := range []string{"READY=1", "STATUS=main: ok, leader pg1", "WATCHDOG=1"} {
		told(want)
	}
	for _, path := range []string{"/livez", "/readyz", "/health", "/node/pg1/primary", "/node/pg3/replica"} {
		if resp, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+path); resp.StatusCode != 200 {
			t.Errorf("GET %s: %s: %s", path, resp.Status, body)
		}
	}
	account, err := user.Lookup("patroniglue")
	if err != nil {
		t.Fatal(err)
	}
	process := harness.ReadFile(t, fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	for _, want := range []string{"Uid:\t" + account.Uid + "\t", "Gid:\t" + account.Gid + "\t", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(process, want) {
			t.Errorf("the process has no %q:\n%s", want, process)
		}
	}
	if out := harness.MustRun(t, "/usr/bin/patroniglue", "-version"); !regexp.MustCompile(`^patroniglue \d+\.\d+\.\d`).MatchString(out) {
		t.Errorf("-version: %s", out)
	}
	p.Signal(t, syscall.SIGTERM)
	told("STOPPING=1")
	if err := p.Wait(); err != nil {
		t.Errorf("stopped: %v, want exit code 0", err)
	}
	return text
}
