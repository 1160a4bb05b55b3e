package node

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

// An authority that ends before the certificates that it signed takes them along.
// An old one that is still sent, for old clients, does not matter to us.
func TestCertificateEnds(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	until := func(days ...int) (chain []*x509.Certificate) {
		for _, day := range days {
			chain = append(chain, &x509.Certificate{NotAfter: at(day)})
		}
		return chain
	}
	for _, tt := range []struct {
		name string
		s    *tls.ConnectionState
		want time.Time
	}{
		{"no TLS", nil, time.Time{}},
		{"nothing shown", &tls.ConnectionState{}, time.Time{}},
		{"not verified", &tls.ConnectionState{PeerCertificates: until(20, 5)}, at(20)},
		{"verified", &tls.ConnectionState{PeerCertificates: until(20), VerifiedChains: [][]*x509.Certificate{until(20, 25)}}, at(20)},
		{"the authority ends first", &tls.ConnectionState{PeerCertificates: until(20), VerifiedChains: [][]*x509.Certificate{until(20, 25, 10)}}, at(10)},
		{"two chains", &tls.ConnectionState{PeerCertificates: until(20, 25, 5), VerifiedChains: [][]*x509.Certificate{until(20, 25, 5), until(20, 25, 18)}}, at(18)},
	} {
		if got := certificateEnds(tt.s); !got.Equal(tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
