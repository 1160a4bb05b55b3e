package config

import (
	"math"
	"net/netip"
	"strings"
)

// frontendConfig is the HTTP(S) side: checks and, without an operator's listener,
// the status page and all else.
type Frontend struct {
	// Host ("host") is the name or IP address to listen on; empty means all
	// addresses. Default "localhost".
	Host string

	// Port ("port") is the TCP port to listen on; 0 lets the system choose.
	// Default 8009.
	Port int

	// Certfile and Keyfile ("certfile", "keyfile") are PEM files; with both, and
	// never with one alone, the frontend speaks HTTPS. Default "": HTTP.
	Certfile, Keyfile string

	// TLSMinVersion ("tls-min-version") is the lowest TLS version, TLSv1.0 to
	// TLSv1.3, as a constant of crypto/tls. Default TLSv1.2.
	TLSMinVersion uint16

	// TLSCiphers ("tls-ciphers") are the cipher suites up to TLS 1.2, by the names
	// of crypto/tls. TLS 1.3 suites are accepted and left out: Go always has all
	// of them. Default empty: Go's choice.
	TLSCiphers []uint16

	// ClientCAfile ("client-cafile") is a PEM file of authorities; with it every
	// client has to show a certificate that one of them signed. Default "".
	ClientCAfile string

	// TokenFile ("token-file") holds a bearer token for /node/{node}/leaving, and
	// Token is what it holds, read once. Default "": that route is off.
	TokenFile, Token string

	// Allow ("allow") lists the networks that may connect, to HTTP and to agents,
	// as CIDRs or IP addresses. Default empty: everybody.
	Allow []netip.Prefix

	// FastChecks ("fast-checks") answers checks of the plainest form, over HTTP and
	// of agents, by a short way that costs less than half; the answers are the same.
	// Default true.
	FastChecks bool
}

func (f *Frontend) read(t *table) {
	t.host("host", &f.Host)
	t.integer("port", &f.Port, 0, math.MaxUint16)
	t.keyPair(&f.Certfile, &f.Keyfile)
	t.tlsVersion("tls-min-version", &f.TLSMinVersion)
	t.tlsCiphers("tls-ciphers", &f.TLSCiphers)
	t.authorities("client-cafile", &f.ClientCAfile)
	if f.ClientCAfile != "" && f.Certfile == "" && t.isValid("certfile") {
		t.reject("client-cafile", "want certfile and keyfile too: only TLS has client certificates")
	}
	f.readToken(t)
	t.networks("allow", &f.Allow)
	t.boolean("fast-checks", &f.FastChecks)
	t.rejectUnknown()
}

func (f *Frontend) readToken(t *table) {
	t.text("token-file", &f.TokenFile)
	content, ok := t.loadFile("token-file", f.TokenFile)
	if !ok {
		return
	}
	f.Token = strings.TrimSpace(string(content))
	switch {
	case f.Token == "":
		t.reject("token-file", "want a file with a token, it is empty")
	case strings.ContainsFunc(f.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		t.reject("token-file", "want a file with one token of printable ASCII without blanks, it has other characters")
	}
}
