package config

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// cipherNames are the names that are wanted instead of an unknown cipher suite.
func cipherNames() string {
	var names []string
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if s.SupportedVersions[0] != tls.VersionTLS13 {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}

func TestTLSMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"certfile alone", "frontend.certfile = 'a.crt'", `frontend.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"keyfile alone", "frontend.keyfile = 'a.key'", `frontend.certfile: want certfile and keyfile or neither (got keyfile alone)`},
		{"certfile missing", "frontend.certfile = 'no.crt'\nfrontend.keyfile = 'a.key'", `frontend.certfile: want a file that can be read: file does not exist (got "no.crt")`},
		{"keyfile missing", "frontend.certfile = 'a.crt'\nfrontend.keyfile = 'no.key'", `frontend.keyfile: want a file that can be read: file does not exist (got "no.key")`},
		{"wrong key", "frontend.certfile = 'a.crt'\nfrontend.keyfile = 'b.key'", `frontend.certfile: want a certificate and its key in PEM: tls: private key does not match public key (got "a.crt" and "b.key")`},
		{"SSLv3", "frontend.tls-min-version = 'SSLv3.0'", `frontend.tls-min-version: want TLSv1.0 or higher, Go has no SSLv3 (got "SSLv3.0")`},
		{"version", "frontend.tls-min-version = '1.2'", `frontend.tls-min-version: want TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3 (got "1.2")`},
		{"cipher", "frontend.tls-ciphers = ['AES']", `frontend.tls-ciphers[1]: want one of ` + cipherNames() + ` (got "AES")`},
		{"ciphers no list", "frontend.tls-ciphers = 'AES'", `frontend.tls-ciphers: want a list of cipher suites (got "AES")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

// The key of a daemon has no password: nobody is there to type it.
func TestEncryptedKey(t *testing.T) {
	files := harness.NewFiles(t)
	maps.Copy(files, harness.Files{
		"pkcs8.key":   "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"openssl.key": "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAA=\n-----END EC PRIVATE KEY-----\n",
	})
	for _, table := range []string{"frontend", "backend", "discovery"} {
		for _, key := range []string{"pkcs8.key", "openssl.key"} {
			text := "[discovery]\netcd = ['https://10.0.0.1:2379']\n"
			if table != "discovery" {
				text += "[" + table + "]\n"
			}
			_, err := parseTOML([]byte(text+"certfile = 'a.crt'\nkeyfile = '"+key+"'"+harness.OneNode), files.Read)
			want := fmt.Sprintf(`%s.keyfile: want a key without a password, this one is encrypted: openssl pkey -in %s -out NEW (got %q)`, table, key, key)
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}
