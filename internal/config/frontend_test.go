package config

import (
	"testing"

	"patroniglue/test/harness"
)

const (
	wantHost = `want a host name or an IP address, nothing more`
	wantCIDR = `want a CIDR or an IP address, such as "10.0.0.0/8"`
)

func TestFrontendMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"host with port", "frontend.host = 'a:1'", `frontend.host: ` + wantHost + ` (got "a:1")`},
		{"host star", "frontend.host = '*'", `frontend.host: ` + wantHost + ` (got "*")`},
		{"host no string", "frontend.host = 1", `frontend.host: want a string (got 1)`},
		{"port too high", "frontend.port = 65536", `frontend.port: want a whole number from 0 to 65535 (got 65536)`},
		{"port negative", "frontend.port = -1", `frontend.port: want a whole number from 0 to 65535 (got -1)`},
		{"port text", "frontend.port = '80'", `frontend.port: want a whole number from 0 to 65535 (got "80")`},
		{"port fraction", "frontend.port = 80.5", `frontend.port: want a whole number from 0 to 65535 (got 80.5)`},
		{"port date", "frontend.port = 2026-01-01", `frontend.port: want a whole number from 0 to 65535 (got a date or time)`},
		{"client-cafile without TLS", "frontend.client-cafile = 'a.crt'", `frontend.client-cafile: want certfile and keyfile too: only TLS has client certificates (got "a.crt")`},
		{"token-file missing", "frontend.token-file = 'no'", `frontend.token-file: want a file that can be read: file does not exist (got "no")`},
		{"token-file with two", "frontend.token-file = 'two'", `frontend.token-file: want a file with one token of printable ASCII without blanks, it has other characters (got "two")`},
		{"token-file empty", "frontend.token-file = 'empty'", `frontend.token-file: want a file with a token, it is empty (got "empty")`},
		{"CIDR", "frontend.allow = ['10.0.0.0/8', '10.0.0.0/33']", `frontend.allow[2]: ` + wantCIDR + ` (got "10.0.0.0/33")`},
		{"CIDR zone", "frontend.allow = ['fe80::1%eth0']", `frontend.allow[1]: ` + wantCIDR + ` (got "fe80::1%eth0")`},
		{"CIDR no string", "frontend.allow = [10]", `frontend.allow[1]: want a string (got 10)`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

// An IPv4 network may be written as sockets of both families show it.
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
