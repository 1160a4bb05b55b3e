package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patroniglue/haproxy"
	"patroniglue/test/harness"
)

// TestHAProxyConfig makes one file of every kind. Our own linter has to accept it
// without a warning; HAProxy does in test/haproxy.
func TestHAProxyConfig(t *testing.T) {
	const withTLS = "[frontend]\nhost = \"10.0.0.5\"\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\"\n"
	tests := []struct {
		name   string
		config string
		flags  []string
	}{
		{"one", harness.OneCluster, nil},
		{"one-remote", harness.OneCluster, []string{"-supervisor", "10.0.0.5", "-write-port", "6432", "-read-port", "6433", "-stats-port", "0", "-user", "", "-socket", "/tmp/it's a \"socket\" #1"}},
		{"several", harness.Replace(t, harness.TwoClusters, `name = "pg2"`, `name = "pg3"`, "[[node]]\nname = \"pg1\"\ncluster = \"west\"", "[[node]]\nname = \"pg2\"\ncluster = \"west\""), nil},
		{"repeated", harness.TwoClusters, nil},
		{"repeated-west", harness.TwoClusters, []string{"-cluster", "west"}},
		{"dedicated", harness.OneCluster, []string{"-dedicated"}},
		{"ipv6", harness.Replace(t, "[frontend]\nhost = \"::1\"\n"+harness.OneCluster, "10.0.0.11", "[2001:db8::11]", "10.0.0.12", "[2001:db8::12]", `":5555"`, `"[::1]:5555"`), nil},
		{"ipv6-direct", harness.Replace(t, harness.OneCluster, "10.0.0.11", "[2001:db8::11]", "10.0.0.12", "[2001:db8::12]"), []string{"-direct"}},
		{"https", withTLS + harness.OneCluster, nil},
		{"https-verified", withTLS + "client-cafile = \"pair.pem\"\n" + harness.OneCluster, []string{"-ca", "pair.pem", "-crt", "pair.pem"}},
		{"direct", harness.OneCluster, []string{"-direct"}},
		{"direct-https", harness.Replace(t, harness.OneCluster, "http://10.0.0.11", "https://localhost", "http://10.0.0.12:8008", "https://10.0.0.12", "10.0.0.11:5432", "localhost:postgresql",
			`name = "pg2"`, "name = \"pg2\"\ncafile = \"pair.pem\"\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\""), []string{"-direct", "-crt", "pair.pem"}},
		{"direct-insecure", harness.Replace(t, harness.OneCluster, "http:", "https:") + "[backend]\ninsecure = true\n", []string{"-direct", "-dedicated"}},
		{"direct-verify", harness.Replace(t, harness.OneCluster, "http:", "https:", `name = "pg1"`, "name = \"pg1\"\nserver-name = \"pg1.example\"", `name = "pg2"`, "name = \"pg2\"\nserver-name = \"pg2.example\"\nverify = \"ca\""), []string{"-direct", "-ca", "pair.pem"}},
		{"direct-stacked", harness.Replace(t, harness.OneCluster, "11:8008", "11:8009/east/node/pg1", "12:8008", "11:8009/east/node/pg2") + "[checks]\nfallback = \"primary\"\n", []string{"-direct"}},
		{"hold", harness.OneCluster, []string{"-hold", "10s"}},
		{"hold-cluster", harness.TwoClusters, []string{"-hold", "1m", "-cluster", "west"}},
		{"hold-direct-dedicated", harness.OneCluster, []string{"-hold", "1s", "-direct", "-dedicated"}},
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
			if err := os.WriteFile("haproxy.cfg", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			stdout.Reset()
			if code := Main(t.Context(), "test", []string{"-config", "c.toml", "haproxy", "-lint", "haproxy.cfg"}, &stdout, &stderr); code != 0 || stdout.Len()+stderr.Len() > 0 {
				t.Errorf("linting got exit code %d, %q, %q on stderr, want none of it", code, &stdout, &stderr)
			}
			t.Chdir(root)
			harness.Golden(t, "haproxy/testdata/golden/"+tt.name+".cfg", text)
		})
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
		{"nothing to tell", node + harness.Replace(t, node, "pg1", "pg2", "10.0.0.11", "10.0.0.12"), nil,
			`postgres: want the host:port of the database of node pg1, pg2 (got nothing)` + "\n" +
				`agent.listen: want the shared port, such as ":5555", or -dedicated for the ports of each node (got nothing)`},
		{"no dedicated port", node + "postgres = \"10.0.0.11:5432\"\nagent.primary = \":5551\"\n", []string{"-dedicated"},
			`node "pg1": agent.replica: want its dedicated port, such as ":5551" (got "")`},
		{"ports that only the system knows", harness.Replace(t, "[frontend]\nport = 0\n"+harness.OneCluster, ":5555", ":0"), nil,
			`agent.listen: want a port from 1 to 65535, HAProxy has to know it (got ":0")` + "\n" +
				`frontend.port: want 1 to 65535, HAProxy has to know it (got 0)`},
		{"socket with a comma", harness.OneCluster, []string{"-socket", "/run/a,b"}, `-socket: want an absolute path without a comma (got "/run/a,b")`},
		{"unknown cluster", harness.TwoClusters, []string{"-cluster", "north"}, `-cluster: want east or west (got "north")`},
		{"ports out of range", harness.OneCluster, []string{"-write-port", "0", "-read-port", "65536", "-stats-port", "-1"},
			"-write-port: want a port from 1 to 65535 (got 0)\n" +
				"-read-port: want a port from 1 to 65535 (got 65536)\n" +
				"-stats-port: want a port from 1 to 65535 (got -1)"},
		{"ports of others", harness.OneCluster, []string{"-write-port", "8009", "-read-port", "5555", "-stats-port", "5561"},
			"-write-port: want a port of its own, frontend.port has it too (got 8009)\n" +
				"-read-port: want a port of its own, agent.listen has it too (got 5555)\n" +
				"-stats-port: want a port of its own, agent.replica of node \"pg1\" has it too (got 5561)"},
		{"pairs that meet", harness.TwoClusters, []string{"-read-port", "5002"},
			"-write-port of cluster 2: want a port of its own, -read-port has it too (got 5002)"},
		{"bad flags", harness.OneCluster, []string{"-socket", "admin.sock", "-user", "a b", "-supervisor", "10.0.0.5:8009"},
			"-socket: want an absolute path without a comma (got \"admin.sock\")\n" +
				"-user: want the name of a user (got \"a b\")\n" +
				"-supervisor: want a host name or an IP address, nothing more (got \"10.0.0.5:8009\")"},
		{"hold that is too long", harness.OneCluster, []string{"-hold", "61s"}, "-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got 1m1s)"},
		{"hold that is too short", harness.OneCluster, []string{"-hold", "100ms"}, "-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got 100ms)"},
		{"hold that is not whole", harness.OneCluster, []string{"-hold", "1500ms", "-lua", "x.lua"},
			"-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got 1.5s)\n" +
				"-lua: want an absolute path (got \"x.lua\")"},
		{"Lua without hold", harness.OneCluster, []string{"-lua", "/x.lua"}, `-lua: want -hold with it (got "/x.lua")`},
		{"Lua twice", harness.OneCluster, []string{"-hold", "1s", "-lua", "/x.lua", "-o", "."}, `-lua: want it without -o, which writes that file into its own directory (got "/x.lua")`},
		{"client certificates", "[frontend]\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\"\nclient-cafile = \"pair.pem\"\n" + harness.OneCluster, nil,
			"frontend.client-cafile: want -crt FILE, a client certificate for HAProxy's checks"},
		{"client certificate of a node", harness.Replace(t, harness.OneCluster, "http:", "https:") + "[backend]\ncertfile = \"pair.pem\"\nkeyfile = \"pair.pem\"\n", []string{"-direct"},
			"node \"pg1\": certfile: want -crt FILE, as HAProxy takes certificate and key from one file\n" +
				"node \"pg2\": certfile: want -crt FILE, as HAProxy takes certificate and key from one file"},
		{"paths that differ", harness.Replace(t, harness.OneCluster, "12:8008", "12:8008/other"), []string{"-direct"},
			`node "pg2": url: want the same path as for node "pg1", or one that ends with the node's name: HAProxy asks all servers for one (got "/other")`},
		{"path with an escape", harness.Replace(t, harness.OneCluster, "11:8008", "11:8008/a%20b"), []string{"-direct"},
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
	if err := errors.Join(os.WriteFile("c.toml", []byte(harness.OneCluster), 0o600), os.Mkdir("new", 0o755)); err != nil {
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
	for name, want := range map[string]string{"haproxy.cfg": text, "patroniglue-hold.lua": string(haproxy.HoldLua)} {
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

// TestHAProxyLintPatroni judges what Patroni ships: its example, and its template
// for confd with two members.
func TestHAProxyLintPatroni(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, []byte(harness.OneCluster), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"patroni", "patroni-confd"} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Main(t.Context(), "test", []string{"-config", config, "haproxy", "-lint", "haproxy/testdata/lint/" + name + ".cfg"}, &stdout, &stderr)
			if code != 1 {
				t.Errorf("got exit code %d, want 1", code)
			}
			harness.Golden(t, "haproxy/testdata/lint/"+name+".want", stdout.String()+stderr.String())
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
