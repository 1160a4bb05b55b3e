package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"patroniglue/test/harness"
)

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

func TestConfigDefaults(t *testing.T) {
	got, err := parseTOML([]byte(harness.OneNode), harness.Files{}.Read)
	if err != nil {
		t.Fatal(err)
	}
	poll := Backend{
		Scheme:          "http",
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
		Scheme: "https", CAfile: "a.crt", Certfile: "a.crt", Keyfile: "a.key", Insecure: true,
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
					Scheme: "http", Certfile: "b.crt", Keyfile: "b.key",
					// The primary's is lowered with the node's own, the fast one is low enough.
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

func TestConfigDurations(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration
	}{
		{`"2s"`, 2 * time.Second},
		{`"1500ms"`, 1500 * time.Millisecond},
		{`"1m30s"`, 90 * time.Second},
		{`2`, 2 * time.Second},
		{`2.5`, 2500 * time.Millisecond},
		{`1.1`, 1100 * time.Millisecond},
		{`1e2`, 100 * time.Second},
	} {
		t.Run(tt.text, func(t *testing.T) {
			c, err := parseTOML([]byte("cache.ttl = "+tt.text+harness.OneNode), harness.Files{}.Read)
			if err != nil {
				t.Fatal(err)
			}
			if c.Cache.TTL != tt.want {
				t.Errorf("got %s, want %s", c.Cache.TTL, tt.want)
			}
		})
	}
}

// cipherNames is what is wanted where an unknown cipher suite stands.
func cipherNames() string {
	var names []string
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if s.SupportedVersions[0] != tls.VersionTLS13 {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}

const (
	wantDuration = `want a duration above 0, such as "1s"`
	wantName     = `want letters, digits, ".", "_" and "-" only, and not "." or ".."`
	wantURL      = `want http:// or https:// and a host, such as "http://10.0.0.11:8008"`
	wantEtcd     = `want the URL of a member of etcd, such as "https://10.0.0.1:2379"`
	wantRewrite  = `want a host:port for a host:port, such as "10.0.0.11:8008" = "192.0.2.1:18008", or a host for a host`
	wantListen   = `want host:port or :port, such as ":5555"`
	wantHost     = `want a host name or an IP address, nothing more`
	wantSize     = `want a size in B, kB, MB, GB or TB, such as "100MB", or "" for none`
	wantCIDR     = `want a CIDR or an IP address, such as "10.0.0.0/8"`
)

func TestConfigMistakes(t *testing.T) {
	// Each text comes before one good node.
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

		{"host with port", "frontend.host = 'a:1'", `frontend.host: ` + wantHost + ` (got "a:1")`},
		{"host star", "frontend.host = '*'", `frontend.host: ` + wantHost + ` (got "*")`},
		{"host no string", "frontend.host = 1", `frontend.host: want a string (got 1)`},
		{"port too high", "frontend.port = 65536", `frontend.port: want a whole number from 0 to 65535 (got 65536)`},
		{"port negative", "frontend.port = -1", `frontend.port: want a whole number from 0 to 65535 (got -1)`},
		{"port text", "frontend.port = '80'", `frontend.port: want a whole number from 0 to 65535 (got "80")`},
		{"port fraction", "frontend.port = 80.5", `frontend.port: want a whole number from 0 to 65535 (got 80.5)`},
		{"port date", "frontend.port = 2026-01-01", `frontend.port: want a whole number from 0 to 65535 (got a date or time)`},
		{"certfile alone", "frontend.certfile = 'a.crt'", `frontend.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"keyfile alone", "frontend.keyfile = 'a.key'", `frontend.certfile: want certfile and keyfile or neither (got keyfile alone)`},
		{"certfile missing", "frontend.certfile = 'no.crt'\nfrontend.keyfile = 'a.key'", `frontend.certfile: want a file that can be read: file does not exist (got "no.crt")`},
		{"keyfile missing", "frontend.certfile = 'a.crt'\nfrontend.keyfile = 'no.key'", `frontend.keyfile: want a file that can be read: file does not exist (got "no.key")`},
		{"wrong key", "frontend.certfile = 'a.crt'\nfrontend.keyfile = 'b.key'", `frontend.certfile: want a certificate and its key in PEM: tls: private key does not match public key (got "a.crt" and "b.key")`},
		{"SSLv3", "frontend.tls-min-version = 'SSLv3.0'", `frontend.tls-min-version: Go has no SSLv3; the lowest is TLSv1.0 (got "SSLv3.0")`},
		{"version", "frontend.tls-min-version = '1.2'", `frontend.tls-min-version: want TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3 (got "1.2")`},
		{"cipher", "frontend.tls-ciphers = ['AES']", `frontend.tls-ciphers[1]: want one of ` + cipherNames() + ` (got "AES")`},
		{"ciphers no list", "frontend.tls-ciphers = 'AES'", `frontend.tls-ciphers: want a list of cipher suites (got "AES")`},
		{"client-cafile without TLS", "frontend.client-cafile = 'a.crt'", `frontend.client-cafile: want certfile and keyfile with it, only TLS has client certificates (got "a.crt")`},
		{"token-file missing", "frontend.token-file = 'no'", `frontend.token-file: want a file that can be read: file does not exist (got "no")`},
		{"token-file with two", "frontend.token-file = 'two'", `frontend.token-file: want a file with one token of printable ASCII without blanks, it has more (got "two")`},
		{"token-file empty", "frontend.token-file = 'empty'", `frontend.token-file: want a file with a token, it is empty (got "empty")`},
		{"CIDR", "frontend.allow = ['10.0.0.0/8', '10.0.0.0/33']", `frontend.allow[2]: ` + wantCIDR + ` (got "10.0.0.0/33")`},
		{"CIDR zone", "frontend.allow = ['fe80::1%eth0']", `frontend.allow[1]: ` + wantCIDR + ` (got "fe80::1%eth0")`},
		{"CIDR no string", "frontend.allow = [10]", `frontend.allow[1]: want a string (got 10)`},

		{"operator without an address", "operator.password-file = 'passwords'", `operator.listen: want an address such as "localhost:8010": without one the rest of [operator] protects nothing (got nothing)`},
		{"operator's address", "operator.listen = '8010'", `operator.listen: ` + wantListen + ` (got "8010")`},
		{"operator on the frontend's port", "operator.listen = 'localhost:8009'", `operator.listen: want an address of its own, frontend.port has "localhost:8009" too (got "localhost:8009")`},
		{"operator's certfile alone", "operator.listen = ':1'\noperator.certfile = 'a.crt'", `operator.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"operator's client-cafile without TLS", "operator.listen = ':1'\noperator.client-cafile = 'a.crt'", `operator.client-cafile: want certfile and keyfile with it, only TLS has client certificates (got "a.crt")`},
		{"operator more open than the frontend", "operator.listen = ':1'\n[frontend]\nclient-cafile = 'a.crt'\ncertfile = 'a.crt'\nkeyfile = 'a.key'", `operator.client-cafile: want it, or password-file: [frontend] asks for client certificates, this would ask for nothing (got nothing)`},
		{"passwords missing", "operator.listen = ':1'\noperator.password-file = 'no'", `operator.password-file: want a file that can be read: file does not exist (got "no")`},
		{"passwords without a hash", "operator.listen = ':1'\noperator.password-file = 'no-colon'", `operator.password-file: want lines of user:hash as htpasswd -B writes them, line 2 is another (got "no-colon")`},
		{"passwords without a user", "operator.listen = ':1'\noperator.password-file = 'no-user'", `operator.password-file: want lines of user:hash as htpasswd -B writes them, line 1 is another (got "no-user")`},
		{"passwords of another kind", "operator.listen = ':1'\noperator.password-file = 'sha1'", `operator.password-file: want bcrypt hashes, $2y$..., as htpasswd -B writes them, line 1 has another (got "sha1")`},
		{"passwords cut off", "operator.listen = ':1'\noperator.password-file = 'short'", `operator.password-file: want bcrypt hashes, $2y$..., as htpasswd -B writes them, line 1 has another (got "short")`},
		{"passwords that take seconds", "operator.listen = ':1'\noperator.password-file = 'slow'", `operator.password-file: want bcrypt hashes with a cost of at most 14, or each login takes seconds, line 1 has 15 (got "slow")`},
		{"passwords twice", "operator.listen = ':1'\noperator.password-file = 'twice'", `operator.password-file: want each user once, that of line 2 has another line (got "twice")`},
		{"passwords of nobody", "operator.listen = ':1'\noperator.password-file = 'nobody'", `operator.password-file: want a file with lines of user:hash, it has none (got "nobody")`},

		{"scheme", "backend.scheme = 'ftp'", `backend.scheme: want "http" or "https" (got "ftp")`},
		{"cafile missing", "backend.cafile = 'no.crt'", `backend.cafile: want a file that can be read: file does not exist (got "no.crt")`},
		{"cafile rubbish", "backend.cafile = 'rubbish'", `backend.cafile: want certificates in PEM (got "rubbish")`},
		{"backend certfile alone", "backend.certfile = 'a.crt'", `backend.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"insecure", "backend.insecure = 'yes'", `backend.insecure: want true or false (got "yes")`},
		{"interval text", "backend.interval = 'fast'", `backend.interval: ` + wantDuration + ` (got "fast")`},
		{"interval zero", "backend.interval = 0", `backend.interval: ` + wantDuration + ` (got 0)`},
		{"interval negative", "backend.interval = '-1s'", `backend.interval: ` + wantDuration + ` (got "-1s")`},
		{"interval huge", "backend.interval = 1e300", `backend.interval: ` + wantDuration + ` (got 1e+300)`},
		{"interval nan", "backend.interval = nan", `backend.interval: ` + wantDuration + ` (got NaN)`},
		{"interval bool", "backend.interval = true", `backend.interval: ` + wantDuration + ` (got true)`},
		{"timeout", "backend.timeout = '0s'", `backend.timeout: ` + wantDuration + ` (got "0s")`},
		{"primary-interval", "backend.primary-interval = '2s'", `backend.primary-interval: want at most interval, 1s (got "2s")`},
		{"fast-interval", "backend.fast-interval = 0.3", `backend.fast-interval: want at most primary-interval, 250ms (got 0.3)`},
		{"fall", "backend.fall = 0", `backend.fall: want a whole number, at least 1 (got 0)`},

		{"ttl text", "cache.ttl = '5'", `cache.ttl: ` + wantDuration + ` (got "5")`},
		{"ttl and interval", "cache.ttl = 1", `cache.ttl: want more than backend.interval, 1s, or nodes are stale between two polls (got 1)`},
		{"interval and ttl", "backend.interval = '5s'", `backend.interval: want less than cache.ttl, 5s (got "5s")`},

		{"checks primary", "checks.primary = 'locked'", `checks.primary: want "writable" or "lock" (got "locked")`},
		{"max-lag", "checks.max-lag = '100 megs'", `checks.max-lag: ` + wantSize + ` (got "100 megs")`},
		{"max-lag negative", "checks.max-lag = -1", `checks.max-lag: ` + wantSize + ` (got -1)`},
		{"lag-hold", "checks.lag-hold = -1", `checks.lag-hold: want a duration, 0 or more, such as "1s" (got -1)`},
		{"min-replicas", "checks.min-replicas = -1", `checks.min-replicas: want a whole number, at least 0 (got -1)`},
		{"fallback", "checks.fallback = 'leader'", `checks.fallback: want "" or "primary" (got "leader")`},

		{"etcd no URL", "discovery.etcd = ['10.0.0.1:2379']", `discovery.etcd[1]: ` + wantEtcd + ` (got "10.0.0.1:2379")`},
		{"etcd without a port", "discovery.etcd = ['https://10.0.0.1']", `discovery.etcd[1]: ` + wantEtcd + ` (got "https://10.0.0.1")`},
		{"etcd with a password", "discovery.etcd = ['https://u:canary@10.0.0.1:2379']", `discovery.etcd[1]: ` + wantEtcd + ` (got "https://...@10.0.0.1:2379")`},
		{"etcd twice", "discovery.etcd = ['http://a:1', 'http://a:1/']", `discovery.etcd[2]: want each member of etcd once (got "http://a:1/" twice)`},
		{"discovery without etcd", "discovery.scopes = ['main']", `discovery.etcd: want URLs such as ["https://10.0.0.1:2379"]: without them the rest of [discovery] does nothing (got nothing)`},
		{"namespace", "[discovery]\netcd = ['http://a:1']\nnamespace = ''", `discovery.namespace[1]: want Patroni's namespace, such as "/service/" (got "")`},
		{"namespace twice", "[discovery]\netcd = ['http://a:1']\nnamespace = ['service', '/service/']", `discovery.namespace[2]: want each namespace once (got "/service/" twice)`},
		{"namespace number", "[discovery]\netcd = ['http://a:1']\nnamespace = 1", `discovery.namespace: want a list of namespaces, or one (got 1)`},
		{"scopes", "[discovery]\netcd = ['http://a:1']\nscopes = ['a/b']", `discovery.scopes[1]: want a scope of letters, digits, ".", "_" and "-" only (got "a/b")`},
		{"etcd's username alone", "[discovery]\netcd = ['http://a:1']\nusername = 'u'", `discovery.password-file: want username and password-file or neither (got username alone)`},
		{"etcd's password alone", "[discovery]\netcd = ['http://a:1']\npassword-file = 'token'", `discovery.username: want username and password-file or neither (got password-file alone)`},
		{"etcd's password empty", "[discovery]\netcd = ['http://a:1']\nusername = 'u'\npassword-file = 'empty'", `discovery.password-file: want a file with one line, the password, it has another (got "empty")`},
		{"etcd's password with two", "[discovery]\netcd = ['http://a:1']\nusername = 'u'\npassword-file = 'two'", `discovery.password-file: want a file with one line, the password, it has another (got "two")`},
		{"etcd's CA without TLS", "[discovery]\netcd = ['http://a:1']\ncafile = 'a.crt'", `discovery.cafile: want etcd with https://, or nothing here: http has no certificates (got "a.crt")`},
		{"api-port", "[discovery]\netcd = ['http://a:1']\napi-port = 65536", `discovery.api-port: want a whole number from 0 to 65535 (got 65536)`},
		{"rewrite", "[discovery]\netcd = ['http://a:1']\nrewrite = { '10.0.0.1:8008' = '192.0.2.1' }", `discovery.rewrite."10.0.0.1:8008": ` + wantRewrite + ` (got "192.0.2.1")`},
		{"rewrite of a URL", "[discovery]\netcd = ['http://a:1']\nrewrite = { 'http://a' = 'b' }", `discovery.rewrite."http://a": ` + wantRewrite + ` (got "b")`},

		{"listen", "agent.listen = '5555'", `agent.listen: ` + wantListen + ` (got "5555")`},
		{"listen port", "agent.listen = ':65536'", `agent.listen: ` + wantListen + ` (got ":65536")`},
		{"listen empty port", "agent.listen = 'a:'", `agent.listen: ` + wantListen + ` (got "a:")`},
		{"listen service", "agent.listen = ':no-such-service'", `agent.listen: ` + wantListen + ` (got ":no-such-service")`},
		{"history size", "history.size = 0", `history.size: want a whole number from 1 to 1000000 (got 0)`},
		{"history file", "history.file = true", `history.file: want a string (got true)`},
		{"no HTTP connections", "limits.http-connections = 15", `limits.http-connections: want a whole number from 16 to 1000000 (got 15)`},
		{"agent connections", "limits.agent-connections = 1e6", `limits.agent-connections: want a whole number from 16 to 1000000 (got 1e+06)`},
		{"listen is frontend's", "agent.listen = ':8009'", `agent.listen: want an address of its own, frontend.port has "localhost:8009" too (got ":8009")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

func TestConfigNodeMistakes(t *testing.T) {
	const good = "name = 'pg1'\nurl = 'http://pg1'\n"
	for _, tt := range []struct{ name, text, want string }{
		{"none", "", `node: want at least one [[node]], or [discovery] (got nothing)`},
		{"empty list", "node = []", `node: want at least one [[node]], or [discovery] (got nothing)`},
		{"no list", "[node]", `node: want a list of tables, each [[node]] (got a table)`},
		{"no tables", "node = ['http://pg1']", `node: want tables, each [[node]] (got a list)`},
		{"unknown key", "[[node]]\nttl = 1\n" + good, `node[1].ttl: unknown key, want one of name, cluster, scheme, cafile, certfile, keyfile, insecure, interval, primary-interval, fast-interval, timeout, fall, url, host, port, postgres, agent`},

		{"no name", "[[node]]\nurl = 'http://pg1'", `node[1].name: want a name, best that of the Patroni member (got nothing)`},
		{"empty name", "[[node]]\nurl = 'http://pg1'\nname = ''", `node[1].name: ` + wantName + ` (got "")`},
		{"name", "[[node]]\nurl = 'http://pg1'\nname = 'a b'", `node[1].name: ` + wantName + ` (got "a b")`},
		{"name dots", "[[node]]\nurl = 'http://pg1'\nname = '..'", `node[1].name: ` + wantName + ` (got "..")`},
		{"name twice", "[[node]]\n" + good + "[[node]]\n" + good, `node[2].name: want unique names in a cluster, "pg1" stands twice`},
		{"cluster", "[[node]]\ncluster = 'a/b'\n" + good, `node[1].cluster: ` + wantName + ` (got "a/b")`},
		{"cluster default", "[[node]]\n" + good + "[[node]]\nname = 'pg2'\nurl = 'http://pg2'\ncluster = 'default'", `node[2].cluster: want another name, nodes without one are "default", such as node[1] (got "default")`},

		{"no url", "[[node]]\nname = 'pg1'", `node[1].url: want the address of Patroni's REST API, such as "http://10.0.0.11:8008" (got nothing)`},
		{"url scheme", "[[node]]\nname = 'pg1'\nurl = 'pg1:8008'", `node[1].url: ` + wantURL + ` (got "pg1:8008")`},
		{"url host", "[[node]]\nname = 'pg1'\nurl = 'http://:8008'", `node[1].url: ` + wantURL + ` (got "http://:8008")`},
		{"url port", "[[node]]\nname = 'pg1'\nurl = 'http://pg1:80000'", `node[1].url: want a port from 1 to 65535 (got "http://pg1:80000")`},
		{"url port empty", "[[node]]\nname = 'pg1'\nurl = 'http://pg1:'", `node[1].url: want a port from 1 to 65535 (got "http://pg1:")`},
		{"url query", "[[node]]\nname = 'pg1'\nurl = 'http://pg1/?'", `node[1].url: want neither user, nor query, nor fragment (got "http://pg1/?")`},
		{"url fragment", "[[node]]\nname = 'pg1'\nurl = 'http://pg1/#'", `node[1].url: want neither user, nor query, nor fragment (got "http://pg1/#")`},
		{"url user", "[[node]]\nname = 'pg1'\nurl = 'http://me@pg1'", `node[1].url: want neither user, nor query, nor fragment (got "http://...@pg1")`},
		{"url password", "[[node]]\nname = 'pg1'\nurl = 'http://me:can/ary@pg1'", `node[1].url: ` + wantURL + ` (got "http://...@pg1")`},
		{"url password and syntax", "[[node]]\nurl = http://me:canary@pg1", `line 2: expected value but found "http" instead (got "url = http://...@pg1")`},
		{"url and host", "[[node]]\nhost = 'pg1'\n" + good, `node[1].host: want either url or host, port and scheme (got "pg1")`},
		{"url and scheme", "[[node]]\nscheme = 'https'\n" + good, `node[1].scheme: want either url or host, port and scheme (got "https")`},
		{"host", "[[node]]\nname = 'pg1'\nhost = 'http://pg1'", `node[1].host: ` + wantHost + ` (got "http://pg1")`},
		{"port", "[[node]]\nname = 'pg1'\nhost = 'pg1'\nport = 0", `node[1].port: want a whole number from 1 to 65535 (got 0)`},
		{"postgres", "[[node]]\npostgres = 'pg1'\n" + good, `node[1].postgres: want host:port or :port, such as ":5555" (got "pg1")`},
		{"postgres host", "[[node]]\npostgres = ':5432'\n" + good, `node[1].postgres: want the host and the port of the database, such as "10.0.0.11:5432" (got ":5432")`},

		{"interval", "[[node]]\ninterval = 'x'\n" + good, `node[1].interval: ` + wantDuration + ` (got "x")`},
		{"interval and ttl", "[[node]]\ninterval = 5\n" + good, `node[1].interval: want less than cache.ttl, 5s (got 5)`},
		{"primary-interval", "[[node]]\nprimary-interval = 2\n" + good, `node[1].primary-interval: want at most interval, 1s (got 2)`},
		{"keyfile of another", "[backend]\ncertfile = 'a.crt'\nkeyfile = 'a.key'\n[[node]]\nkeyfile = 'b.key'\n" + good, `node[1].certfile: want a certificate and its key in PEM: tls: private key does not match public key (got "a.crt" and "b.key")`},
		{"keyfile taken away", "[backend]\ncertfile = 'a.crt'\nkeyfile = 'a.key'\n[[node]]\nkeyfile = ''\n" + good, `node[1].keyfile: want certfile and keyfile or neither (got certfile alone)`},

		{"agent", "[[node]]\nagent = ':5551'\n" + good, `node[1].agent: want a table (got ":5551")`},
		{"agent check", "[[node]]\nagent.primry = ':5551'\n" + good, `node[1].agent.primry: unknown check, did you mean "primary"?`},
		{"agent address", "[[node]]\nagent.primary = '5551'\n" + good, `node[1].agent.primary: ` + wantListen + ` (got "5551")`},
		{"agent address twice", "[[node]]\nagent = { primary = ':5551', replica = '127.0.0.1:5551' }\n" + good, `node[1].agent.replica: want an address of its own, node[1].agent.primary has ":5551" too (got "127.0.0.1:5551")`},
		{"agent address shared", "agent.listen = 'a:5551'\n[[node]]\nagent.primary = 'A:5551'\n" + good, `node[1].agent.primary: want an address of its own, agent.listen has "a:5551" too (got "A:5551")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text, tt.want) })
	}
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
node[2].name: want unique names in a cluster, "pg1" stands twice
node[1].agent.primary: want an address of its own, agent.listen has ":1" too (got ":1")`)
}

func TestConfigPortZeroTwice(t *testing.T) {
	if _, err := parseTOML([]byte("frontend.port = 0\nagent.listen = ':0'"+harness.OneNode+"agent = {primary = ':0', replica = ':0'}"), harness.Files{}.Read); err != nil {
		t.Error(err)
	}
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	for name, legacy := range map[string]bool{"a.toml": false, "a.conf": false, "a.yml": true, "a.YAML": true} {
		text := harness.OneNode
		if legacy {
			text = "frontend: {port: 8009}"
		}
		c, err := loadFile(write(name, text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.Legacy != legacy {
			t.Errorf("%s: legacy is %t, want %t", name, c.Legacy, legacy)
		}
	}

	missing := filepath.Join(dir, "no.toml")
	_, err := loadFile(missing)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}

	bad := write("bad.toml", "frontend.certfile = '"+missing+"'\nfrontend.keyfile = '"+missing+"'"+harness.OneNode)
	want := fmt.Sprintf(`frontend.certfile: want a file that can be read: no such file or directory (got %q)
frontend.keyfile: want a file that can be read: no such file or directory (got %q)`, missing, missing)
	if _, err := loadFile(bad); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestFindConfig(t *testing.T) {
	const old, system = "/home/me/.patroniglue.yml", "/etc/patroniglue/patroniglue.toml"
	for _, tt := range []struct {
		name, flag, home string
		exist            []string
		want, err        string
	}{
		{name: "flag", flag: "x.toml", home: "/home/me", exist: []string{old, system}, want: "x.toml"},
		{name: "old", home: "/home/me", exist: []string{old, system}, want: old},
		{name: "system", home: "/home/me", exist: []string{system}, want: system},
		{name: "no home", exist: []string{system}, want: system},
		{name: "none", home: "/home/me", err: `finding a configuration: neither "/home/me/.patroniglue.yml" nor "/etc/patroniglue/patroniglue.toml" exists, name one with -config FILE`},
		{name: "none and no home", err: `finding a configuration: neither "$HOME/.patroniglue.yml" nor "/etc/patroniglue/patroniglue.toml" exists, name one with -config FILE`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := find(tt.flag, tt.home, func(path string) bool { return slices.Contains(tt.exist, path) })
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %q, %v, want %q, %s", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestExampleConfig(t *testing.T) {
	const path = "../../patroniglue.example.toml"
	c, err := loadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	// What it shows is the default.
	want := Default()
	want.Nodes, want.Text, want.Files = c.Nodes, c.Text, c.Files
	if d := diff(want, c); d != "" {
		t.Error(d)
	}
	if len(c.Nodes) != 3 {
		t.Errorf("%d nodes, want 3", len(c.Nodes))
	}

	// It shows every key.
	var shown map[string]any
	if _, err := toml.DecodeFile(path, &shown); err != nil {
		t.Fatal(err)
	}
	known := map[string]func(*table){
		"frontend":  want.Frontend.read,
		"operator":  want.Operator.read,
		"backend":   want.Backend.read,
		"cache":     want.Cache.read,
		"checks":    want.Checks.read,
		"agent":     want.Agent.read,
		"history":   want.History.read,
		"limits":    want.Limits.read,
		"discovery": want.Discovery.read,
	}
	for name, read := range known {
		none := &table{reading: &reading{}}
		read(none)
		section, _ := shown[name].(map[string]any)
		if d := cmp.Diff(slices.Sorted(slices.Values(none.known)), slices.Sorted(maps.Keys(section))); d != "" {
			t.Errorf("[%s]: %s", name, d)
		}
		delete(shown, name)
	}
	none, backend := &table{reading: &reading{}}, &table{reading: &reading{}}
	new(Node).read(none)
	new(Backend).read(backend)
	nodes, _ := shown["node"].([]map[string]any)
	for _, key := range none.known {
		if !slices.Contains(backend.known, key) && !slices.ContainsFunc(nodes, func(n map[string]any) bool { return n[key] != nil }) {
			t.Errorf("no [[node]] shows %q", key)
		}
	}
	if len(shown) != 1 {
		t.Errorf("tables without a test: %v", slices.Sorted(maps.Keys(shown)))
	}
}

// mustBeValid checks what main relies on.
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

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("../../patroniglue.example.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(harness.OneNode))
	f.Add([]byte(`"'do\`)) // an error on line 0, says toml
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

// Whoever lists a network as sockets for both families show it means the same.
func TestConfigAllowMapped(t *testing.T) {
	for text, want := range map[string]string{
		"::ffff:10.0.0.0/104": "10.0.0.0/8", "::ffff:10.1.2.3": "10.1.2.3/32", "::ffff:10.1.2.3/128": "10.1.2.3/32", "::ffff:0:0/96": "0.0.0.0/0",
		"::/0": "::/0", "10.1.2.3/8": "10.0.0.0/8",
	} {
		c, err := parseTOML([]byte("frontend.allow = ['"+text+"']"+harness.OneNode), harness.Files{}.Read)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Frontend.Allow[0].String(); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

func TestConfigOperator(t *testing.T) {
	const tlsFrontend = "[frontend]\ncertfile = 'a.crt'\nkeyfile = 'a.key'\nallow = ['10.0.0.0/8']\n"
	plain := []string{"operator.listen: passwords cross the network as plain text: want certfile and keyfile, or localhost behind a proxy with TLS"}
	for _, tt := range []struct {
		text, certfile string
		allow, notes   []string
	}{
		{"[operator]\nlisten = ':1'\n", "", nil, nil},
		{"[operator]\nlisten = ':1'\npassword-file = 'passwords'\n", "", nil, plain},
		{"[operator]\nlisten = '10.0.0.1:1'\npassword-file = 'passwords'\n", "", nil, plain},
		{"[operator]\nlisten = 'localhost:1'\npassword-file = 'passwords'\n", "", nil, nil},
		{"[operator]\nlisten = '[::1]:1'\npassword-file = 'passwords'\n", "", nil, nil},
		{tlsFrontend + "[operator]\nlisten = ':1'\npassword-file = 'passwords'\n", "a.crt", []string{"10.0.0.0/8"}, nil},
		{tlsFrontend + "[operator]\nlisten = ':1'\ncertfile = 'b.crt'\nkeyfile = 'b.key'\nallow = ['0.0.0.0/0']\n", "b.crt", []string{"0.0.0.0/0"}, nil},
	} {
		c, err := parseTOML([]byte(tt.text+harness.OneNode), harness.NewFiles(t).Read)
		if err != nil {
			t.Fatal(err)
		}
		var allow []string
		for _, p := range c.Operator.Allow {
			allow = append(allow, p.String())
		}
		if o := c.Operator; o.Certfile != tt.certfile || !slices.Equal(allow, tt.allow) || !slices.Equal(c.Notes, tt.notes) {
			t.Errorf("%s: certificate %q, allow %q, notes %q", tt.text, o.Certfile, allow, c.Notes)
		}
	}
}
