package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

var tlsVersions = map[string]uint16{
	"TLSv1.0": tls.VersionTLS10,
	"TLSv1.1": tls.VersionTLS11,
	"TLSv1.2": tls.VersionTLS12,
	"TLSv1.3": tls.VersionTLS13,
}

// tlsVersion reads the name of a version of TLS.
func (t *table) tlsVersion(key string, p *uint16) {
	var s string
	t.text(key, &s)
	if s == "" || !t.isValid(key) {
		return
	}
	if version, ok := tlsVersions[s]; ok {
		*p = version
		return
	}
	if strings.HasPrefix(strings.ToLower(s), "sslv3") {
		t.reject(key, "want TLSv1.0 or higher, Go has no SSLv3")
		return
	}
	t.reject(key, "want TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3")
}

// tlsCiphers reads the names of cipher suites. Those that cannot be chosen, which are
// the suites of TLS 1.3 and one that is only a signal, get a note and are left out:
// patroniglue 1.x had them in its list.
func (t *table) tlsCiphers(key string, p *[]uint16) {
	// Names that crypto/tls had before Go 1.14, when patroniglue 1.x was built.
	ids := map[string]uint16{
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	var names []string
	withoutEffect := []string{"TLS_FALLBACK_SCSV"}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.Equal(suite.SupportedVersions, []uint16{tls.VersionTLS13}) {
			withoutEffect = append(withoutEffect, suite.Name)
			continue
		}
		ids[suite.Name] = suite.ID
		names = append(names, suite.Name)
	}

	t.texts(key, "cipher suites", func(path, s string) {
		id, ok := ids[s]
		switch {
		case ok:
			*p = append(*p, id)
		case slices.Contains(withoutEffect, s):
			t.addNote(path, "%s has no effect, Go does not let it be chosen", s)
		default:
			t.addMistake(path, "want one of %s (got %s)", strings.Join(names, ", "), showValue(s))
		}
	})
}

// keyPair reads certfile and keyfile and, if one of them is given here, checks that
// they fit together.
func (t *table) keyPair(certFile, keyFile *string) {
	t.text("certfile", certFile)
	t.text("keyfile", keyFile)
	if !t.has("certfile") && !t.has("keyfile") || !t.isValid("certfile") || !t.isValid("keyfile") {
		return
	}
	if !t.bothOrNeither("certfile", *certFile, "keyfile", *keyFile) {
		return
	}
	cert, ok := t.loadFile("certfile", *certFile)
	key, okKey := t.loadFile("keyfile", *keyFile)
	if !ok || !okKey {
		return
	}
	if isEncrypted(key) {
		t.reject("keyfile", fmt.Sprintf("want a key without a password, this one is encrypted: openssl pkey -in %s -out NEW", *keyFile))
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.addMistake(t.pathOf("certfile"), "want a certificate and its key in PEM: %v (got %s and %s)", err, showValue(*certFile), showValue(*keyFile))
	}
}

// isEncrypted reports whether a password is needed to read a key in PEM: in PKCS #8 the
// block's name says so, in OpenSSL's older form a header.
func isEncrypted(key []byte) bool {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
}

// bothOrNeither reports whether both keys have a value or neither has one; else it
// adds a mistake.
func (t *table) bothOrNeither(key1, value1, key2, value2 string) bool {
	if (value1 == "") == (value2 == "") {
		return true
	}
	missing, alone := key2, key1
	if value1 == "" {
		missing, alone = key1, key2
	}
	t.addMistake(t.pathOf(missing), "want %s and %s or neither (got %s alone)", key1, key2, alone)
	return false
}

// authorities reads the path of a file of certificates in PEM, and checks that file.
func (t *table) authorities(key string, p *string) {
	t.text(key, p)
	if !t.has(key) {
		return
	}
	if pem, ok := t.loadFile(key, *p); ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		t.reject(key, "want certificates in PEM")
	}
}

// loadFile reads the file that key names. It reports false if path is "", or if there
// is a mistake at key.
func (t *table) loadFile(key, path string) ([]byte, bool) {
	if path == "" || !t.isValid(key) {
		return nil, false
	}
	data, err := t.readFile(path)
	if err != nil {
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			err = at.Err // the message below has the path already
		}
		t.addMistake(t.pathOf(key), "want a file that can be read: %v (got %s)", err, showValue(path))
		return nil, false
	}
	return data, true
}
