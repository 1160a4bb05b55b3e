package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of the tests anew")

// golden compares got with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -run %s -update . writes it)", err, t.Name())
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

const oneCluster = `
[agent]
listen = ":5555"
[[node]]
name = "pg1"
url = "http://10.0.0.11:8008"
postgres = "10.0.0.11:5432"
agent = { primary = ":5551", replica = "127.0.0.1:5561" }
[[node]]
name = "pg2"
url = "http://10.0.0.12:8008"
postgres = "10.0.0.12:5432"
agent = { primary = ":5552", replica = "127.0.0.1:5562" }
`

const twoClusters = `
[agent]
listen = ":5555"
[[node]]
name = "pg1"
cluster = "east"
url = "http://10.0.0.11:8008"
postgres = "10.0.0.11:5432"
[[node]]
name = "pg1"
cluster = "west"
url = "http://10.0.1.11:8008"
postgres = "10.0.1.11:5432"
[[node]]
name = "pg2"
cluster = "east"
url = "http://10.0.0.12:8008"
postgres = "10.0.0.12:5432"
`

// replace edits a configuration, and fails when it has nothing to edit.
func replace(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("%q is not in the configuration", oldNew[i])
		}
		text = strings.ReplaceAll(text, oldNew[i], oldNew[i+1])
	}
	return text
}

// TestHAProxyConfig makes one file of every kind. HAProxy has to accept it
// without a word, and our own linter too.
func TestHAProxyConfig(t *testing.T) {
	const withTLS = "[frontend]\nhost = \"10.0.0.5\"\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\"\n"
	tests := []struct {
		name   string
		config string
		flags  []string
	}{
		{"one", oneCluster, nil},
		{"one-remote", oneCluster, []string{"-supervisor", "10.0.0.5", "-write-port", "6432", "-read-port", "6433", "-stats-port", "0", "-user", "", "-socket", "/tmp/it's a \"socket\" #1"}},
		{"several", replace(t, twoClusters, `name = "pg2"`, `name = "pg3"`, "[[node]]\nname = \"pg1\"\ncluster = \"west\"", "[[node]]\nname = \"pg2\"\ncluster = \"west\""), nil},
		{"repeated", twoClusters, nil},
		{"repeated-west", twoClusters, []string{"-cluster", "west"}},
		{"dedicated", oneCluster, []string{"-dedicated"}},
		{"ipv6", replace(t, "[frontend]\nhost = \"::1\"\n"+oneCluster, "10.0.0.11", "[2001:db8::11]", "10.0.0.12", "[2001:db8::12]", `":5555"`, `"[::1]:5555"`), nil},
		{"ipv6-direct", replace(t, oneCluster, "10.0.0.11", "[2001:db8::11]", "10.0.0.12", "[2001:db8::12]"), []string{"-direct"}},
		{"https", withTLS + oneCluster, nil},
		{"https-verified", withTLS + "client-cafile = \"pair.pem\"\n" + oneCluster, []string{"-ca", "pair.pem", "-crt", "pair.pem"}},
		{"direct", oneCluster, []string{"-direct"}},
		{"direct-https", replace(t, oneCluster, "http://10.0.0.11", "https://localhost", "http://10.0.0.12:8008", "https://10.0.0.12", "10.0.0.11:5432", "localhost:postgresql",
			`name = "pg2"`, "name = \"pg2\"\ncafile = \"pair.pem\"\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\""), []string{"-direct", "-crt", "pair.pem"}},
		{"direct-insecure", replace(t, oneCluster, "http:", "https:") + "[backend]\ninsecure = true\n", []string{"-direct", "-dedicated"}},
		{"direct-stacked", replace(t, oneCluster, "11:8008", "11:8009/east/node/pg1", "12:8008", "11:8009/east/node/pg2") + "[checks]\nfallback = \"primary\"\n", []string{"-direct"}},
		{"hold", oneCluster, []string{"-hold", "10s"}},
		{"hold-cluster", twoClusters, []string{"-hold", "1m", "-cluster", "west"}},
		{"hold-direct-dedicated", oneCluster, []string{"-hold", "1s", "-direct", "-dedicated"}},
	}
	t.Chdir(".") // no t.Parallel: the paths of certificates are relative
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writePair(t, filepath.Join(dir, "pair.pem"))
			if err := os.WriteFile(filepath.Join(dir, "c.toml"), []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Chdir(dir)
			var stdout, stderr bytes.Buffer
			if code := Main(t.Context(), "test", append([]string{"-config", "c.toml", "haproxy"}, tt.flags...), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
				t.Fatalf("got exit code %d, %q on stderr, want neither", code, &stderr)
			}
			text := stdout.String()
			if err := os.WriteFile("hold.lua", haproxyHold, 0o600); err != nil {
				t.Fatal(err)
			}
			here := strings.ReplaceAll(text, "/etc/haproxy/patroniglue-hold.lua", filepath.Join(dir, "hold.lua"))
			if err := os.WriteFile("haproxy.cfg", []byte(here), 0o600); err != nil {
				t.Fatal(err)
			}
			stdout.Reset()
			if code := Main(t.Context(), "test", []string{"-config", "c.toml", "haproxy", "-lint", "haproxy.cfg"}, &stdout, &stderr); code != 0 || stdout.Len()+stderr.Len() > 0 {
				t.Errorf("linting got exit code %d, %q, %q on stderr, want none of it", code, &stdout, &stderr)
			}
			t.Run("accepted", func(t *testing.T) { acceptedByHAProxy(t, "haproxy.cfg") })
			t.Chdir(root)
			golden(t, "haproxy/"+tt.name+".cfg", text)
		})
	}
}

// acceptedByHAProxy fails for everything that haproxy -c says beside "valid".
func acceptedByHAProxy(t *testing.T, file string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), requireProgram(t, "haproxy"), "-c", "-f", file).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "Configuration file is valid" {
		t.Errorf("haproxy -c: %v, it said:\n%s", err, out)
	}
}

// writePair writes a certificate that signs itself, and its key.
func writePair(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHAProxyConfigErrors(t *testing.T) {
	const node = "[[node]]\nname = \"pg1\"\nurl = \"http://10.0.0.11:8008\"\n"
	tests := []struct {
		name   string
		config string
		flags  []string
		want   string // without its first line, which names the file
	}{
		{"nothing to tell", node + replace(t, node, "pg1", "pg2"), nil,
			`postgres: want the host:port of the database of node pg1, pg2 (got nothing)` + "\n" +
				`agent.listen: want the shared port, such as ":5555", or -dedicated for the ports of each node (got nothing)`},
		{"no dedicated port", node + "postgres = \"10.0.0.11:5432\"\nagent.primary = \":5551\"\n", []string{"-dedicated"},
			`node "pg1": agent.replica: want its dedicated port, such as ":5551" (got "")`},
		{"ports that only the system knows", replace(t, "[frontend]\nport = 0\n"+oneCluster, ":5555", ":0"), nil,
			`agent.listen: want a port from 1 to 65535, HAProxy has to know it (got ":0")` + "\n" +
				`frontend.port: want 1 to 65535, HAProxy has to know it (got 0)`},
		{"socket with a comma", oneCluster, []string{"-socket", "/run/a,b"}, `-socket: want an absolute path without a comma (got "/run/a,b")`},
		{"unknown cluster", twoClusters, []string{"-cluster", "north"}, `-cluster: want east or west (got "north")`},
		{"ports out of range", oneCluster, []string{"-write-port", "0", "-read-port", "65536", "-stats-port", "-1"},
			"-write-port: want a port from 1 to 65535 (got 0)\n" +
				"-read-port: want a port from 1 to 65535 (got 65536)\n" +
				"-stats-port: want a port from 1 to 65535 (got -1)"},
		{"ports of others", oneCluster, []string{"-write-port", "8009", "-read-port", "5555", "-stats-port", "5561"},
			"-write-port: want a port of its own, frontend.port has it too (got 8009)\n" +
				"-read-port: want a port of its own, agent.listen has it too (got 5555)\n" +
				"-stats-port: want a port of its own, agent.replica of node \"pg1\" has it too (got 5561)"},
		{"pairs that meet", twoClusters, []string{"-read-port", "5002"},
			"-write-port of cluster 2: want a port of its own, -read-port has it too (got 5002)"},
		{"bad flags", oneCluster, []string{"-socket", "admin.sock", "-user", "a b", "-supervisor", "10.0.0.5:8009"},
			"-socket: want an absolute path without a comma (got \"admin.sock\")\n" +
				"-user: want the name of a user (got \"a b\")\n" +
				"-supervisor: want a host name or an IP address, nothing more (got \"10.0.0.5:8009\")"},
		{"hold that is too long", oneCluster, []string{"-hold", "61s"}, "-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got 1m1s)"},
		{"hold that is too short", oneCluster, []string{"-hold", "100ms"}, "-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got 100ms)"},
		{"hold that is not whole", oneCluster, []string{"-hold", "1500ms", "-lua", "x.lua"},
			"-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got 1.5s)\n" +
				"-lua: want an absolute path (got \"x.lua\")"},
		{"Lua without hold", oneCluster, []string{"-lua", "/x.lua"}, `-lua: want -hold with it (got "/x.lua")`},
		{"Lua twice", oneCluster, []string{"-hold", "1s", "-lua", "/x.lua", "-o", "."}, `-lua: want it without -o, which writes that file into its own directory (got "/x.lua")`},
		{"client certificates", "[frontend]\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\"\nclient-cafile = \"pair.pem\"\n" + oneCluster, nil,
			"frontend.client-cafile: want -crt FILE, a client certificate for HAProxy's checks"},
		{"client certificate of a node", replace(t, oneCluster, "http:", "https:") + "[backend]\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\"\n", []string{"-direct"},
			"node \"pg1\": certfile: want -crt FILE, as HAProxy takes certificate and key from one file\n" +
				"node \"pg2\": certfile: want -crt FILE, as HAProxy takes certificate and key from one file"},
		{"paths that differ", replace(t, oneCluster, "12:8008", "12:8008/other"), []string{"-direct"},
			`node "pg2": url: want the same path as for node "pg1", or one that ends with the node's name: HAProxy asks all servers for one (got "/other")`},
		{"path with an escape", replace(t, oneCluster, "11:8008", "11:8008/a%20b"), []string{"-direct"},
			`node "pg1": url: want a plain path for -direct (got "/a%20b")`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			writePair(t, "pair.pem")
			if err := os.WriteFile("c.toml", []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			code := Main(t.Context(), "test", append([]string{"-config", "c.toml", "haproxy"}, tt.flags...), &stdout, &stderr)
			want := "making a haproxy.cfg for c.toml:\n" + tt.want
			if got := strings.TrimSuffix(strings.ReplaceAll("\n"+stderr.String(), "\npatroniglue: ", "\n"), "\n")[1:]; code != 1 || got != want {
				t.Errorf("got exit code %d, %s\nwant 1, %s", code, got, want)
			}
			if stdout.Len() > 0 {
				t.Errorf("got %q, want nothing on stdout", &stdout)
			}
		})
	}
}

func TestHAProxyWritesFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile("c.toml", []byte(oneCluster), 0o600), os.Mkdir("new", 0o755)); err != nil {
		t.Fatal(err)
	}
	write := func(flags ...string) (string, error) {
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), "test", append([]string{"-config", "c.toml", "haproxy"}, flags...), &stdout, &stderr); code != 0 {
			return stdout.String(), errors.New(strings.TrimPrefix(strings.TrimSpace(stderr.String()), "patroniglue: "))
		}
		return stdout.String() + stderr.String(), nil
	}
	text, err := write("-hold", "10s", "-lua", filepath.Join(here, "new", "patroniglue-hold.lua"))
	if err != nil {
		t.Fatal(err)
	}
	want := "wrote HERE/new/patroniglue-hold.lua\nwrote HERE/new/haproxy.cfg\ncheck it: haproxy -c -f HERE/new/haproxy.cfg\n"
	for range 2 { // the second time over the first
		got, err := write("-hold", "10s", "-o", "new")
		if got != strings.ReplaceAll(want, "HERE", here) || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for name, want := range map[string]string{"haproxy.cfg": text, "patroniglue-hold.lua": string(haproxyHold)} {
		got, err := os.ReadFile(filepath.Join("new", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %v, and differs (-want +got):\n%s", name, err, cmp.Diff(want, string(got)))
		}
		if info, err := os.Stat(filepath.Join("new", name)); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: mode %v, %v, want one that HAProxy may read", name, info.Mode(), err)
		}
	}
	if files, err := os.ReadDir("new"); err != nil || len(files) != 2 {
		t.Errorf("got %v, %v, want two files and nothing left over", files, err)
	}

	if _, err := write("-o", filepath.Join(here, "nowhere")); err == nil || !strings.HasPrefix(err.Error(), "writing "+here+"/nowhere/haproxy.cfg: ") || !strings.HasSuffix(err.Error(), ": no such file or directory") {
		t.Errorf("into no directory: got %v", err)
	}
	if err := os.WriteFile("haproxy.cfg", []byte("global\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = write("-hold", "10s", "-o", ".")
	wantErr := "replacing " + here + "/haproxy.cfg: its first line does not say that this command has written it: move it away first"
	if fmt.Sprint(err) != wantErr || exists("patroniglue-hold.lua") {
		t.Errorf("over a file of somebody: got %v, want %s, and nothing written", err, wantErr)
	}
}

// TestHAProxyLint: want are the lines of output without the file's name.
func TestHAProxyLint(t *testing.T) {
	const global = "global\n  hard-stop-after 10s\n"
	// The shortest section without a warning; lines 3 to 10.
	const clean = `listen rw
  tcp-request connection reject if { nbsrv gt 1 }
  option httpchk
  http-check send meth GET uri-lf /node/%[srv_name]/primary
  http-check expect status 200
  default-server disabled check agent-check agent-port 1 weight 100 on-marked-down shutdown-sessions
  server pg1 10.0.0.1:5432 agent-send "pg1/primary\n"
  server pg2 10.0.0.2:5432 agent-send "default/pg2/primary?lag=1MB\n"
`
	edit := func(oldNew ...string) string { return replace(t, global+clean, oldNew...) }
	tests := []struct {
		name, file string
		want       []string
	}{
		{"clean", global + clean, nil},
		{"comments and quotes", edit("default-server disabled", "default-server \"disabled\"# not agent-send 'x\n  default-server", "listen rw", "listen rw # \\"), nil},
		{"hard-stop-after", "\n# nothing\n" + clean, []string{"1: no hard-stop-after in global"}},
		{"hard-stop-after in a later global", clean + "global\n  daemon\n" + global, nil},
		{"check", edit("check agent-check", "agent-check"), []string{"8: pg1, pg2: agent-check without check"}},
		{"check is only an argument", edit("check agent-check", "cookie check agent-check"), []string{"8: pg1, pg2: agent-check without check"}},
		{"no-check on one server", edit("10.0.0.2:5432", "10.0.0.2:5432 no-check"), []string{"8: pg2: agent-check without check"}},
		{"agent-send without newline", edit(`"pg1/primary\n"`, `"pg1/primary"`), []string{"9: pg1: agent-send without a newline at its end"}},
		{"agent-send in single quotes", edit(`"pg1/primary\n"`, `'pg1/primary\n'`), []string{"9: pg1: agent-send in single quotes"}},
		{"agent-send without quotes", edit(`"pg1/primary\n"`, `pg1/primary\n`), nil},
		{"agent-send escaped twice", edit(`"pg1/primary\n"`, `"pg1/primary\\n"`), []string{"9: pg1: agent-send with an escaped backslash"}},
		{"agent-send of another node", edit(`"pg1/primary\n"`, `"pg2/primary\n"`), []string{`9: pg1: agent-send asks about node "pg2"`}},
		{"sessions", edit(" on-marked-down shutdown-sessions", ""), []string{"8: pg1, pg2: no on-marked-down shutdown-sessions"}},
		{"sessions without an agent", global + "listen ro\n  option httpchk GET /replica\n  http-check expect status 200\n  server pg1 10.0.0.1:5432 check\n", []string{"6: pg1: no on-marked-down shutdown-sessions"}},
		{"expect", edit("http-check expect status 200", "http-check expect status 200-399"), []string{"5: option httpchk without http-check expect status 200"}},
		{"expect not", edit("expect status 200", "expect ! status 200"), []string{"5: option httpchk without http-check expect status 200"}},
		{"expect twice", edit("http-check expect status 200", "http-check expect comment \"a b\" status 200\n  http-check expect ! string no"), nil},
		{"no weight", edit(" weight 100", ""), []string{"8: pg1, pg2: agent-check without weight 100"}},
		{"small weight", edit("weight 100", "weight 1"), []string{"8: pg1, pg2: agent-check with weight 1"}},
		{"large weight", edit("weight 100", "weight 200"), nil},
		{"names", edit("server pg2", "server pg22"), []string{`10: pg22: no node of the configuration has this name, did you mean "pg2"?`}},
		{"agent-port", edit("agent-port 1 ", ""), []string{"8: pg1, pg2: agent-check without agent-port"}},
		{"disabled", edit("disabled ", ""), []string{"8: pg1, pg2: agent-check without disabled"}},
		{"enabled", edit("10.0.0.2:5432", "10.0.0.2:5432 enabled"), []string{"8: pg2: agent-check without disabled"}},
		{"timeout check", edit("option httpchk", "option httpchk\n  timeout check 3s"), []string{"6: timeout check over inter"}},
		{"timeout check as long as inter", edit("option httpchk", "option httpchk\n  timeout check 2s"), nil},
		{"timeout check over the shortest inter", edit("option httpchk", "option httpchk\n  timeout check 2s", "10.0.0.2:5432", "10.0.0.2:5432 inter 1500"), []string{"6: timeout check over inter"}},
		{"timeout check of days", edit("option httpchk", "option httpchk\n  timeout check 1d"), []string{"6: timeout check over inter"}},
		{"guard", edit("  tcp-request connection reject if { nbsrv gt 1 }\n", ""), []string{"3: rw: no tcp-request connection reject if { nbsrv gt 1 }"}},
		{"guard in a frontend", "frontend f\n  tcp-request connection reject if { nbsrv(rw) gt 1 }\n  default_backend rw\n" +
			edit("  tcp-request connection reject if { nbsrv gt 1 }\n", "", "listen", "backend"), nil},
		{"reads need no guard", edit("  tcp-request connection reject if { nbsrv gt 1 }\n", "", "/primary", "/replica"), nil},
		{"balance static-rr", edit("option httpchk", "balance static-rr\n  option httpchk"), []string{"5: balance static-rr with agent-check"}},
		{"balance source", edit("option httpchk", "balance source\n  option httpchk"), []string{"5: balance source with agent-check"}},
		{"balance source, consistent", edit("option httpchk", "balance source\n  hash-type consistent\n  option httpchk"), nil},
		{"server-template", edit("server pg2 10.0.0.2:5432", "server-template pg 3 db.example:5432"), []string{"10: pg: server-template for writes"}},
		{"server-template for reads", edit("server pg2 10.0.0.2:5432", "server-template pg 3 db.example:5432", "/primary", "/replica"), nil},
		{"writes by the agent alone", edit("  option httpchk\n", "", "  http-check send meth GET uri-lf /node/%[srv_name]/primary\n", "", "  http-check expect status 200\n", "", "  tcp-request connection reject if { nbsrv gt 1 }\n", ""),
			[]string{"3: rw: no tcp-request connection reject if { nbsrv gt 1 }"}},
		{"defaults", "defaults\n  timeout check 5s\n  balance source\n  default-server weight 1\n  option httpchk\n" +
			edit("  option httpchk\n", "", " weight 100", ""), []string{
			"2: timeout check over inter", "3: balance source with agent-check", "4: pg1, pg2: agent-check with weight 1"}},
		{"defaults that another one ends", "defaults\n  timeout check 5s\ndefaults\n" + edit(), nil},
		{"defaults by name", "defaults a\n  timeout check 5s\ndefaults b from a\ndefaults\n" + edit("listen rw", "listen rw from b"), []string{"2: timeout check over inter"}},
		{"inherited rules end with a section's first", "defaults\n  http-check expect status 200\n" + edit("  http-check expect status 200\n", ""), []string{"7: option httpchk without http-check expect status 200"}},
		{"lines that go on", edit("check agent-check", "check \\\n  agent-check"), []string{"8: a backslash at the end of the line"}},
		{"other sections", edit() + "peers p\n  server x 1.1.1.1:1 agent-check\nbackend web\n  mode http\n  option httpchk\n  server w 1.1.1.1:80 check\nbackend plain\n  server x 1.1.1.1:1 check\nlisten off\n  disabled\n  option httpchk\n  server x 1.1.1.1:1 check\n", nil},
		{"switched off", "defaults\n  option httpchk\n" + edit("  option httpchk\n", "  no option httpchk\n", "check agent-check", "check"), nil},
		{"everything on one server", "listen rw\n  server pg1 10.0.0.1:5432 agent-check agent-send x\n", []string{
			"1: no hard-stop-after in global", "2: pg1: no on-marked-down shutdown-sessions", "2: pg1: agent-check without check", "2: pg1: agent-check without agent-port",
			"2: pg1: agent-check without disabled", "2: pg1: agent-check without weight 100", "2: pg1: agent-send without a newline at its end"}},
	}
	cfg, err := parseFile("c.toml", []byte(oneCluster), os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			warnings, _ := lintHAProxy(tt.file, cfg)
			var got []string
			for _, w := range warnings {
				line, _, _ := strings.Cut(fmt.Sprintf("%d: %s", w.line, w), " (")
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHAProxyLintPatroni judges what Patroni ships: its example, and its template
// for confd with two members.
func TestHAProxyLintPatroni(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, []byte(oneCluster), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"patroni", "patroni-confd"} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Main(t.Context(), "test", []string{"-config", config, "haproxy", "-lint", "testdata/haproxylint/" + name + ".cfg"}, &stdout, &stderr)
			if code != 1 {
				t.Errorf("got exit code %d, want 1", code)
			}
			golden(t, "haproxylint/"+name+".want", stdout.String()+stderr.String())
		})
	}
}

func TestHAProxyLintFile(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir()) // without a configuration, unless the machine has one in /etc
	if exists("/etc/patroniglue/patroniglue.toml") {
		t.Skip("this machine has a configuration of its own")
	}
	tests := []struct {
		name, file, wantOut, wantErr string
		want                         int
	}{
		{"no names", "global\n hard-stop-after 1s\nlisten a\n option httpchk GET /replica\n http-check expect status 200\n server x 1.1.1.1:1 check on-marked-down shutdown-sessions\n",
			"", "patroniglue: h.cfg: without a configuration the names of servers were not judged\n", 0},
		{"nothing to judge", "listen a\n mode http\n", "", "patroniglue: h.cfg: no section in mode tcp uses option httpchk or agent-check: nothing was judged\n", 0},
		{"unreadable", "", "", "patroniglue: reading a haproxy.cfg: open h.cfg: no such file or directory\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			os.Remove("h.cfg")
			if tt.file != "" {
				if err := os.WriteFile("h.cfg", []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var stdout, stderr bytes.Buffer
			code := Main(t.Context(), "test", []string{"haproxy", "-lint", "h.cfg"}, &stdout, &stderr)
			if code != tt.want || stdout.String() != tt.wantOut || stderr.String() != tt.wantErr {
				t.Errorf("got %d, %q, %q\nwant %d, %q, %q", code, &stdout, &stderr, tt.want, tt.wantOut, tt.wantErr)
			}
		})
	}
}

// FuzzLintHAProxy: whatever people have in their files, the linter ends and does
// not panic.
func FuzzLintHAProxy(f *testing.F) {
	f.Add("global\nlisten a\n option httpchk\n server x 1:1 check agent-check agent-send 'x\\n' \\\n")
	f.Add("defaults x from y\nlisten from z\n\"\\")
	f.Fuzz(func(t *testing.T, text string) { lintHAProxy(text, nil) })
}
