package node

import (
	"crypto/tls"
	"crypto/x509"
	"net"
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

// The error of a wrong name says which names there are, and which key helps.
func TestWrongName(t *testing.T) {
	ip := net.IPv4(10, 0, 0, 11)
	for _, tt := range []struct {
		name, host string
		cert       x509.Certificate
		want       string
	}{
		{"an address, and names only", "10.0.0.11", x509.Certificate{DNSNames: []string{"pg1.lan", "pg1"}},
			`certificate is valid for pg1.lan, pg1, not 10.0.0.11: want server-name = "pg1.lan", or verify = "ca"`},
		{"another address", "10.0.0.12", x509.Certificate{DNSNames: []string{"pg1"}, IPAddresses: []net.IP{ip}},
			`certificate is valid for pg1, 10.0.0.11, not 10.0.0.12: want server-name = "pg1", or verify = "ca"`},
		{"a name, and addresses only", "pg1", x509.Certificate{IPAddresses: []net.IP{ip}},
			`certificate is valid for 10.0.0.11, not pg1: want server-name = "10.0.0.11", or verify = "ca"`},
		{"a pattern", "10.0.0.11", x509.Certificate{DNSNames: []string{"*.lan"}},
			`certificate is valid for *.lan, not 10.0.0.11: want server-name = "NAME", or verify = "ca"`},
		{"many", "pg0", x509.Certificate{DNSNames: []string{"pg1", "pg2", "pg3", "pg4", "pg5", "pg6", "pg7"}},
			`certificate is valid for pg1, pg2, pg3, pg4, pg5, 2 more, not pg0: want server-name = "pg1", or verify = "ca"`},
		{"none", "pg1", x509.Certificate{},
			`certificate has no names, not even pg1 (a common name does not count): want verify = "ca", or a certificate with names`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &tt.cert, Host: tt.host}}
			wantFailure(t, newFailure(err, time.Second), KindTLS, "tls: failed to verify certificate: x509: "+tt.want)
		})
	}
}
