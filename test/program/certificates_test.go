package program

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// A certificate that ends unseen takes every check over HTTPS with it, or every
// node: each of them is told of two weeks before, wherever an operator looks.
func TestCertificates(t *testing.T) {
	ca := harness.NewAuthority(t)
	make := func(name string, days int) time.Time {
		template := harness.ServerCert()
		template.NotAfter = time.Now().AddDate(0, 0, days)
		cert, _ := ca.Make(t, name, template)
		return cert.NotAfter
	}
	front, client, rest := make("front", 13), make("client", -1), make("rest", 10)
	sim := nodetest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Load(t, "rest")}}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	plain := nodetest.NewCluster("other", "pg3")
	t.Cleanup(plain.Close)
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+ca.Pair("front")+harness.FastPolls+
		harness.NodesOf(sim, "cafile = '"+ca.File("ca.crt")+"'\n"+ca.Pair("client"))+strings.Replace(harness.NodesOf(plain, ""), "'main'", "'other'", 1))
	trust := &tls.Config{RootCAs: ca.Pool()}

	var health httpapi.Health
	_, body := harness.Ask(t, trust, "GET", "https://"+p.HTTP+"/health")
	if err := json.Unmarshal([]byte(body), &health); err != nil {
		t.Fatal(err)
	}
	at := func(ends time.Time) string { return ends.UTC().Format("2006-01-02 15:04 UTC") }
	own := []cluster.Reason{
		{Code: "certificate_expiring", Level: cluster.Warning, Text: fmt.Sprintf("the certificate of [frontend] (%s) ends at %s", ca.File("front.crt"), at(front))},
		{Code: "certificate_expired", Level: cluster.Warning, Text: fmt.Sprintf("the certificate that is shown to nodes (%s) ended at %s", ca.File("client.crt"), at(client))},
	}
	theirs := []cluster.Reason{
		{Code: "certificate_expiring", Level: cluster.Warning, Node: "pg1", Text: "the certificate of its REST API ends at " + at(rest)},
		{Code: "certificate_expiring", Level: cluster.Warning, Node: "pg2", Text: "the certificate of its REST API ends at " + at(rest)},
	}
	if !slices.Equal(health.Supervisor.Reasons, own) || !slices.Equal(health.Clusters[0].Reasons, theirs) || len(health.Clusters[1].Reasons) != 0 || health.Level != cluster.Warning {
		t.Errorf("GET /health: %s\nwant %+v and %+v", body, own, theirs)
	}

	_, text := harness.Ask(t, trust, "GET", "https://"+p.HTTP+"/metrics")
	for series, ends := range map[string]time.Time{
		fmt.Sprintf(`certificate_expiry_timestamp_seconds{file=%q,use="frontend"}`, ca.File("front.crt")): front,
		fmt.Sprintf(`certificate_expiry_timestamp_seconds{file=%q,use="client"}`, ca.File("client.crt")):  client,
		`node_certificate_expiry_timestamp_seconds{cluster="main",node="pg1"}`:                            rest,
		`node_certificate_expiry_timestamp_seconds{cluster="main",node="pg2"}`:                            rest,
		`health_reason{cluster="main",code="certificate_expiring",node="pg1"}`:                            time.Unix(1, 0),
	} {
		var got float64
		if _, err := fmt.Sscan(harness.ValueOf(text, "patroniglue_"+series), &got); err != nil || int64(got) != ends.Unix() {
			t.Errorf("%s is %v (%v), want %d", series, got, err, ends.Unix())
		}
	}
	if strings.Contains(text, `node_certificate_expiry_timestamp_seconds{cluster="other"`) {
		t.Error("pg3, which is polled without TLS, has a certificate")
	}
	harness.LintMetrics(t, text)

	var state httpapi.NodeState
	_, body = harness.Ask(t, trust, "GET", "https://"+p.HTTP+"/node/pg2")
	if err := json.Unmarshal([]byte(body), &state); err != nil || state.Expires == nil || !state.Expires.Equal(rest) {
		t.Errorf("GET /node/pg2: %s, want certificate_ends %s", body, rest)
	}

	if got := p.Log.Values("reason", "message", "something is wrong with the supervisor itself"); !slices.Equal(got, []string{own[0].Text, own[1].Text}) {
		t.Errorf("logged at start: %q", got)
	}
	for flag, want := range map[string]string{
		"-watch=false": "This supervisor: warning\n  warning  certificate_expiring  " + own[0].Text + "\n",
		"-nagios":      "PATRONIGLUE WARNING - certificate_expired: " + own[1].Text + "; ",
		"-json":        `"text": "` + own[0].Text + `"`,
	} {
		var stdout bytes.Buffer
		if code := harness.Command(t.Context(), []string{"-config", p.Config, "status", flag}, &stdout, io.Discard); code != 1 || !strings.Contains(stdout.String(), want) {
			t.Errorf("status %s: exit code %d, want 1 and %q:\n%s", flag, code, want, &stdout)
		}
	}

	make("front", 90)
	const over, wrong = "no longer wrong with the supervisor itself", "something is wrong with the supervisor itself"
	harness.Eventually(t, harness.Soon, func() error {
		got := p.Log.Values("reason", "message", over, "level", "info")
		return harness.Want(slices.Equal(got, []string{own[0].Text}), "that only %q is resolved (got %q)", own[0].Text, got)
	})
	make("front", -1)
	expired := 0
	harness.Eventually(t, harness.Soon, func() error {
		expired = len(p.Log.Lines("message", wrong, "level", "error"))
		return harness.Want(expired > 0, "an error in the log that the certificate has expired")
	})
	time.Sleep(2 * harness.LooksEvery)
	if n := len(p.Log.Lines("message", wrong)); expired != 1 || n != 3 || len(p.Log.Lines("message", over)) != 1 {
		t.Errorf("what is wrong is logged %d times, of which %d at error; want 3 and 1:\n%s", n, expired, p.Log)
	}
}

// Certificates are renewed by programs that tell nobody, and that write one file
// after the other.
func TestCertificatesRenewed(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	self := &harness.Authority{Dir: t.TempDir()}
	self.Make(t, "self", harness.ServerCert())
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+self.Pair("self")+harness.FastPolls+harness.NodesOf(sim, ""))
	shown := func() *x509.Certificate {
		t.Helper()
		c, err := tls.Dial("tcp", p.HTTP, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	old := shown()
	kept, err := tls.Dial("tcp", p.HTTP, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	r := bufio.NewReader(kept)
	stillOpen := func() {
		t.Helper()
		if _, err := io.WriteString(kept, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatalf("the open connection: %v", err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("the open connection: %v", err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	stillOpen()

	other := &harness.Authority{Dir: t.TempDir()}
	renewed, _ := other.Make(t, "self", harness.ServerCert())
	replace := func(name string) {
		t.Helper()
		if err := os.WriteFile(self.File(name), []byte(harness.ReadFile(t, other.File(name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const unusable = "files that the configuration names have changed and cannot be used: all stays as it was"
	replace("self.crt") // its key has not come yet
	p.Log.Await(t, 1, "message", unusable, "level", "error")
	if !shown().Equal(old) {
		t.Error("half a pair is shown")
	}
	_, body := harness.Ask(t, &tls.Config{InsecureSkipVerify: true}, "GET", "https://"+p.HTTP+"/health")
	if !strings.Contains(body, "reload_failed") || !strings.Contains(body, "frontend.certfile: want a certificate and its key in PEM") {
		t.Errorf("/health: %s", body)
	}
	time.Sleep(2 * harness.LooksEvery)
	if n := len(p.Log.Lines("message", unusable)); n != 1 {
		t.Errorf("half a pair is logged %d times, want once", n)
	}
	replace("self.key")
	harness.Eventually(t, harness.Soon, func() error { return harness.Want(shown().Equal(renewed), "that the renewed certificate is shown") })
	stillOpen()
	if _, body := harness.Ask(t, &tls.Config{InsecureSkipVerify: true}, "GET", "https://"+p.HTTP+"/health"); strings.Contains(body, "reload_failed") {
		t.Errorf("/health: %s", body)
	}
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(len(p.Log.Lines("message", "no longer wrong with the supervisor itself")) == 1, "that the log says that half a pair is over, once")
	})
	if got := p.Log.Values("changed", "message", harness.LoadedAnew); len(got) != 1 || !strings.Contains(got[0], "self.crt") || strings.Contains(got[0], "frontend") {
		t.Errorf("changed: %q, want the two files", got)
	}

	again, _ := other.Make(t, "self", harness.ServerCert())
	replace("self.crt")
	replace("self.key")
	p.Reload(t, harness.ReadFile(t, p.Path), harness.LoadedAnew) // at once
	if !shown().Equal(again) {
		t.Error("after SIGHUP the renewed certificate is not shown")
	}
	p.Reload(t, "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""), harness.LoadedAnew) // without TLS, on the same port
	if got := p.Status(t, "/node/pg1/primary"); got != 200 {
		t.Errorf("GET /node/pg1/primary: %d", got)
	}
	stillOpen()
}

// The authority of the nodes' certificates is another.
func TestAuthorityRenewed(t *testing.T) {
	ca, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	sim := nodetest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Load(t, "server")}}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	file := harness.WriteFile(t, "ca.crt", harness.ReadFile(t, stranger.File("ca.crt")))
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+"cafile = '"+file+"'\n"+harness.NodesOf(sim, ""))
	if got := p.Status(t, "/node/pg1/primary"); got != 503 {
		t.Fatalf("GET /node/pg1/primary: %d, want 503: its authority is a stranger", got)
	}
	if err := os.WriteFile(file, []byte(harness.ReadFile(t, ca.File("ca.crt"))), 0o600); err != nil {
		t.Fatal(err)
	}
	p.AwaitStatus(t, "/node/pg1/primary", 200)
}
