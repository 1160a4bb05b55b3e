package shipped

import (
	"crypto/tls"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// The unit's sandbox, made without systemd, which a container lacks: no user's
// rights, no capability, no new privilege, the system calls of its filter, all
// files read-only but the state directory, secrets as credentials in the places
// that the unit names. Whatever is configured has to work in it.
func TestSandbox(t *testing.T) {
	for _, program := range []string{"systemd-analyze", "setpriv", "unshare"} {
		harness.RequireProgram(t, program)
	}
	if os.Getuid() != 0 {
		if os.Getenv("PATRONIGLUE_LAB") == "required" {
			t.Fatal("want root")
		}
		t.Skip("NOT TESTED: want root")
	}
	const nobody = 65534
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	ca.Make(t, "client", harness.ClientCert())
	ca.Make(t, "rest", harness.ServerCert())
	sim := nodetest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Load(t, "rest")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)

	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // go test lets nobody else in
		t.Fatal(err)
	}
	state, credentials := filepath.Join(dir, "state"), filepath.Join(dir, "credentials")
	for _, d := range []string{state, credentials} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(state, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	put := func(path, text string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, text := range map[string]string{
		"token": "the-token\n", "passwords": "alice:" + harness.AliceHash + "\n", "server.key": harness.ReadFile(t, ca.File("server.key")), "client.key": harness.ReadFile(t, ca.File("client.key")),
	} {
		put(filepath.Join(credentials, name), text, 0o400)
	}
	for _, name := range []string{"ca.crt", "server.crt", "client.crt"} {
		put(filepath.Join(dir, name), harness.ReadFile(t, ca.File(name)), 0o644)
	}
	const handed = "/run/credentials/patroniglue.service/"
	for _, secret := range []string{"token", "passwords", "server.key"} {
		if !strings.Contains(harness.ReadFile(t, unitFile), "\n#LoadCredential="+secret+":") {
			t.Errorf("%s shows no LoadCredential of %s", unitFile, secret)
		}
	}
	if unit := harness.ReadFile(t, unitFile); !strings.Contains(unit, handed) {
		t.Errorf("%s does not name %s", unitFile, handed)
	}
	operator, dedicated := harness.FreePort(t), harness.FreePort(t)
	text := "[frontend]\n" + harness.AnyPort + "certfile = '" + dir + "/server.crt'\nkeyfile = '" + handed + "server.key'\ntoken-file = '" + handed + "token'\n" +
		"[operator]\nlisten = '" + operator + "'\npassword-file = '" + handed + "passwords'\n" +
		"[history]\nfile = '" + state + "/history.jsonl'\n[agent]\nlisten = '127.0.0.1:0'\n" + harness.FastPolls +
		"cafile = '" + dir + "/ca.crt'\ncertfile = '" + dir + "/client.crt'\nkeyfile = '" + handed + "client.key'\n" + harness.NodesOf(sim, "") +
		"agent = { replica = '" + dedicated + "' }\n"
	config := put(filepath.Join(dir, "patroniglue.toml"), text, 0o644)

	binary, confined := filepath.Join(dir, "patroniglue"), filepath.Join(dir, "confined")
	put(binary, harness.ReadFile(t, harness.BuiltBinary(t)), 0o755)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	put(confined, harness.ReadFile(t, self), 0o755)

	script := `set -e
mount --bind "$1/state" "$1/state"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p ` + handed + `
cp "$1/credentials/"* ` + handed + `
chown -R 65534:65534 ` + handed + `
chmod 500 ` + handed + `
mount -o remount,bind,ro /run
mount -o remount,bind,ro /
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- "$1/confined" "$2" "$1/patroniglue" -config "$3"
`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", dir, unitSystemCalls(t), config)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	p := harness.StartProcess(t, text, cmd)

	process := harness.ReadFile(t, fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	for _, want := range []string{"Uid:\t65534\t65534\t", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(process, want) {
			t.Errorf("the process has no %q:\n%s", want, process)
		}
	}
	trust := &tls.Config{RootCAs: ca.Pool()}
	all := func() {
		t.Helper()
		for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/cluster/main/primary": 200, "/livez": 200, "/readyz": 200, "/health": 404} {
			if resp, body := harness.Ask(t, trust, "GET", "https://"+p.HTTP+path); resp.StatusCode != want {
				t.Errorf("GET %s: %s: %s", path, resp.Status, body)
			}
		}
		for _, path := range []string{"/", "/ui/main", "/assets/page.js", "/health", "/metrics", "/history", "/cluster", "/node/pg2"} {
			for _, authorization := range []string{"Bearer the-token", harness.BasicAuth("alice", "correct horse")} {
				if got := harness.AskAs(t, trust, authorization, "GET", "https://"+operator+path); got != 200 {
					t.Errorf("GET %s: %d", path, got)
				}
			}
		}
		if got := harness.AskAs(t, trust, "Bearer the-token", "DELETE", "https://"+p.HTTP+"/node/pg1/leaving"); got != 200 {
			t.Errorf("DELETE /node/pg1/leaving: %d", got)
		}
		if got := harness.AskAgent(t, p.Agents[0], "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("the shared agent: %q", got)
		}
		if got := harness.AskAgent(t, dedicated, ""); got != "ready up 100% #replica\n" {
			t.Errorf("the dedicated agent: %q", got)
		}
	}
	all()
	p.Signal(t, syscall.SIGHUP)
	p.Log.Await(t, 1, "message", harness.LoadedAnew)
	all()
	harness.AwaitFile(t, state+"/history.jsonl", `"kind":"leader"`)
	p.Signal(t, syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Errorf("stopped: %v, want exit code 0", err)
	}
	for _, level := range []string{"warn", "error"} {
		if lines := p.Log.Lines("level", level); len(lines) > 0 {
			t.Errorf("at %s: %q", level, lines)
		}
	}
}

// unitSystemCalls are the numbers of the system calls that the unit allows.
func unitSystemCalls(t *testing.T) string {
	t.Helper()
	sets := map[string][]string{}
	var name string
	for line := range strings.Lines(harness.Must(t, "systemd-analyze", "syscall-filter")) {
		switch word := strings.TrimSpace(line); {
		case word == "" || strings.HasPrefix(word, "#"):
		case strings.HasPrefix(line, "@"):
			name = word
		default:
			sets[name] = append(sets[name], word)
		}
	}
	var all func(name string) map[string]bool
	all = func(name string) map[string]bool {
		if !strings.HasPrefix(name, "@") {
			return map[string]bool{name: true}
		}
		out := map[string]bool{}
		for _, member := range sets[name] {
			maps.Copy(out, all(member))
		}
		return out
	}
	allowed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(harness.ReadFile(t, unitFile), -1) {
		for set := range strings.FieldsSeq(m[2]) {
			for call := range all(set) {
				allowed[call] = m[1] == ""
			}
		}
	}
	names := harness.Must(t, "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys")
	table := harness.ReadFile(t, filepath.Join(strings.TrimSpace(names), "unix", "zsysnum_linux_"+runtime.GOARCH+".go"))
	var numbers []string
	for _, m := range regexp.MustCompile(`(?m)^\tSYS_(\w+)\s+= (\d+)$`).FindAllStringSubmatch(table, -1) {
		if allowed[strings.ToLower(m[1])] {
			numbers = append(numbers, m[2])
		}
	}
	if len(numbers) < 100 || slices.Contains(numbers, strconv.Itoa(unix.SYS_MOUNT)) || slices.Contains(numbers, strconv.Itoa(unix.SYS_SETUID)) {
		t.Fatalf("the unit's filter was read as %q", numbers)
	}
	return strings.Join(numbers, ",")
}

// confine runs a command that may use system calls of these numbers only; others
// fail with EPERM, as in the unit. It is a command of the test's own binary.
func confine() {
	fail := func(doing string, err error) {
		fmt.Fprintln(os.Stderr, "confined:", doing+":", err)
		os.Exit(1)
	}
	runtime.LockOSThread()                                                       // the filter is one thread's, which is all that Exec leaves
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number
	for number := range strings.SplitSeq(os.Args[1], ",") {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			fail("reading numbers", err)
		}
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(n)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		fail("installing the filter", err)
	}
	if err := unix.Mount("none", "/", "tmpfs", 0, ""); err != unix.EPERM {
		fail("trying to mount", err)
	}
	fail("starting "+os.Args[2], syscall.Exec(os.Args[2], os.Args[2:], os.Environ()))
}
