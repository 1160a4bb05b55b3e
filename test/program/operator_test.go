package program

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// The operator's listener comes and goes by a reload, with a certificate and
// passwords of its own; the checks are never gone, and our own commands find it.
func TestOperator(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	self := &harness.Authority{Dir: t.TempDir()}
	cert, _ := self.Make(t, "self", harness.ServerCert())
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	trust := &tls.Config{RootCAs: roots}
	addr := harness.FreePort(t)
	port := harness.PortOf(harness.FreePort(t))
	passwords, token := harness.WriteFile(t, "passwords", "alice:"+harness.AliceHash+"\n"), harness.WriteFile(t, "token", "the-token\n")

	front := "[frontend]\nhost = '127.0.0.1'\nport = " + port + "\n"
	withToken := front + "token-file = '" + token + "'\n"
	operator := func(more string) string { return "[operator]\nlisten = '" + addr + "'\n" + more }
	guarded := operator(self.Pair("self") + "password-file = '" + passwords + "'\n")
	rest := harness.FastPolls + harness.NodesOf(sim, "")
	p := harness.Start(t, "c.toml", front+rest)
	reload := func(text string) {
		t.Helper()
		p.Reload(t, text, harness.LoadedAnew)
		p.Config = p.Path
		if got := p.Status(t, "/node/pg1/primary"); got != 200 {
			t.Errorf("GET /node/pg1/primary: %d", got)
		}
	}
	commands := func(want int, hint string) {
		t.Helper()
		for _, command := range []string{"status", "history"} {
			if code, _, stderr := p.Command(t, command); code != want || !strings.Contains(stderr, hint) {
				t.Errorf("%s: exit code %d, want %d with %q: %s", command, code, want, hint, stderr)
			}
		}
	}
	on := func(addr string, want map[string]int) {
		t.Helper()
		for path, status := range want {
			if resp, body := harness.Ask(t, nil, "GET", "http://"+addr+path); resp.StatusCode != status {
				t.Errorf("GET %s%s: %d, want %d: %s", addr, path, resp.StatusCode, status, body)
			}
		}
	}
	p.AwaitStatus(t, "/health?strict", 200)
	commands(0, "")

	reload(front + operator("") + rest)
	on(p.HTTP, map[string]int{"/": 404, "/health": 404, "/metrics": 404, "/node/pg1": 404, "/primary": 200, "/livez": 200})
	on(addr, map[string]int{"/": 200, "/health": 200, "/metrics": 200, "/node/pg1": 200, "/primary": 200})
	commands(0, "")

	reload(withToken + guarded + rest)
	for authorization, want := range map[string]int{
		"": 401, harness.BasicAuth("alice", "correct horse"): 200, harness.BasicAuth("alice", "x"): 401, harness.BasicAuth("bob", "correct horse"): 401, "Bearer the-token": 200, "Bearer x": 401,
	} {
		if got := harness.AskAs(t, trust, authorization, "GET", "https://"+addr+"/health"); got != want {
			t.Errorf("GET /health with %q: %d, want %d", authorization, got, want)
		}
	}
	commands(0, "")
	if code, _, stderr := p.Command(t, "leaving", "pg1", "-wait", "0s"); code != 0 {
		t.Errorf("leaving: exit code %d: %s", code, stderr)
	}
	if got := harness.AskAs(t, nil, "Bearer the-token", "DELETE", "http://"+p.HTTP+"/node/pg1/leaving"); got != 200 { // as Patroni's hooks do
		t.Errorf("DELETE /node/pg1/leaving on the frontend: %d", got)
	}

	reload(front + guarded + rest)
	commands(3, "want token-file in [frontend]")
	if n := len(p.Log.Lines("level", "warn", "message", "login on the operator's listener failed: wrong name, password or token")); n != 3 {
		t.Errorf("%d warnings of wrong passwords, want 3", n)
	}

	// Client certificates are asked for here and not there; TLS versions are the frontend's.
	reload(front + "tls-min-version = 'TLSv1.3'\n" + operator(self.Pair("self")+"client-cafile = '"+self.File("self.crt")+"'\n") + rest)
	shows := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{self.Load(t, "self")}}
	if resp, _ := harness.Ask(t, shows, "GET", "https://"+addr+"/health"); resp.StatusCode != 200 {
		t.Errorf("GET /health with a client certificate: %s", resp.Status)
	}
	old := shows.Clone()
	old.MaxVersion = tls.VersionTLS12
	for what, c := range map[string]*tls.Config{"without a certificate": trust, "by TLS 1.2": old} {
		if _, _, err := harness.TryToAsk(t.Context(), c, "GET", "https://"+addr+"/health"); err == nil {
			t.Errorf("GET /health %s is answered", what)
		}
	}
	commands(0, "")

	// A certificate that is renewed is in use soon, by itself.
	renewed, _ := self.Make(t, "self", harness.ServerCert())
	roots.AddCert(renewed)
	harness.Eventually(t, harness.Soon, func() error {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{self.Load(t, "self")}})
		if err != nil {
			return err
		}
		defer c.Close()
		return harness.Want(c.ConnectionState().PeerCertificates[0].Equal(renewed), "that the renewed certificate is shown")
	})
	reload(front + guarded + rest)

	// Passwords that cannot be read change nothing.
	bad := harness.WriteFile(t, "bad", "alice:canary\n")
	p.Reload(t, front+operator("password-file = '"+bad+"'\n")+rest, harness.NotLoadedAnew)
	if got := harness.AskAs(t, trust, harness.BasicAuth("alice", "correct horse"), "GET", "https://"+addr+"/health"); got != 200 {
		t.Errorf("GET /health after a reload that failed: %d", got)
	}

	reload(front + rest)
	on(p.HTTP, map[string]int{"/": 200, "/health": 200})
	harness.AwaitClosed(t, addr)
	commands(0, "")
	if log := fmt.Sprint(p.Log); strings.Contains(log, harness.AliceHash) || strings.Contains(log, "canary") || strings.Contains(log, "correct horse") || strings.Contains(log, "the-token") {
		t.Error("the log has a secret")
	}
}
