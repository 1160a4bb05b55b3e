package config

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patroniglue/test/harness"
)

// legacyDefaults returns what an empty file gives.
func legacyDefaults(t *testing.T) *Config {
	c := Default()
	c.Legacy = true
	c.Frontend.Port = 80
	c.Checks.Primary = "lock"
	c.Nodes = []Node{{Name: "local", Cluster: "default", URL: mustURL(t, "http://localhost:80"), Backend: c.Backend}}
	return c
}

func TestLegacy(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		change     func(*Config)
	}{
		{"empty", "", func(*Config) {}},
		{"comment", "# nothing\n", func(*Config) {}},
		{"document", "---\n", func(*Config) {}},
		{"empty keys", "frontend:\nbackend:\n  host:\ncache: {ttl: ~}\n", func(*Config) {}},
		{
			"every key",
			`---
frontend:
  host: 0.0.0.0
  port: 8443
  certfile: a.crt
  keyfile: a.key
  tls-min-version: TLSv1.1
  tls-ciphers:
    - TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305
    - TLS_FALLBACK_SCSV
    - TLS_AES_256_GCM_SHA384
  logformat: "%a - %m %U"
backend:
  host: ::1
  port: 8008
  scheme: https
  insecure: yes
cache:
  ttl: 2.5
  interval: 0.25
`,
			func(c *Config) {
				c.Frontend.Host, c.Frontend.Port = "0.0.0.0", 8443
				c.Frontend.Certfile, c.Frontend.Keyfile = "a.crt", "a.key"
				c.Frontend.TLSMinVersion = tls.VersionTLS11
				c.Frontend.TLSCiphers = []uint16{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}
				c.Backend.Scheme, c.Backend.Verify = "https", "none"
				c.Backend.Interval, c.Backend.Timeout = 2500*time.Millisecond/3, 2500*time.Millisecond
				c.Cache.TTL = 2500 * time.Millisecond
				c.Nodes[0].URL = mustURL(t, "https://[::1]:8008")
				c.Nodes[0].Backend = c.Backend
				c.Notes = []string{
					"frontend.tls-ciphers[2]: TLS_FALLBACK_SCSV has no effect, Go does not let it be chosen",
					"frontend.tls-ciphers[3]: TLS_AES_256_GCM_SHA384 has no effect, Go does not let it be chosen",
					"frontend.logformat: has no effect, single checks are not logged",
					"cache.interval: has no effect, answers expire by their ttl and are not swept",
					"cache.ttl: Patroni is polled every 833ms, so that its answers do not expire between polls",
				}
			},
		},
		{"ttl of a second", "cache: {ttl: 1}", func(c *Config) {
			c.Cache.TTL = time.Second
			c.Backend.Interval, c.Backend.Timeout = time.Second/3, time.Second
			c.Nodes[0].Backend = c.Backend
			c.Notes = []string{"cache.ttl: Patroni is polled every 333ms, so that its answers do not expire between polls"}
		}},
		{"ttl tiny", "cache: {ttl: 0.01}", func(c *Config) {
			c.Cache.TTL = 300 * time.Millisecond
			c.Backend.Interval, c.Backend.PrimaryInterval = 100*time.Millisecond, 100*time.Millisecond
			c.Backend.Timeout = 300 * time.Millisecond
			c.Nodes[0].Backend = c.Backend
			c.Notes = []string{
				"cache.ttl: 10ms is too short for polling, the ttl is 300ms",
				"cache.ttl: Patroni is polled every 100ms, so that its answers do not expire between polls",
			}
		}},
		{"ttl off", "cache: {ttl: 0}", func(c *Config) {
			c.Notes = []string{"cache.ttl: 0 no longer switches the cache off, the ttl is 5s"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseLegacy([]byte(tt.text), harness.NewFiles(t).Read)
			if err != nil {
				t.Fatal(err)
			}
			want := legacyDefaults(t)
			tt.change(want)
			if d := diff(want, got); d != "" {
				t.Error(d)
			}
			mustBeValid(t, got)
		})
	}
}

func TestLegacyMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"syntax", "frontend:\n  host: [\n", "line 2: did not find expected node content"},
		{"twice", "cache:\n  ttl: 1\n  ttl: 2\n", `line 3: mapping key "ttl" already defined at line 2`},
		{"no table", "patroni", `line 1: want frontend, backend and cache (got "patroni")`},
		{"frontend", "\nfrontend: 80", `line 2: frontend: want a table (got 80)`},
		{"port", "frontend:\n  port: http", `line 2: frontend.port: want a whole number from 0 to 65535 (got "http")`},
		{"backend port", "backend:\n  port: 0", `line 2: backend.port: want a whole number from 1 to 65535 (got 0)`},
		{"backend host", "backend:\n  host: ''", `line 2: backend.host: want the address of Patroni's REST API (got "")`},
		{"insecure", "backend:\n  insecure: maybe", `line 2: backend.insecure: want true or false (got "maybe")`},
		{"SSLv3", "frontend:\n  tls-min-version: SSLv3.0", `line 2: frontend.tls-min-version: want TLSv1.0 or higher, Go has no SSLv3 (got "SSLv3.0")`},
		{"certfile alone", "# a comment\nfrontend:\n  certfile: a.crt", `line 2: frontend.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"cipher", "frontend:\n  tls-ciphers:\n    - TLS_AES_128_GCM_SHA256\n    - AES", `line 4: frontend.tls-ciphers[2]: want one of ` + cipherNames() + ` (got "AES")`},
		{"ttl", "cache:\n  ttl: -1", `line 2: cache.ttl: want a duration, 0 or more, such as "1s" (got -1)`},
		{"odd key", "cache:\n  1: 2", `line 2: cache.1: unknown key, want one of ttl, interval`},
		{
			"all at once",
			"cache:\n  tll: 5\nfrontend:\n  prot: 80\n  port: 80000\nbackend:\n  scheme: ftp\nnode: x\n",
			`line 2: cache.tll: unknown key, did you mean "ttl"?
line 4: frontend.prot: unknown key, did you mean "port"?
line 5: frontend.port: want a whole number from 0 to 65535 (got 80000)
line 7: backend.scheme: want "http" or "https" (got "ftp")
line 8: node: unknown key, want one of frontend, backend, cache`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseLegacy([]byte(tt.text), harness.NewFiles(t).Read)
			if err == nil {
				t.Fatalf("no error, want\n%s", tt.want)
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Error(d)
			}
			if c != nil {
				t.Error("a configuration and an error")
			}
		})
	}
}

func FuzzLegacy(f *testing.F) {
	f.Add([]byte("frontend: {host: a, port: 1, tls-ciphers: [x]}\nbackend: {insecure: on}\ncache: {ttl: 0.5, interval: 1}"))
	f.Add([]byte("a: &a {port: 1}\nfrontend: *a\nbackend: {<<: *a, 1: [2]}"))
	f.Add([]byte("--- !!binary x\n? [a]\n: 2026-01-01"))
	read := harness.NewFiles(f).Read
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseLegacy(data, read)
		if err == nil {
			mustBeValid(t, c)
		} else if c != nil || err.Error() == "" {
			t.Errorf("got %v and the error %q", c, err)
		}
	})
}
