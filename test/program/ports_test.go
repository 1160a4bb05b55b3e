package program

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

func TestDaemonPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	used := taken.Addr().String()
	for name, which := range map[string]int{"http": 0, "shared agent": 1, "dedicated agent": 2} {
		t.Run(name, func(t *testing.T) {
			addrs := []string{harness.FreePort(t), harness.FreePort(t), harness.FreePort(t)}
			addrs[which] = used
			config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n[agent]\nlisten = '%s'\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\nagent = { primary = '%s' }\n",
				harness.PortOf(addrs[0]), addrs[1], addrs[2])
			var out bytes.Buffer
			code := harness.Command(t.Context(), []string{"-config", harness.WriteFile(t, "c.toml", config)}, io.Discard, &out)
			message := out.String()
			if code != 1 || strings.Count(message, "\n") != 1 || !strings.Contains(message, used+": bind: address already in use: want a free port, ") {
				t.Errorf("exit code %d and %q, want 1 and one line that names %s", code, message, used)
			}
			for i, addr := range addrs {
				if i != which && !harness.Refuses(addr) {
					t.Errorf("something listens on %s", addr)
				}
			}
		})
	}
}

// TestDaemonPrivilegedPort: a daemon that may not open its port says which one, and what would
// help.
func TestDaemonPrivilegedPort(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Skipf("PRIVILEGED PORTS NOT TESTED: %v", err)
	}
	if first, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || first < 80 {
		t.Skipf("PRIVILEGED PORTS NOT TESTED: here those from %d on are everybody's (%v)", first, err)
	}
	binary, config := harness.BuiltBinary(t), harness.WriteFile(t, "c.toml", "[frontend]\nhost = '127.0.0.1'\nport = 79\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\n")
	cmd := exec.CommandContext(t.Context(), binary, "-config", config)
	if os.Geteuid() == 0 { // root without its capabilities still reads its own files
		harness.RequireProgram(t, "setpriv")
		cmd = exec.CommandContext(t.Context(), "setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", binary, "-config", config)
	}
	out, err := cmd.CombinedOutput()
	want := "patroniglue: listening for HTTP: listen tcp 127.0.0.1:79: bind: permission denied: want a port from 1024, or the capability CAP_NET_BIND_SERVICE (patroniglue.service shows how)\n"
	if cmd.ProcessState.ExitCode() != 1 || string(out) != want {
		t.Errorf("%v, %s, want exit code 1 and %s", err, out, want)
	}
}

func TestDaemonForeignAddress(t *testing.T) {
	var out bytes.Buffer
	config := "[frontend]\nhost = '192.0.2.1'\nport = 0\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:1'\n" // an address for documentation
	code := harness.Command(t.Context(), []string{"-config", harness.WriteFile(t, "c.toml", config)}, io.Discard, &out)
	want := "patroniglue: listening for HTTP: listen tcp 192.0.2.1:0: bind: cannot assign requested address: want an address of this machine, or none for all\n"
	if code != 1 || out.String() != want {
		t.Errorf("exit code %d and %s, want 1 and %s", code, &out, want)
	}
}

// TestDaemonUnknownHost: a host name that is not in the DNS (yet) affects that node alone.
func TestDaemonUnknownHost(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	nowhere := strings.Repeat("x", 64) + ".example" // too long for a name, so no DNS server is asked
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodeTables(sim, "")+"[[node]]\nname = 'pg3'\ncluster = 'main'\nurl = 'http://"+nowhere+":8008'\n")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg3/primary": 503, "/health": 200} {
		resp, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+path)
		if resp.StatusCode != want {
			t.Errorf("GET %s: %s: %s, want %d", path, resp.Status, body, want)
		}
		if path == "/node/pg3/primary" && !strings.Contains(body, "lookup "+nowhere+": no such host") {
			t.Errorf("GET %s: %s, want the reason", path, body)
		}
	}
	if n := len(p.Log.Lines("node", "pg3", "message", "poll failed")); n != 1 {
		t.Errorf("the failed look-up is logged %d times, want once", n)
	}
}
