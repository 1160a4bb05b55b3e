package config

import (
	"crypto/tls"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patroniglue/test/harness"
)

func TestConfigDefaults(t *testing.T) {
	got, err := parseTOML([]byte(harness.OneNode), harness.Files{}.Read)
	if err != nil {
		t.Fatal(err)
	}
	poll := Backend{
		Scheme:          "http",
		Verify:          "full",
		Interval:        time.Second,
		PrimaryInterval: 250 * time.Millisecond,
		FastInterval:    100 * time.Millisecond,
		Timeout:         3 * time.Second,
		Fall:            3,
	}
	want := &Config{
		Frontend:  Frontend{Host: "localhost", Port: 8009, TLSMinVersion: tls.VersionTLS12, FastChecks: true},
		Backend:   poll,
		Cache:     Cache{TTL: 5 * time.Second},
		Checks:    Checks{Primary: "writable", LagHold: 10 * time.Second, SameTimeline: true},
		History:   History{Size: 10000},
		Limits:    Limits{HTTPConnections: 4096, AgentConnections: 4096, EventStreams: 256},
		Discovery: Discovery{Namespaces: []string{"/service/"}},
		Nodes: []Node{{
			Name: "pg1", Cluster: "default", Member: "pg1", URL: mustURL(t, "http://pg1:8008"), Backend: poll,
		}},
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestConfigEverything(t *testing.T) {
	const text = `
[frontend]
host = "::1"
port = 0
certfile = "a.crt"
keyfile = "a.key"
tls-min-version = "TLSv1.0"
tls-ciphers = ["TLS_RSA_WITH_RC4_128_SHA", "TLS_AES_128_GCM_SHA256", "TLS_FALLBACK_SCSV", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]
client-cafile = "b.crt"
token-file = "token"
fast-checks = false
allow = ["10.1.2.3/8", "192.0.2.1", "2001:db8::1"]

[operator]
listen = ":8010"
certfile = "b.crt"
keyfile = "b.key"
client-cafile = "a.crt"
password-file = "passwords"
allow = ["192.0.2.2"]

[backend]
scheme = "https"
cafile = "a.crt"
certfile = "a.crt"
keyfile = "a.key"
insecure = true
server-name = "patroni.example"
interval = 2
primary-interval = 0.5
fast-interval = "50ms"
timeout = "4s"
fall = 1

[cache]
ttl = 10

[checks]
primary = "lock"
max-lag = "1.5mb"
lag-hold = 0
same-timeline = false
streaming = true
min-replicas = 1
fallback = "primary"

[agent]
listen = ":5555"

[history]
size = 500
file = "history.jsonl"

[limits]
http-connections = 100
agent-connections = 200
event-streams = 3

[discovery]
etcd = ["https://10.0.0.1:2379", "http://etcd2:2379/"]
namespace = ["service", "//db/prod//"]
scopes = ["main", "other"]
username = "patroniglue"
password-file = "token"
cafile = "b.crt"
certfile = "b.crt"
keyfile = "b.key"
allow = ["10.1.2.3/8"]
api-port = 8009
file = "members.json"
rewrite = { "10.0.0.11:8008" = "192.0.2.1:18011", "pg.example" = "2001:db8::1" }

[[node]]
name = "pg1"
url = "https://pg1:8008/"
cluster = "main"
postgres = "pg1:5432"
agent = { primary = ":5551", replica = "127.0.0.1:5561", read-only = ":http" }

[[node]]
name = "pg1"
host = "2001:db8::2"
port = 8018
cluster = "other"
scheme = "http"
cafile = ""
certfile = "b.crt"
keyfile = "b.key"
insecure = false
server-name = ""
interval = "200ms"
timeout = "1s"
fall = 2

[[node]]
name = "above"
url = "http://site:8009/node/pg1/"
`
	got, err := parseTOML([]byte(text), harness.NewFiles(t).Read)
	if err != nil {
		t.Fatal(err)
	}
	poll := Backend{
		Scheme: "https", CAfile: "a.crt", Certfile: "a.crt", Keyfile: "a.key", ServerName: "patroni.example", Verify: "none",
		Interval: 2 * time.Second, PrimaryInterval: 500 * time.Millisecond, FastInterval: 50 * time.Millisecond,
		Timeout: 4 * time.Second, Fall: 1,
	}
	want := &Config{
		Frontend: Frontend{
			Host: "::1", Certfile: "a.crt", Keyfile: "a.key", TLSMinVersion: tls.VersionTLS10,
			TLSCiphers:   []uint16{tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
			ClientCAfile: "b.crt", TokenFile: "token", Token: "secret",
			Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")},
		},
		Operator: Operator{
			Listen: ":8010", Certfile: "b.crt", Keyfile: "b.key", ClientCAfile: "a.crt", PasswordFile: "passwords",
			Users: map[string]string{"alice": harness.AliceHash}, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")},
		},
		Backend: poll,
		Cache:   Cache{TTL: 10 * time.Second},
		Checks:  Checks{Primary: "lock", MaxLag: 3 << 19, Streaming: true, MinReplicas: 1, Fallback: "primary"},
		Agent:   Agent{Listen: ":5555"},
		History: History{Size: 500, File: "history.jsonl"},
		Limits:  Limits{HTTPConnections: 100, AgentConnections: 200, EventStreams: 3},
		Discovery: Discovery{
			Etcd: []string{"https://10.0.0.1:2379", "http://etcd2:2379"}, Namespaces: []string{"/service/", "/db/prod/"}, Scopes: []string{"main", "other"},
			Username: "patroniglue", PasswordFile: "token", Password: "secret", CAfile: "b.crt", Certfile: "b.crt", Keyfile: "b.key",
			Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, APIPort: 8009, File: "members.json",
			Rewrite: map[string]string{"10.0.0.11:8008": "192.0.2.1:18011", "pg.example": "2001:db8::1"},
		},
		Nodes: []Node{
			{
				Name: "pg1", Cluster: "main", Scope: "main", Member: "pg1", URL: mustURL(t, "https://pg1:8008"), Postgres: "pg1:5432",
				Agent:   map[string]string{"primary": ":5551", "replica": "127.0.0.1:5561", "read-only": ":http"},
				Backend: poll,
			},
			{
				Name: "pg1", Cluster: "other", Scope: "other", Member: "pg1", URL: mustURL(t, "http://[2001:db8::2]:8018"),
				Backend: Backend{
					Scheme: "http", Certfile: "b.crt", Keyfile: "b.key", Verify: "full",
					// primary-interval is lowered to the node's interval, fast-interval is low enough.
					Interval: 200 * time.Millisecond, PrimaryInterval: 200 * time.Millisecond, FastInterval: 50 * time.Millisecond,
					Timeout: time.Second, Fall: 2,
				},
			},
			{Name: "above", Cluster: "default", Member: "above", URL: mustURL(t, "http://site:8009/node/pg1"), Backend: poll},
		},
		Notes: []string{
			"frontend.tls-ciphers[2]: TLS_AES_128_GCM_SHA256 has no effect, Go does not let it be chosen",
			"frontend.tls-ciphers[3]: TLS_FALLBACK_SCSV has no effect, Go does not let it be chosen",
			"discovery.etcd: the password crosses the network as plain text: want https://",
		},
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestConfigMistakes has what is wrong in every section alike. Each text comes before
// one good node; so do those of the sections' tests.
func TestConfigMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"syntax", "[frontend]\nport = = 1", `line 2: expected value but found '=' instead (got "port = = 1")`},
		{"twice", "cache.ttl = 1\ncache.ttl = 2", `line 2: Key 'cache.ttl' has already been defined (got "cache.ttl = 2")`},
		{"no table", "frontend = 5", `frontend: want a table (got 5)`},
		{"list of tables", "[[cache]]", `cache: want a table (got a list)`},
		{"unknown table", "[fronted]", `fronted: unknown key, did you mean "frontend"?`},
		{"unknown key", "frontend.prot = 1", `frontend.prot: unknown key, did you mean "port"?`},
		{"underscore", "backend.primary_interval = 1", `backend.primary_interval: unknown key, did you mean "primary-interval"?`},
		{"case", "frontend.PORT = 1", `frontend.PORT: unknown key, did you mean "port"?`},
		{"far key", "cache.size-of-it = 1", `cache.size-of-it: unknown key, want one of ttl`},
		{"odd key", `cache."a\nb" = 1`, `cache."a\nb": unknown key, want one of ttl`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

func TestConfigAllMistakes(t *testing.T) {
	checkMistake(t, `
colour = "red"
[frontend]
prot = 80
port = "http"
[backend]
interval = "fast"
[cache]
ttl = 0.5
[agent]
listen = ":1"
[[node]]
name = "pg1"
url = "http://pg1:8008"
agent = { replicas = ":2", primary = ":1" }
[[node]]
name = "pg1"
`, `frontend.port: want a whole number from 0 to 65535 (got "http")
frontend.prot: unknown key, did you mean "port"?
backend.interval: want a duration above 0, such as "1s" (got "fast")
node[1].agent.replicas: unknown check, did you mean "replica"?
node[2].url: want the address of Patroni's REST API, such as "http://10.0.0.11:8008" (got nothing)
colour: unknown key, want one of frontend, operator, backend, cache, checks, agent, history, limits, discovery, node
node[2].name: want unique names in a cluster, "pg1" is there twice
node[1].agent.primary: want an address of its own, agent.listen has ":1" too (got ":1")`)
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("../../patroniglue.example.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(harness.OneNode))
	f.Add([]byte(`"'do\`)) // toml reports an error on line 0
	f.Add([]byte("node = [{name='a', url='http://[::1]:1/%2f/', interval=0.1, certfile='a.crt', keyfile='a.key'}]\nbackend.fast-interval='1ms'"))
	f.Add([]byte("frontend = {allow=['::1', 1], tls-ciphers=['x']}\ncache.ttl=nan\nchecks.max-lag='1e3B'\nagent.listen='[::]:http'"))
	read := harness.NewFiles(f).Read
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseTOML(data, read)
		if err == nil {
			mustBeValid(t, c)
		} else if c != nil || err.Error() == "" {
			t.Errorf("got %v and the error %q", c, err)
		}
	})
}

func mustURL(t testing.TB, s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// diff compares configurations or parts of them.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmp.AllowUnexported(Node{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

func checkMistake(t *testing.T, text, want string) {
	t.Helper()
	c, err := parseTOML([]byte(text), harness.NewFiles(t).Read)
	if err == nil {
		t.Fatalf("no error, want\n%s", want)
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
	if c != nil {
		t.Error("a configuration and an error")
	}
}

// mustBeValid checks what the daemon relies on.
func mustBeValid(t *testing.T, c *Config) {
	t.Helper()
	if len(c.Nodes) == 0 && !c.Discovery.On() || c.Cache.TTL <= 0 || c.Frontend.Port < 0 || c.Frontend.Port > 65535 || c.Checks.LagHold < 0 || c.Checks.MaxLag < 0 {
		t.Errorf("not valid: %+v", c)
	}
	for _, n := range c.Nodes {
		if n.Name == "" || n.Cluster == "" || n.URL == nil || n.URL.Host == "" || strings.HasSuffix(n.URL.Path, "/") ||
			n.FastInterval <= 0 || n.FastInterval > n.PrimaryInterval || n.PrimaryInterval > n.Interval || n.Interval >= c.Cache.TTL ||
			n.Timeout <= 0 || n.Fall < 1 || (n.Certfile == "") != (n.Keyfile == "") {
			t.Errorf("not valid: %+v", n)
			continue
		}
		if _, err := url.Parse(n.URL.String() + "/primary"); err != nil {
			t.Error(err)
		}
		if port := n.URL.Port(); port != "" {
			if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				t.Error(err)
			}
		}
	}
}
