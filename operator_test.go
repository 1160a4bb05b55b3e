package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// askAs is ask with an Authorization header.
func askAs(t *testing.T, c *tls.Config, authorization, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func basicAuth(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// The operator's listener comes and goes by a reload, with a certificate and
// passwords of its own; the checks are never gone, and our own commands find it.
func TestOperator(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	self := &authority{dir: t.TempDir()}
	cert, _ := self.make(t, "self", serverCert())
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	trust := &tls.Config{RootCAs: roots}
	addr := freePort(t)
	port := portOf(freePort(t))
	passwords, token := writeFile(t, "passwords", "alice:"+aliceHash+"\n"), writeFile(t, "token", "the-token\n")

	front := "[frontend]\nhost = '127.0.0.1'\nport = " + port + "\n"
	withToken := front + "token-file = '" + token + "'\n"
	operator := func(more string) string { return "[operator]\nlisten = '" + addr + "'\n" + more }
	guarded := operator(self.pair("self") + "password-file = '" + passwords + "'\n")
	rest := fastPolls + nodesOf(sim, "")
	p := startProgram(t, "c.toml", front+rest)
	reload := func(text string) {
		t.Helper()
		p.reload(t, text, loadedAnew)
		p.config = p.path
		if got := p.status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
	}
	commands := func(want int, hint string) {
		t.Helper()
		for _, command := range []string{"status", "history"} {
			if code, _, stderr := p.run(t, command); code != want || !strings.Contains(stderr, hint) {
				t.Errorf("%s: exit code %d, want %d with %q: %s", command, code, want, hint, stderr)
			}
		}
	}
	on := func(addr string, want map[string]int) {
		t.Helper()
		for path, status := range want {
			if resp, body := ask(t, nil, "GET", "http://"+addr+path); resp.StatusCode != status {
				t.Errorf("GET %s%s: %d, want %d: %s", addr, path, resp.StatusCode, status, body)
			}
		}
	}
	until(t, "health is ok", func() bool { return p.status(t, "/health?strict") == 200 })
	commands(0, "")

	reload(front + operator("") + rest)
	on(p.http, map[string]int{"/": 404, "/health": 404, "/metrics": 404, "/node/pg1": 404, "/primary": 200, "/livez": 200})
	on(addr, map[string]int{"/": 200, "/health": 200, "/metrics": 200, "/node/pg1": 200, "/primary": 200})
	commands(0, "")

	reload(withToken + guarded + rest)
	for authorization, want := range map[string]int{
		"": 401, basicAuth("alice", "correct horse"): 200, basicAuth("alice", "x"): 401, basicAuth("bob", "correct horse"): 401, "Bearer the-token": 200, "Bearer x": 401,
	} {
		if got := askAs(t, trust, authorization, "GET", "https://"+addr+"/health"); got != want {
			t.Errorf("GET /health with %q: %d, want %d", authorization, got, want)
		}
	}
	commands(0, "")
	if code, _, stderr := p.run(t, "leaving", "pg1", "-wait", "0s"); code != 0 {
		t.Errorf("leaving: exit code %d: %s", code, stderr)
	}
	if got := askAs(t, nil, "Bearer the-token", "DELETE", "http://"+p.http+"/node/pg1/leaving"); got != 200 { // as Patroni's hooks do
		t.Errorf("DELETE /node/pg1/leaving on the frontend: %d", got)
	}

	reload(front + guarded + rest)
	commands(3, "want token-file in [frontend]")
	if n := len(p.log.lines("level", "warn", "message", "login on the operator's listener failed: wrong name, password or token")); n != 3 {
		t.Errorf("%d warnings of wrong passwords, want 3", n)
	}

	// Client certificates are asked for here and not there; TLS versions are the frontend's.
	reload(front + "tls-min-version = 'TLSv1.3'\n" + operator(self.pair("self")+"client-cafile = '"+self.file("self.crt")+"'\n") + rest)
	shows := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{self.load(t, "self")}}
	if resp, _ := ask(t, shows, "GET", "https://"+addr+"/health"); resp.StatusCode != 200 {
		t.Errorf("GET /health with a client certificate: %s", resp.Status)
	}
	old := shows.Clone()
	old.MaxVersion = tls.VersionTLS12
	for what, c := range map[string]*tls.Config{"without a certificate": trust, "by TLS 1.2": old} {
		if _, _, err := tryToAsk(t.Context(), c, "GET", "https://"+addr+"/health"); err == nil {
			t.Errorf("GET /health %s is answered", what)
		}
	}
	commands(0, "")

	// A certificate that is renewed is in use soon, by itself.
	renewed, _ := self.make(t, "self", serverCert())
	roots.AddCert(renewed)
	until(t, "the renewed certificate is shown", func() bool {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{self.load(t, "self")}})
		if err != nil {
			return false
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Equal(renewed)
	})
	reload(front + guarded + rest)

	// Passwords that cannot be read change nothing.
	bad := writeFile(t, "bad", "alice:canary\n")
	p.reload(t, front+operator("password-file = '"+bad+"'\n")+rest, notLoadedAnew)
	if got := askAs(t, trust, basicAuth("alice", "correct horse"), "GET", "https://"+addr+"/health"); got != 200 {
		t.Errorf("GET /health after a reload that failed: %d", got)
	}

	reload(front + rest)
	on(p.http, map[string]int{"/": 200, "/health": 200})
	until(t, "the operator's port is closed", func() bool { return refuses(addr) })
	commands(0, "")
	if log := fmt.Sprint(p.log); strings.Contains(log, aliceHash) || strings.Contains(log, "canary") || strings.Contains(log, "correct horse") || strings.Contains(log, "the-token") {
		t.Error("the log has a secret")
	}
}

// What docs/security.md shows can be used as it stands there.
func TestSecurityDocs(t *testing.T) {
	cert := newFiles(t)
	inDocs := files{
		"/etc/patroniglue/passwords": "alice:" + aliceHash, "/etc/patroniglue/server.crt": cert["a.crt"],
		"/run/credentials/patroniglue.service/server.key": cert["a.key"], "/run/credentials/patroniglue.service/token": "secret",
	}
	text := readFile(t, "docs/security.md")
	shown := 0
	for _, block := range regexp.MustCompile(`(?m)^    \[(?:frontend|operator)\]\n(?:    .+\n)+`).FindAllString(text, -1) {
		shown++
		if _, err := parseConfig([]byte(block+oneNode), inDocs.read); err != nil {
			t.Errorf("%s: %v", block, err)
		}
	}
	if shown != 2 {
		t.Errorf("docs/security.md shows %d configurations", shown)
	}
	for _, key := range regexp.MustCompile("`(patroniglue_\\w+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(readFile(t, "testdata/metrics.txt"), key[1]+"{") {
			t.Errorf("docs/security.md names %s, which there is not", key[1])
		}
	}
}
