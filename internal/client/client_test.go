package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/config"
	"patroniglue/test/harness"
)

// configFor is a configuration whose daemon would be the server.
func configFor(t *testing.T, s *httptest.Server) *config.Config {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(u.Host)
	cfg := config.Default()
	cfg.Frontend.Host, cfg.Frontend.Port, cfg.Frontend.Token = addr.Addr().String(), int(addr.Port()), "secret"
	cfg.Nodes = []config.Node{{Name: "pg1", Cluster: "main"}, {Name: "pg2", Cluster: "main"}, {Name: "pg1", Cluster: "west"}}
	return cfg
}

func open(t *testing.T, cfg *config.Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// daemon answers as a patroniglue does, and records what it was asked.
type daemon struct{ asked []string }

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.asked = append(d.asked, fmt.Sprintf("%s %s %q", r.Method, r.URL, r.Header.Get("Authorization")))
	if r.URL.Path == "/health" {
		w.WriteHeader(http.StatusServiceUnavailable) // something is critical
	}
	json.NewEncoder(w).Encode(map[string]any{
		"/health":                         httpapi.Health{Level: cluster.Critical, Clusters: []httpapi.ClusterHealth{{Cluster: "main"}, {Cluster: "no/name"}}},
		"/history":                        cluster.History{Changes: []cluster.Change{{ID: 7}}},
		"/cluster/main/liveness":          map[string]any{"reasons": map[string]string{"pg1": "", "pg9": "", "no/name": ""}},
		"/cluster/main/node/pg1":          httpapi.NodeState{Node: "pg1", Cluster: "main"},
		"/cluster/main/node/pg2":          httpapi.NodeState{Node: "pg2", Cluster: "main", Error: "the poll's, not this answer's"},
		"/cluster/main/node/pg9":          httpapi.NodeState{Node: "pg9", Cluster: "main"},
		"/cluster/west/node/pg1":          httpapi.NodeState{Node: "pg1", Cluster: "west"},
		"/node/pg1/leaving":               httpapi.Leaving{Node: "pg1", Leaving: r.Method == http.MethodPost},
		"/cluster/ma/in/node/pg1/leaving": httpapi.Leaving{Node: "pg1"},
	}[r.URL.Path])
}

// What is asked, and which questions the token goes with.
func TestQuestions(t *testing.T) {
	status := func(only string, want ...string) func(context.Context, *Client) error {
		return func(ctx context.Context, c *Client) error {
			s, err := c.Status(ctx, only)
			var got []string
			for _, n := range s.Nodes {
				got = append(got, n.Cluster+"/"+n.Node)
			}
			if diff := cmp.Diff(want, got); err == nil && diff != "" || s.Health.Level != cluster.Critical {
				return fmt.Errorf("level %s, nodes (-want +got):\n%s", s.Health.Level, diff)
			}
			return err
		}
	}
	operator := func(c *config.Config) {
		c.Operator.Listen = netip.AddrPortFrom(netip.MustParseAddr(c.Frontend.Host), uint16(c.Frontend.Port)).String()
		c.Frontend.Port = 1
	}
	tests := []struct {
		name string
		edit func(*config.Config)
		ask  func(context.Context, *Client) error
		want []string
	}{
		{"status", nil, status("", "main/pg1", "main/pg2", "west/pg1"), []string{
			`GET /health ""`, `GET /cluster/main/node/pg1 ""`, `GET /cluster/main/node/pg2 ""`, `GET /cluster/west/node/pg1 ""`}},
		{"status of one cluster", nil, status("west", "west/pg1"), []string{`GET /health?cluster=west ""`, `GET /cluster/west/node/pg1 ""`}},
		{"status with discovery", func(c *config.Config) { c.Discovery.Etcd = []string{"http://etcd"} }, status("main", "main/pg1", "main/pg2", "main/pg9"), []string{
			`GET /health?cluster=main ""`, `GET /cluster/main/liveness ""`, `GET /cluster/main/node/pg1 ""`, `GET /cluster/main/node/pg2 ""`, `GET /cluster/main/node/pg9 ""`}},
		{"status on the operator's listener", operator, status("west", "west/pg1"), []string{`GET /health?cluster=west "Bearer secret"`, `GET /cluster/west/node/pg1 "Bearer secret"`}},
		{"history", nil, func(ctx context.Context, c *Client) error {
			h, err := c.History(ctx, HistoryQuery{Since: "2026-01-02T15:04:05+01:00", Node: "pg1", Cluster: "main", Limit: 5})
			if err == nil && len(h.Changes) != 1 {
				return fmt.Errorf("%d changes", len(h.Changes))
			}
			return err
		}, []string{`GET /history?cluster=main&limit=5&node=pg1&since=2026-01-02T15%3A04%3A05%2B01%3A00 ""`}},
		{"leaving", nil, func(ctx context.Context, c *Client) error {
			l, err := c.AnnounceLeaving(ctx, "", "pg1", 10*time.Second)
			if !l.Leaving {
				return errors.Join(err, errors.New("it does not hold"))
			}
			return err
		}, []string{`POST /node/pg1/leaving?for=10s "Bearer secret"`}},
		{"leaving taken back", nil, func(ctx context.Context, c *Client) error {
			_, err := c.CancelLeaving(ctx, "ma/in", "pg1")
			return err
		}, []string{`DELETE /cluster/ma%2Fin/node/pg1/leaving "Bearer secret"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := new(daemon)
			s := httptest.NewServer(d)
			defer s.Close()
			cfg := configFor(t, s)
			if tt.edit != nil {
				tt.edit(cfg)
			}
			if err := tt.ask(t.Context(), open(t, cfg)); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, d.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// The kinds of errors, each with its text.
func TestErrors(t *testing.T) {
	const doubt = ": does another program answer there, or a patroniglue with another version or configuration?"
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	history := func(ctx context.Context, c *Client) error {
		_, err := c.History(ctx, HistoryQuery{Limit: 1})
		return err
	}
	leaving := func(ctx context.Context, c *Client) error {
		_, err := c.CancelLeaving(ctx, "", "pg1")
		return err
	}
	status := func(ctx context.Context, c *Client) error { _, err := c.Status(ctx, ""); return err }
	tests := []struct {
		name   string
		answer http.HandlerFunc
		ask    func(context.Context, *Client) error
		kind   any
		want   string // after the server's URL
	}{
		{"refused", says(404, `{"error":"unknown node"}`), history, new(*RefusedError), "/history?limit=1: status code 404: unknown node"},
		{"refused for a while", says(503, `{"error":"come back later"}`), status, new(*RefusedError), "/health: status code 503: come back later"},
		{"refused without the token", says(401, `{"error":"want the token"}`), leaving, new(*RefusedError), "/node/pg1/leaving: status code 401: want the token"},
		{"no JSON", says(200, "<html>"), history, new(*StrangerError), "/history?limit=1: status code 200" + doubt + " (invalid character '<' looking for beginning of value)"},
		{"another status code", says(500, "no"), status, new(*StrangerError), "/health: status code 500" + doubt},
		{"JSON of a Patroni", says(200, `{"state":"running"}`), status, new(*StrangerError), "/health: status code 200" + doubt},
		{"JSON of a Patroni that is no primary", says(503, `{"state":"running"}`), status, new(*StrangerError), "/health: status code 503" + doubt},
		{"a list, as Patroni's history", says(200, `[]`), history, new(*StrangerError), "/history?limit=1: status code 200" + doubt + " (json: cannot unmarshal array into Go value of type cluster.History)"},
		{"no history", says(200, `{}`), history, new(*StrangerError), "/history?limit=1: status code 200" + doubt},
		{"no announcement", says(200, `{}`), leaving, new(*StrangerError), "/node/pg1/leaving: status code 200" + doubt},
		{"another node", func(w http.ResponseWriter, r *http.Request) {
			says(200, `{"clusters":[{"cluster":"main"}],"node":"pg2"}`)(w, r)
		}, status, new(*StrangerError), "/cluster/main/node/pg1: status code 200" + doubt},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, leaving, new(*StrangerError), "/node/pg1/leaving: status code 307" + doubt},
		{"too much", func(w http.ResponseWriter, r *http.Request) {
			for range 9 {
				w.Write(make([]byte, 1<<20))
			}
		}, status, new(*StrangerError), "/health: status code 200" + doubt + " (more than 8 MiB)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/elsewhere" {
					t.Errorf("the redirect was followed, with Authorization %q", r.Header.Get("Authorization"))
				}
				asked++
				tt.answer(w, r)
			}))
			defer s.Close()
			err := tt.ask(t.Context(), open(t, configFor(t, s)))
			if got, want := fmt.Sprint(err), s.URL+tt.want; got != want || !errors.As(err, tt.kind) {
				t.Errorf("got %T %s\nwant %T %s", err, got, tt.kind, want)
			}
			if asked == 0 {
				t.Error("nobody was asked")
			}
		})
	}
}

func TestUnanswered(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			<-hang
		case "/history":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}
	}))
	defer s.Close()
	defer close(hang)
	cfg := configFor(t, s)
	c := open(t, cfg)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Status(ctx, "")
	if _, ok := errors.AsType[*UnansweredError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of one that hangs: got %T %v, want a deadline exceeded", err, err)
	}
	_, err = c.History(t.Context(), HistoryQuery{})
	if _, ok := errors.AsType[*UnansweredError](err); !ok || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of one that breaks off: got %T %v, want an unexpected EOF", err, err)
	}
	cfg.Frontend.Port = 1
	_, err = open(t, cfg).AnnounceLeaving(t.Context(), "", "pg1", time.Second)
	asking, isURL := errors.AsType[*url.Error](err)
	if _, ok := errors.AsType[*UnansweredError](err); !ok || !isURL || !strings.HasSuffix(asking.Error(), ": connection refused") {
		t.Errorf("of nobody: got %T %v, want connection refused", err, err)
	}
}

// A history has the more room the more changes are asked for.
func TestLongHistory(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"changes":[]}`)
		for range 9 {
			w.Write(bytes.Repeat([]byte(" "), 1<<20))
		}
	}))
	defer s.Close()
	c := open(t, configFor(t, s))
	if _, err := c.History(t.Context(), HistoryQuery{Limit: 10_000}); err != nil {
		t.Error(err)
	}
	if _, err := c.History(t.Context(), HistoryQuery{Limit: 1}); err == nil || !strings.HasSuffix(err.Error(), " (more than 8 MiB)") {
		t.Errorf("got %v, want more than 8 MiB", err)
	}
}

// What New and the token want of the configuration.
func TestConfiguration(t *testing.T) {
	cfg := config.Default()
	if _, err := open(t, cfg).CancelLeaving(t.Context(), "", "pg1"); fmt.Sprint(err) != "want token-file in [frontend] of the configuration" {
		t.Errorf("leaving without a token: got %v", err)
	}
	for host, want := range map[string]string{
		"": "http://localhost:8009", "*": "http://localhost:8009", "::": "http://localhost:8009", "0.0.0.0": "http://localhost:8009",
		"::1": "http://[::1]:8009", "10.0.0.5": "http://10.0.0.5:8009", "db.example": "http://db.example:8009",
	} {
		if cfg.Frontend.Host = host; open(t, cfg).base != want {
			t.Errorf("host %q: got %s, want %s", host, open(t, cfg).base, want)
		}
	}
	cfg.Operator.Listen, cfg.Operator.Users = ":8010", map[string]string{"dba": "hash"}
	if _, err := New(cfg); fmt.Sprint(err) != "[operator] wants a password, and the configuration has only its hash: want token-file in [frontend]" {
		t.Errorf("the operator's listener without a token: got %v", err)
	}
	if cfg.Frontend.Token = "secret"; open(t, cfg).base != "http://localhost:8010" {
		t.Errorf("the operator's listener: got %s", open(t, cfg).base)
	}
	cfg.Operator.Certfile, cfg.Operator.Keyfile = "absent.crt", "absent.key"
	if _, err := New(cfg); fmt.Sprint(err) != "reading the certificate of localhost:8010: open absent.crt: no such file or directory" {
		t.Errorf("without the certificate: got %v", err)
	}
}

// The one certificate that the configuration names is trusted, though it is signed by
// itself and for no name; another is not.
func TestPinnedCertificate(t *testing.T) {
	self := &harness.Authority{Dir: t.TempDir()}
	for _, name := range []string{"ours", "other"} {
		self.Make(t, name, &x509.Certificate{})
	}
	s := httptest.NewUnstartedServer(new(daemon))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{self.Load(t, "ours")}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	cfg := configFor(t, s)
	for _, tt := range []struct{ name, want string }{
		{"ours", "<nil>"},
		{"other", fmt.Sprintf("Get %q: the certificate there is not the one in %s", s.URL+"/history?limit=0", self.File("other.crt"))},
	} {
		cfg.Frontend.Certfile, cfg.Frontend.Keyfile = self.File(tt.name+".crt"), self.File(tt.name+".key")
		if _, err := open(t, cfg).History(t.Context(), HistoryQuery{}); fmt.Sprint(err) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}
