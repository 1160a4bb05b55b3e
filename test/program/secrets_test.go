package program

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// What is secret is in no output: neither while all is well, nor when a file is
// refused, which is when people copy what they see into a ticket.
func TestSecrets(t *testing.T) {
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	ca.Make(t, "client", harness.ClientCert())
	ca.Make(t, "other", harness.ClientCert())
	secrets := map[string]string{
		"the token": "canary-token-1", "the password": "correct horse", "the hash": harness.AliceHash[29:], "a second token": "canary-token-2", "a refused hash": "canary-hash",
		"a password in a URL": "canary-url", "a wrong password": "canary-wrong", "a key that there is not": "canary-unknown",
		"etcd's password": "canary-etcd",
	}
	for _, name := range []string{"server", "client", "other"} {
		key := strings.Split(harness.ReadFile(t, ca.File(name+".key")), "\n")
		secrets["the key of "+name] = key[1][30:] // its beginning is the same for all
	}
	bad := map[string]string{}
	for name, text := range map[string]string{"two": "canary-token-1 canary-token-2", "hash": "alice:canary-hash", "key": "canary-hash", "etcd": "canary-etcd\ncanary-etcd"} {
		bad[name] = harness.WriteFile(t, name, text)
	}

	token, passwords := harness.WriteFile(t, "token", "canary-token-1\n"), harness.WriteFile(t, "passwords", "alice:"+harness.AliceHash+"\n")
	addr := harness.FreePort(t)
	frontend := "[frontend]\nhost = '127.0.0.1'\nport = " + harness.PortOf(harness.FreePort(t)) + "\n"
	tokenFile := "token-file = '" + token + "'\n"
	operator := "[operator]\nlisten = '" + addr + "'\npassword-file = '" + passwords + "'\n"
	sim := harness.NewSimulated(t, "pg1", "pg2")
	rest := "[agent]\nlisten = '127.0.0.1:0'\n" + harness.FastPolls + ca.Pair("client") + harness.NodesOf(sim, "")
	text := frontend + ca.Pair("server") + tokenFile + operator + rest
	p := harness.Start(t, "c.toml", text, "-debug")
	p.Config = p.Path

	said, page := map[string]string{}, "https://"+addr+"/ui/main"
	trust := &tls.Config{RootCAs: ca.Pool()}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	ask := func(when, method, url, authorization string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		said[fmt.Sprintf("%s: %s %s with %.8s", when, method, url, authorization)] += fmt.Sprint(resp.Header, string(body))
	}
	collect := func(when string) {
		t.Helper()
		for _, base := range []string{"https://" + p.HTTP, "https://" + addr} {
			for _, path := range []string{"/", "/ui/main", "/health", "/metrics", "/history", "/cluster", "/patroni", "/node/pg1", "/node/pg1/primary", "/node/pg1/patroni", "/nonsense/x", "/node/pg1/primary?password=x"} {
				ask(when, "GET", base+path, "Bearer canary-token-1")
				ask(when, "GET", base+path, harness.BasicAuth("alice", "correct horse"))
			}
			for _, authorization := range []string{"Bearer canary-token-1", "Bearer canary-token-2", harness.BasicAuth("alice", "canary-wrong"), harness.BasicAuth("canary-wrong", "x")} {
				ask(when, "DELETE", base+"/node/pg1/leaving", authorization)
			}
		}
		for _, args := range [][]string{{"-check"}, {"status"}, {"status", "-json"}, {"status", "-nagios"}, {"history"}, {"history", "-json"}, {"haproxy"}, {"leaving", "pg2"}, {"leaving", "pgX"}} {
			_, stdout, stderr := p.Command(t, args...)
			said[when+": "+strings.Join(args, " ")] = stdout + stderr
		}
	}
	collect("well")
	for i, wrong := range []string{
		frontend + ca.Pair("server") + "token-file = '" + bad["two"] + "'\n" + operator + rest,
		frontend + ca.Pair("server") + tokenFile + "[operator]\nlisten = '" + addr + "'\npassword-file = '" + bad["hash"] + "'\n" + rest,
		frontend + "certfile = '" + ca.File("server.crt") + "'\nkeyfile = '" + ca.File("other.key") + "'\n" + tokenFile + operator + rest,
		frontend + "certfile = '" + ca.File("server.crt") + "'\nkeyfile = '" + bad["key"] + "'\n" + tokenFile + operator + rest,
		frontend + "certfile = '" + ca.File("server.key") + "'\nkeyfile = '" + ca.File("server.crt") + "'\n" + tokenFile + operator + rest,
		frontend + "client-cafile = '" + ca.File("server.key") + "'\n" + ca.Pair("server") + rest,
		frontend + "token = 'canary-unknown'\npassword = 'canary-unknown'\n" + rest,
		text + "[[node]]\nname = 'pg3'\nurl = 'http://me:canary-url@pg3:8008'\n",
		text + "[[node]]\nname = 'pg3'\nurl = 'http://me:canary-url@@:x'\n",
		text + "[[node]]\nname = 'pg3'\nurl = http://me:canary-url@pg3\n",
		text + "[[node]]\nname = 'pg3'\nhost = 'http://me:canary-url@pg3'\n",
		text + "[[node]]\nname = 'pg3'\nurl = 'http://pg3'\npostgres = 'postgresql://me:canary-url@pg3/db'\n",
		text + "[discovery]\netcd = ['https://me:canary-url@etcd:2379']\n",
		text + "[discovery]\netcd = ['http://127.0.0.1:1']\nusername = 'me'\npassword-file = '" + bad["etcd"] + "'\n",
		text + "[discovery]\netcd = ['http://127.0.0.1:1']\npassword = 'canary-unknown'\n",
	} {
		p.Reload(t, wrong, harness.NotLoadedAnew)
		_, stdout, stderr := p.Command(t, "-check")
		said[fmt.Sprintf("-check of file %d", i)] = stdout + stderr
		if !strings.Contains(stderr, ": ") {
			t.Errorf("file %d is not refused: %s%s", i, stdout, stderr)
		}
		ask(fmt.Sprintf("after file %d", i), "GET", page, harness.BasicAuth("alice", "correct horse"))
	}
	if err := os.WriteFile(p.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	collect("after reloads that failed")
	p.Reload(t, text+"[discovery]\netcd = ['http://127.0.0.1:1']\nusername = 'me'\npassword-file = '"+harness.WriteFile(t, "etcd", "canary-etcd\n")+"'\n", harness.LoadedAnew)
	collect("with etcd's password")
	// A file that changes to something that is refused says so by itself.
	if err := os.WriteFile(token, []byte("canary-token-1\ncanary-token-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(strings.Contains(p.Log.String(), "have changed and cannot be used"), "that the log refuses the changed token")
	})
	ask("with a file that is refused", "GET", page, harness.BasicAuth("alice", "correct horse"))
	said["the log"] = p.Log.String()
	for what, out := range said {
		for which, secret := range secrets {
			if i := strings.Index(out, secret); i >= 0 {
				t.Errorf("%s has %s: %.300q", what, which, out[max(0, i-150):])
			}
		}
	}
	shown := said["with a file that is refused: GET "+page+" with Basic YW"]
	if !strings.Contains(shown, "token-file") || !strings.Contains(said["the log"], "http://...@pg3") {
		t.Error("what is wrong is not told")
	}
}
