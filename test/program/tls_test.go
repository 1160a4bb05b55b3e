package program

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

func TestFrontendTLS(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	self := &harness.Authority{Dir: t.TempDir()}
	cert, _ := self.Make(t, "self", harness.ServerCert())
	p := harness.Start(t, "c.toml", "[frontend]\ntls-min-version = 'TLSv1.3'\n"+harness.AnyPort+self.Pair("self")+harness.FastPolls+harness.NodeTables(sim, ""))

	roots := x509.NewCertPool()
	roots.AddCert(cert)
	if resp, body := harness.Ask(t, &tls.Config{RootCAs: roots}, "GET", "https://"+p.HTTP+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("GET /node/pg1/primary: %s: %s", resp.Status, body)
	}
	if _, _, err := harness.TryToAsk(t.Context(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}, "GET", "https://"+p.HTTP+"/livez"); err == nil {
		t.Error("TLS 1.2 is taken, though tls-min-version is TLSv1.3")
	}
	harness.Eventually(t, harness.Soon, func() error {
		code, _, stderr := p.Command(t, "status")
		return harness.Want(code == 0, "exit code 0 of status (got %d, %s)", code, stderr)
	})
	if n := len(p.Log.Lines("level", "info")); n > 20 {
		t.Errorf("%d lines at info", n)
	}

	// The file has a renewed certificate, which the daemon has not loaded.
	self.Make(t, "self", harness.ServerCert())
	code, _, stderr := p.Command(t, "status")
	if code != 3 || !strings.HasSuffix(stderr, "the certificate there is not the one in "+self.File("self.crt")+"\n") {
		t.Errorf("status with another certificate: exit code %d, %s", code, stderr)
	}
}

func TestFrontendClientCertificates(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	ca, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	ca.Make(t, "client", harness.ClientCert())
	stranger.Make(t, "client", harness.ClientCert())
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+ca.Pair("server")+"client-cafile = '"+ca.File("ca.crt")+"'\n"+harness.FastPolls+harness.NodeTables(sim, ""))
	url := "https://" + p.HTTP + "/node/pg1/primary"

	client := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Load(t, "client")}}
	if resp, body := harness.Ask(t, client, "GET", url); resp.StatusCode != 200 {
		t.Errorf("with a certificate: %s: %s", resp.Status, body)
	}
	for name, certs := range map[string][]tls.Certificate{"no": nil, "a stranger's": {stranger.Load(t, "client")}} {
		if resp, body, err := harness.TryToAsk(t.Context(), &tls.Config{RootCAs: ca.Pool(), Certificates: certs}, "GET", url); err == nil {
			t.Errorf("with %s certificate: %s: %s, want an error", name, resp.Status, body)
		}
	}
	harness.Eventually(t, harness.Soon, func() error {
		code, _, stderr := p.Command(t, "status")
		return harness.Want(code == 0, "exit code 0 of status (got %d, %s)", code, stderr)
	})
}

func TestBackendTLS(t *testing.T) {
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	ca.Make(t, "client", harness.ClientCert())
	sim := nodetest.Options{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Load(t, "server")}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	cafile := "cafile = '" + ca.File("ca.crt") + "'\n"
	tests := []struct {
		name, backend string
		want          int
		wantReason    string
	}{
		{"CA and certificate", cafile + ca.Pair("client"), 200, ""},
		{"any server and a certificate", "insecure = true\n" + ca.Pair("client"), 200, ""},
		{"no certificate", cafile, 503, "certificate required"},
		{"no CA", ca.Pair("client"), 503, "unknown authority"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+test.backend+harness.NodeTables(sim, ""))
			resp, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg1/primary")
			if resp.StatusCode != test.want || !strings.Contains(body, test.wantReason) {
				t.Errorf("GET /node/pg1/primary: %s: %s, want %d and %q", resp.Status, body, test.want, test.wantReason)
			}
		})
	}
}

// Patroni announces IP addresses, and many certificates have names only.
func TestBackendServerName(t *testing.T) {
	ca, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	ca.Make(t, "server", &x509.Certificate{DNSNames: []string{"patroni.example"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	sim := nodetest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Load(t, "server")}}}.NewCluster("main", "pg1", "pg2")
	t.Cleanup(sim.Close)
	cafile := "cafile = '" + ca.File("ca.crt") + "'\n"
	for _, test := range []struct {
		name, backend, node string
		want                int
		wantReason          string
	}{
		{"the address", cafile, "", 503, `certificate is valid for patroni.example, not 127.0.0.1: want server-name = \"patroni.example\", or verify = \"ca\"`},
		{"its name", cafile + "server-name = 'patroni.example'\n", "", 200, ""},
		{"its name, of the node", cafile, "server-name = 'patroni.example'\n", 200, ""},
		{"any name", cafile + "verify = 'ca'\n", "", 200, ""},
		{"any name, of another authority", "cafile = '" + stranger.File("ca.crt") + "'\nverify = 'ca'\n", "", 503, "unknown authority"},
		{"anything", "verify = 'none'\n", "", 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+test.backend+harness.NodeTables(sim, test.node))
			resp, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg1/primary")
			if resp.StatusCode != test.want || !strings.Contains(body, test.wantReason) {
				t.Errorf("%s: %s, want %d and %q", resp.Status, body, test.want, test.wantReason)
			}
		})
	}
}
