package client

import (
	"bytes"
	"crypto/tls"
	"fmt"

	"patroniglue/internal/config"
)

// pinned makes the TLS settings with which the certificate in certfile is trusted, and
// no other: it is on this very host, whatever names it has or lacks and whoever signed it.
func pinned(frontend *config.Frontend, certfile, keyfile string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certfile, keyfile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: frontend.TLSMinVersion, CipherSuites: frontend.TLSCiphers,
		Certificates:       []tls.Certificate{pair}, // where a client certificate is required, this one may be accepted
		InsecureSkipVerify: true,                    // VerifyConnection is stricter
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, pair.Certificate[0]) {
				return fmt.Errorf("the certificate there is not the one in %s", certfile)
			}
			return nil
		},
	}, nil
}
