package config

import (
	"math"
	"net/netip"
	"strings"
)

// Frontend is [frontend]: what answers checks over HTTP or HTTPS and, unless
// [operator] has an address of its own, everything else.
type Frontend struct {
	// Host ("host") is the name or IP address to listen on; "" means all addresses.
	// Default "localhost".
	Host string

	// Port ("port") is the TCP port to listen on; 0 lets the system choose.
	// Default 8009.
	Port int

	// Certfile and Keyfile ("certfile", "keyfile") are PEM files, with which the
	// frontend speaks HTTPS; both or neither. Default "": HTTP.
	Certfile, Keyfile string

	// TLSMinVersion ("tls-min-version") is the lowest TLS version, TLSv1.0 to
	// TLSv1.3, as a constant of crypto/tls. Default TLSv1.2.
	TLSMinVersion uint16

	// TLSCiphers ("tls-ciphers") are the cipher suites up to TLS 1.2, in the file by
	// their names in crypto/tls. The file may name suites of TLS 1.3, too; they are
	// left out here: Go always has all of them. Default empty: Go's choice.
	TLSCiphers []uint16

	// ClientCAfile ("client-cafile") is a PEM file of authorities; every client has
	// to present a certificate that one of them signed. Default "": no certificate.
	ClientCAfile string

	// TokenFile ("token-file") holds the bearer token for /node/{node}/leaving, and
	// Token is that token. Default "": the route is off.
	TokenFile, Token string

	// Allow ("allow") lists the networks that may connect, to HTTP and to agents,
	// as CIDRs or IP addresses. Default empty: everybody.
	Allow []netip.Prefix

	// FastChecks ("fast-checks") gives fast answers to plain checks, over HTTP and of
	// agents. They are the same answers at about half the cost. Default true.
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
