package patroni

import (
	"crypto/ecdsa"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// TestDiscoveryReasons asks a real etcd in ways that it refuses: each has a reason
// that an operator can mend.
func TestDiscoveryReasons(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testDiscoveryReasons)
}

func testDiscoveryReasons(t *testing.T, s lab.Suite) {
	l := harness.StartLab(t, lab.Options{Suite: s, Parts: []string{lab.ETCD}, ThreeETCD: true})
	sim := harness.NewSimulated(t, "pg1", "pg2")
	c, err := l.ETCDClient(t.Context(), lab.ETCDPatroni)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, n := range sim.Nodes() {
		if _, err := c.Put(t.Context(), "/service/main/members/"+n.Name(), fmt.Sprintf(`{"api_url":"%s/patroni"}`, n.URL())); err != nil {
			t.Fatal(err)
		}
	}
	text, err := l.Discovery()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(t *testing.T, text string) *harness.Program {
		t.Helper()
		p := harness.Begin(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+text)
		p.Log.Await(t, 1, "message", "supervising")
		p.HTTP = p.Log.Values("http", "message", "supervising")[0]
		return p
	}
	wrong := harness.WriteFile(t, "password", "wrong")
	var lines []string // without a client certificate
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "certfile") && !strings.HasPrefix(line, "keyfile") {
			lines = append(lines, line)
		}
	}
	for _, test := range []struct{ name, text, want string }{
		{"password", strings.Replace(text, filepath.Join(l.TLSDir(), "password"), wrong, 1), "authentication failed, invalid user ID or password"},
		{"no client certificate", strings.Join(lines, ""), "tls: "},
		{"other authority", strings.Replace(text, "ca.crt", "patroniglue.crt", 1), "certificate signed by unknown authority"},
		{"namespace that may not be read", text + "namespace = '/elsewhere/'\n", `reading \"/elsewhere/\": etcdserver: permission denied`},
		{"namespace of nobody", strings.Replace(text, `"patroniglue"`, `"root"`, 1) + "namespace = '/elsewhere/'\n", `no member is listed below \"/elsewhere/\"`},
		{"namespace of nobody", strings.Replace(text, `"patroniglue"`, `"root"`, 1) + "namespace = '/elsewhere/'\n", `keys elsewhere are [\"/service/main/members/pg1\" \"/service/main/members/pg2\"]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := begin(t, test.text)
			p.AwaitBody(t, "/health", test.want)
		})
	}

	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+text)
	t.Run("certificate of etcd expired", func(t *testing.T) { certificateExpired(t, l, p) })
}

// certificateExpired: who is connected stays so; who has to connect anew goes on
// with what is known, says why, and needs nobody's help when all is well again.
func certificateExpired(t *testing.T, l *lab.Lab, p *harness.Program) {
	files := []string{filepath.Join(l.TLSDir(), "etcd.crt"), filepath.Join(l.TLSDir(), "etcd.key")}
	var good [][]byte
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		good = append(good, content)
	}
	set := func(contents [][]byte) {
		t.Helper()
		for i, name := range files {
			if err := os.WriteFile(name, contents[i], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(l.TLSDir(), "ca.crt"), filepath.Join(l.TLSDir(), "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca := &harness.Authority{Dir: t.TempDir(), Cert: pair.Leaf, Key: pair.PrivateKey.(*ecdsa.PrivateKey)}
	expired := harness.ServerCert()
	expired.NotAfter = time.Now().Add(-time.Hour)
	ca.Make(t, "expired", expired)
	var bad [][]byte
	for _, name := range []string{"expired.crt", "expired.key"} {
		content, err := os.ReadFile(ca.File(name))
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, content)
	}

	p.AwaitBody(t, "/metrics", "patroniglue_discovery_up 1")
	var watched []float64
	harness.Eventually(t, harness.Soon, func() error {
		watched, err = l.ETCDMetric(t.Context(), "etcd_debugging_mvcc_watch_stream_total")
		if err != nil {
			t.Fatal(err)
		}
		return harness.Want(watched[0]+watched[1]+watched[2] == 1, "one watch stream (got %v)", watched)
	})
	member := lab.ETCD + strconv.Itoa(1+slices.Index(watched, 1))
	set(bad) // etcd reads it for each connection
	if err := l.CrashNode(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	p.AwaitBody(t, "/health", `"code":"discovery_stale"`, "certificate has expired")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg2/primary": 503} {
		if got := p.Status(t, path); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	set(good)
	if err := l.StartNode(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	p.AwaitBody(t, "/metrics", "patroniglue_discovery_up 1")
	if _, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health"); strings.Contains(body, "discovery_stale") {
		t.Errorf("all is well again, but: %s", body)
	}
}
