package discovery

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patroniglue/discovery/discoverytest"
)

// watching is a watcher that runs, with the scopes whose leader moved.
type watching struct {
	*Watcher
	mu      sync.Mutex
	moves   []string
	leaders []string // to whom
}

func start(t *testing.T, s *Settings) *watching {
	t.Helper()
	w := &watching{}
	w.Watcher = NewWatcher(func(scope, leader string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.moves = append(w.moves, scope)
		w.leaders = append(w.leaders, leader)
	})
	w.Apply(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run has not ended")
		}
	})
	return w
}

func (w *watching) moved() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.moves)
}

// lists returns the listed members as scope/name@host:port.
func (w *watching) lists() string {
	s := w.Snapshot()
	if s == nil {
		return "nothing read"
	}
	var all []string
	for _, m := range s.Members {
		at := m.Problem
		if m.API != nil {
			at = m.API.Host
		}
		all = append(all, m.Scope+"/"+m.Name+"@"+at)
	}
	return strings.Join(all, " ")
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

func (w *watching) untilLists(t *testing.T, want string) {
	t.Helper()
	until(t, "etcd is read", func() bool { return w.Snapshot() != nil })
	defer func() {
		if t.Failed() {
			s := w.Status()
			t.Logf("listed: %q, status %+v", w.lists(), s)
		}
	}()
	until(t, want, func() bool { return w.lists() == want })
}

func settings(e *discoverytest.Etcd) *Settings {
	return &Settings{Endpoints: []string{e.URL}, Namespaces: []string{"/service/"}}
}

// Members that appear, move or are unlisted are noticed without reading all again.
func TestWatch(t *testing.T) {
	e := discoverytest.Start(t)
	e.Announce("main", "pg1", "http://10.0.0.1:8008")
	e.Put("/service/main/leader", "pg1")
	e.Put("/elsewhere/other/members/pg1", discoverytest.Document("http://10.0.0.9:8008"))
	w := start(t, settings(e))
	w.untilLists(t, "main/pg1@10.0.0.1:8008")
	until(t, "it is live", func() bool { s := w.Status(); return s.Live })
	e.Announce("main", "pg2", "http://10.0.0.2:8008")
	w.untilLists(t, "main/pg1@10.0.0.1:8008 main/pg2@10.0.0.2:8008")
	e.Announce("main", "pg1", "http://10.0.0.3:8009")
	w.untilLists(t, "main/pg1@10.0.0.3:8009 main/pg2@10.0.0.2:8008")
	e.Put("/service/main/leader", "pg1") // the same
	e.Put("/service/main/status", "{}")
	e.Delete("/service/main/members/pg1")
	w.untilLists(t, "main/pg2@10.0.0.2:8008")
	if got := w.moved(); len(got) > 0 {
		t.Errorf("moved: %q, and no leader did", got)
	}
	e.Put("/service/main/leader", "pg2")
	e.Delete("/service/main/leader")
	until(t, "the leader moved twice", func() bool { return len(w.moved()) == 2 })
	w.mu.Lock()
	if want := []string{"pg2", ""}; !slices.Equal(w.leaders, want) {
		t.Errorf("it moved to %q, want %q", w.leaders, want)
	}
	w.mu.Unlock()
	if s := w.Status(); s.Restarts != 0 || !s.Live || s.Err != nil {
		t.Errorf("status %+v, want that of a first session", s)
	}
}

// Several namespaces are read at one revision and watched on one stream.
func TestNamespaces(t *testing.T) {
	e := discoverytest.Start(t)
	put := func(key string, n int) { e.Put(key, discoverytest.Document(fmt.Sprintf("http://10.0.0.%d:8008", n))) }
	put("/a/main/members/pg1", 1)
	put("/b/main/members/pg9", 9)
	put("/b/other/members/pg1", 2)
	s := settings(e)
	s.Namespaces = []string{"/a/", "/b/"}
	w := start(t, s)
	w.untilLists(t, "main/pg1@10.0.0.1:8008 other/pg1@10.0.0.2:8008")
	for n := range 20 {
		put("/a/main/members/pg1", 100+n)
		put("/b/other/members/pg1", 100+n)
		put("/a/main/status", n)
	}
	w.untilLists(t, "main/pg1@10.0.0.119:8008 other/pg1@10.0.0.119:8008")
	if got := w.Snapshot().Problems; len(got) != 1 || !strings.HasPrefix(got[0], `scope "main" is below "/a/" and below "/b/"`) {
		t.Errorf("problems: %q", got)
	}
	e.Delete("/a/main/members/pg1")
	w.untilLists(t, "main/pg9@10.0.0.9:8008 other/pg1@10.0.0.119:8008")
	e.Put("/b/other/leader", "pg1")
	until(t, "a leader moved", func() bool { return slices.Equal(w.moved(), []string{"other"}) })
	if s := w.Status(); s.Restarts != 0 || !s.Live {
		t.Errorf("status %+v, want that of a first session", s)
	}
	resp, err := http.Get(e.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "\netcd_debugging_mvcc_watch_stream_total 1\n") {
		t.Errorf("etcd does not say that there is one watch stream: %v", err)
	}
}

// Documents that are rewritten, and keys of no interest, do not publish a snapshot.
func TestNoNews(t *testing.T) {
	e := discoverytest.Start(t)
	e.Announce("main", "pg1", "http://10.0.0.1:8008")
	w := start(t, settings(e))
	w.untilLists(t, "main/pg1@10.0.0.1:8008")
	before := w.Snapshot()
	for range 100 {
		e.Announce("main", "pg1", "http://10.0.0.1:8008")
		e.Put("/service/main/status", `{"optime":1}`)
	}
	e.Put("/service/main/leader", "pg1")
	until(t, "all was seen", func() bool { return len(w.moved()) == 1 })
	time.Sleep(4 * coalesce)
	if w.Snapshot() != before {
		t.Error("another snapshot, though no member was listed, moved or unlisted")
	}
}

// What happens while etcd is away is seen when it is back, whatever its revision
// is then.
func TestAway(t *testing.T) {
	for _, tc := range []struct {
		name string
		away func(*discoverytest.Etcd)
	}{
		{"restarted", func(e *discoverytest.Etcd) { e.Stop(); time.Sleep(300 * time.Millisecond); e.Run() }},
		{"wiped", (*discoverytest.Etcd).Wipe},
		{"frozen", func(e *discoverytest.Etcd) { e.Freeze(); time.Sleep(StaleAfter + 2*time.Second); e.Thaw() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := discoverytest.Start(t)
			for n := range 50 { // so that the revision of a wiped one is far behind
				e.Announce("main", fmt.Sprint("old", n), fmt.Sprintf("http://10.0.0.%d:8008", n))
			}
			e.DeleteAll("/service/")
			e.Announce("main", "pg1", "http://10.0.0.1:8008")
			e.Put("/service/main/leader", "pg1")
			w := start(t, settings(e))
			w.untilLists(t, "main/pg1@10.0.0.1:8008")
			until(t, "it is live", func() bool { s := w.Status(); return s.Live })
			tc.away(e)
			e.Announce("main", "pg1", "http://10.0.0.1:8009")
			e.Announce("main", "pg2", "http://10.0.0.2:8008")
			e.Put("/service/main/leader", "pg2")
			w.untilLists(t, "main/pg1@10.0.0.1:8009 main/pg2@10.0.0.2:8008")
			until(t, "the leader moved", func() bool { return slices.Contains(w.moved(), "main") })
			until(t, "it is live", func() bool { s := w.Status(); return s.Live })
		})
	}
}

// A frozen etcd closes no connection: its silence is noticed and reported, and the listed
// members stay.
func TestSilence(t *testing.T) {
	t.Parallel()
	e := discoverytest.Start(t)
	e.Announce("main", "pg1", "http://10.0.0.1:8008")
	w := start(t, settings(e))
	w.untilLists(t, "main/pg1@10.0.0.1:8008")
	e.Freeze()
	defer e.Thaw()
	until(t, "its silence is noticed", func() bool {
		s := w.Status()
		_, stale := s.Stale(time.Now())
		return stale && s.Err != nil
	})
	if got := w.lists(); got != "main/pg1@10.0.0.1:8008" {
		t.Errorf("listed: %q", got)
	}
}

// An endpoint that refuses and one that hangs do not keep the watcher from the third.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	e, hangs := discoverytest.Start(t), discoverytest.Start(t)
	e.Announce("main", "pg1", "http://10.0.0.1:8008")
	hangs.Freeze()
	defer hangs.Thaw()
	s := settings(e)
	s.Endpoints = []string{"http://127.0.0.1:1", hangs.URL, e.URL}
	start(t, s).untilLists(t, "main/pg1@10.0.0.1:8008")
}

// However much is written to etcd, the usable members are found.
func TestHostile(t *testing.T) {
	t.Parallel()
	e := discoverytest.Start(t, "--max-request-bytes", "16777216", "--quota-backend-bytes", "4294967296", "--max-txn-ops", "2000")
	big := strings.Repeat("x", 10<<20)
	for n := range 8 { // a page of them is more than is taken at once
		e.Put(fmt.Sprintf("/service/big/members/pg%d", n), big)
	}
	e.Put("/service/big/history", big)
	for page := range 100 {
		var ops []clientv3.Op
		for n := range 1000 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/service/keys/members/%d %d", page, n), "x"))
		}
		if _, err := e.Client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	e.Announce("zz", "pg1", "http://10.0.0.1:8008")
	w := start(t, settings(e))
	has := func(part string) func() bool { return func() bool { return strings.Contains(w.lists(), part) } }
	until(t, "the one that is right", has("zz/pg1@10.0.0.1:8008"))
	until(t, "one that is too large", has("big/pg7@its document has 10485760 bytes, want at most 65536"))
	until(t, "it is live", func() bool { s := w.Status(); return s.Live })
	e.Put("/service/big/members/pg8", big)
	until(t, "one that became too large", has("big/pg8@its document has 10485760 bytes, want at most 65536"))
	if got := len(w.Snapshot().Problems); got != maxProblems {
		t.Errorf("%d problems, want %d", got, maxProblems)
	}
}

// Changes may be compacted away while the watch is interrupted, by an administrator or by
// etcd itself.
func TestCompacted(t *testing.T) {
	e := discoverytest.Start(t)
	e.Announce("main", "pg1", "http://10.0.0.1:8008")
	w := NewWatcher(func(string, string) {})
	s := &session{w: w, settings: settings(e), endpoint: e.URL}
	if err := s.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.client.Close()
	if err := s.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		e.Announce("main", "pg1", "http://10.0.0.1:8008")
	}
	resp, err := e.Client.Get(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
	if err := s.watch(t.Context()); err == nil || !strings.Contains(err.Error(), "is compacted, up to ") {
		t.Errorf("%v, want that it is compacted", err)
	}
}

// A role that may read the namespace suffices. Without one, the error says what is needed.
func TestAuthentication(t *testing.T) {
	e := discoverytest.Start(t)
	e.Announce("main", "pg1", "http://10.0.0.1:8008")
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(e.Client.RoleAdd(ctx, "read"))
	must(e.Client.RoleGrantPermission(ctx, "read", "/service/", clientv3.GetPrefixRangeEnd("/service/"), clientv3.PermissionType(clientv3.PermRead)))
	must(e.Client.UserAdd(ctx, "patroniglue", "secret"))
	must(e.Client.UserGrantRole(ctx, "patroniglue", "read"))
	must(e.Client.UserAdd(ctx, "root", "root"))
	must(e.Client.UserGrantRole(ctx, "root", "root"))
	must(e.Client.AuthEnable(ctx))
	for _, tt := range []struct{ user, password, namespace, want string }{
		{"", "", "/service/", "user name is empty: it wants a username and a password-file"},
		{"patroniglue", "wrong", "/service/", "authentication failed, invalid user ID or password"},
		{"patroniglue", "secret", "/other/", `reading "/other/": etcdserver: permission denied: want a user whose role may read the namespace`},
		{"patroniglue", "secret", "/service/", ""},
	} {
		s := settings(e)
		s.Username, s.Password, s.Namespaces = tt.user, tt.password, []string{tt.namespace}
		w := start(t, s)
		if tt.want == "" {
			w.untilLists(t, "main/pg1@10.0.0.1:8008")
			until(t, "it is live", func() bool { s := w.Status(); return s.Live })
			continue
		}
		until(t, "there is an error", func() bool { return w.Status().Err != nil })
		if got := w.Status().Err.Error(); !strings.Contains(got, tt.want) || strings.Contains(got, "secret") {
			t.Errorf("%s: %q, want %q", tt.user, got, tt.want)
		}
	}
}

// certificate makes one for 127.0.0.1, and gives its files.
func certificate(t *testing.T, ends time.Time) (certfile, keyfile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: ends.Add(-48 * time.Hour), NotAfter: ends, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certfile, keyfile, pool = filepath.Join(dir, "crt"), filepath.Join(dir, "key"), x509.NewCertPool()
	pem1, pem2 := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(os.WriteFile(certfile, pem1, 0o600), os.WriteFile(keyfile, pem2, 0o600)); err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(pem1)
	return certfile, keyfile, pool
}

// The error says that a certificate has an unknown authority or has expired.
func TestTLS(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ends    time.Duration
		trusted bool
		want    string
	}{
		{"right", 24 * time.Hour, true, ""},
		{"of another authority", 24 * time.Hour, false, "certificate signed by unknown authority"},
		{"over", -time.Hour, true, "certificate has expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			certfile, keyfile, pool := certificate(t, time.Now().Add(tt.ends))
			e := discoverytest.Start(t, "--cert-file", certfile, "--key-file", keyfile)
			e.Announce("main", "pg1", "http://10.0.0.1:8008")
			s := settings(e)
			s.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
			if tt.trusted {
				s.TLS.RootCAs = pool
			}
			w := start(t, s)
			if tt.want == "" {
				w.untilLists(t, "main/pg1@10.0.0.1:8008")
				return
			}
			until(t, "there is an error", func() bool { return w.Status().Err != nil })
			if got := w.Status().Err.Error(); !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Other settings apply at once; the listed members stay meanwhile.
func TestApply(t *testing.T) {
	e := discoverytest.Start(t)
	e.Announce("a", "pg1", "http://10.0.0.1:8008")
	e.Announce("b", "pg1", "http://10.0.0.2:8008")
	w := start(t, settings(e))
	w.untilLists(t, "a/pg1@10.0.0.1:8008 b/pg1@10.0.0.2:8008")
	s := settings(e)
	s.Endpoints = []string{"http://127.0.0.1:1"}
	w.Apply(s)
	until(t, "there is an error", func() bool { s := w.Status(); return s.Err != nil && !s.Live })
	if got, want := w.Status().Err.Error(), "etcd at http://127.0.0.1:1: reading \"/service/\": "; !strings.HasPrefix(got, want) || !strings.Contains(got, "connection refused") {
		t.Errorf("error %q, want %q and what refused", got, want)
	}
	s = settings(e)
	s.Endpoints = []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}
	w.Apply(s)
	until(t, "both endpoints have their error", func() bool {
		s := w.Status()
		return s.Err != nil && strings.Contains(s.Err.Error(), "etcd at http://127.0.0.1:1: ") && strings.Contains(s.Err.Error(), "; etcd at http://127.0.0.1:2: ")
	})
	if got := w.lists(); got != "a/pg1@10.0.0.1:8008 b/pg1@10.0.0.2:8008" {
		t.Errorf("listed: %q", got)
	}
	s = settings(e)
	s.Scopes = []string{"b"}
	w.Apply(s)
	w.untilLists(t, "b/pg1@10.0.0.2:8008")
	w.Apply(nil)
	if w.Snapshot() != nil {
		t.Error("a snapshot of nothing")
	}
}
