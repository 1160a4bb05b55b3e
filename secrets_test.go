package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// What is secret is in no output: neither while all is well, nor when a file is
// refused, which is when people copy what they see into a ticket.
func TestSecrets(t *testing.T) {
	ca := newAuthority(t)
	ca.make(t, "server", serverCert())
	ca.make(t, "client", clientCert())
	ca.make(t, "other", clientCert())
	secrets := map[string]string{
		"the token": "canary-token-1", "the password": "correct horse", "the hash": aliceHash[29:], "a second token": "canary-token-2", "a refused hash": "canary-hash",
		"a password in a URL": "canary-url", "a wrong password": "canary-wrong", "a key that there is not": "canary-unknown",
	}
	for _, name := range []string{"server", "client", "other"} {
		key := strings.Split(readFile(t, ca.file(name+".key")), "\n")
		secrets["the key of "+name] = key[1][30:] // its beginning is the same for all
	}
	bad := map[string]string{}
	for name, text := range map[string]string{"two": "canary-token-1 canary-token-2", "hash": "alice:canary-hash", "key": "canary-hash"} {
		bad[name] = writeFile(t, name, text)
	}

	token, passwords := writeFile(t, "token", "canary-token-1\n"), writeFile(t, "passwords", "alice:"+aliceHash+"\n")
	addr := freePort(t)
	frontend := "[frontend]\nhost = '127.0.0.1'\nport = " + portOf(freePort(t)) + "\n"
	tokenFile := "token-file = '" + token + "'\n"
	operator := "[operator]\nlisten = '" + addr + "'\npassword-file = '" + passwords + "'\n"
	sim := newSimulated(t, "pg1", "pg2")
	rest := "[agent]\nlisten = '127.0.0.1:0'\n" + fastPolls + ca.pair("client") + nodesOf(sim, "")
	text := frontend + ca.pair("server") + tokenFile + operator + rest
	p := startProgram(t, "c.toml", text, "-debug")
	p.config = p.path

	said := map[string]string{}
	trust := &tls.Config{RootCAs: ca.pool()}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	collect := func(when string) {
		t.Helper()
		for _, base := range []string{p.http, addr} {
			for _, path := range []string{"/", "/ui/main", "/health", "/metrics", "/history", "/cluster", "/patroni", "/node/pg1", "/node/pg1/primary", "/node/pg1/patroni", "/node/pg1/leaving", "/nonsense/x", "/node/pg1/primary?password=x"} {
				for _, authorization := range []string{"Bearer canary-token-1", "Bearer canary-token-2", basicAuth("alice", "correct horse"), basicAuth("alice", "canary-wrong"), basicAuth("canary-wrong", "x")} {
					method := "GET"
					if strings.HasSuffix(path, "/leaving") {
						method = "DELETE"
					}
					req, err := http.NewRequestWithContext(t.Context(), method, "https://"+base+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					if strings.HasSuffix(authorization, "x") && path != "/" {
						continue
					}
					if path != "/" && strings.HasPrefix(authorization, "Basic") && authorization != basicAuth("alice", "correct horse") {
						continue // each costs a tenth of a second
					}
					req.Header.Set("Authorization", authorization)
					resp, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil {
						t.Fatal(err)
					}
					said[when+method+" "+base+path+" "+authorization[:6]] += fmt.Sprint(resp.Header, string(body))
				}
			}
		}
		for _, args := range [][]string{{"-check"}, {"status"}, {"status", "-json"}, {"status", "-nagios"}, {"history"}, {"history", "-json"}, {"haproxy"}, {"leaving", "pg2"}, {"leaving", "pgX"}} {
			_, stdout, stderr := p.run(t, args...)
			said[when+strings.Join(args, " ")] = stdout + stderr
		}
	}
	collect("well: ")
	for i, wrong := range []string{
		frontend + ca.pair("server") + "token-file = '" + bad["two"] + "'\n" + operator + rest,
		frontend + ca.pair("server") + tokenFile + "[operator]\nlisten = '" + addr + "'\npassword-file = '" + bad["hash"] + "'\n" + rest,
		frontend + "certfile = '" + ca.file("server.crt") + "'\nkeyfile = '" + ca.file("other.key") + "'\n" + tokenFile + operator + rest,
		frontend + "certfile = '" + ca.file("server.crt") + "'\nkeyfile = '" + bad["key"] + "'\n" + tokenFile + operator + rest,
		frontend + "certfile = '" + ca.file("server.key") + "'\nkeyfile = '" + ca.file("server.crt") + "'\n" + tokenFile + operator + rest,
		frontend + "client-cafile = '" + ca.file("server.key") + "'\n" + ca.pair("server") + rest,
		frontend + "token = 'canary-unknown'\npassword = 'canary-unknown'\n" + rest,
		text + "[[node]]\nname = 'pg3'\nurl = 'http://me:canary-url@pg3:8008'\n",
		text + "[[node]]\nname = 'pg3'\nurl = 'http://me:canary-url@@:x'\n",
		text + "[[node]]\nname = 'pg3'\nurl = http://me:canary-url@pg3\n",
		text + "[[node]]\nname = 'pg3'\nhost = 'http://me:canary-url@pg3'\n",
		text + "[[node]]\nname = 'pg3'\nurl = 'http://pg3'\npostgres = 'postgresql://me:canary-url@pg3/db'\n",
	} {
		p.reload(t, wrong, notLoadedAnew)
		_, stdout, stderr := p.run(t, "-check")
		said[fmt.Sprintf("-check of file %d", i)] = stdout + stderr
		if !strings.Contains(stderr, ": ") {
			t.Errorf("file %d is not refused: %s%s", i, stdout, stderr)
		}
		said[fmt.Sprintf("page after file %d", i)] = pageAs(t, &client, "https://"+addr+"/ui/main")
	}
	if err := os.WriteFile(p.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	collect("after reloads that failed: ")
	// A file that changes to something that is refused says so by itself.
	if err := os.WriteFile(token, []byte("canary-token-1\ncanary-token-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the token that changed is refused", func() bool { return strings.Contains(p.log.String(), "have changed and cannot be used") })
	said["the page with a file that is refused"] = pageAs(t, &client, "https://"+addr+"/ui/main")
	said["the log"] = p.log.String()
	for what, out := range said {
		for which, secret := range secrets {
			if i := strings.Index(out, secret); i >= 0 {
				t.Errorf("%s has %s: %.300q", what, which, out[max(0, i-150):])
			}
		}
	}
	if !strings.Contains(said["the page with a file that is refused"], "token-file") || !bytes.Contains([]byte(said["the log"]), []byte(`http://...@pg3`)) {
		t.Error("what is wrong is not told")
	}
}

func pageAs(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", basicAuth("alice", "correct horse"))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}
