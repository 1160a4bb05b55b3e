package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// verifyChain verifies that one of the authorities, nil for the system's, signed the
// certificates that a member shows, but not which names they have.
func verifyChain(authorities *x509.CertPool, shown []*x509.Certificate) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{Roots: authorities, Intermediates: x509.NewCertPool()}
	for _, c := range shown[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := shown[0].Verify(options)
	if err != nil {
		return nil, &tls.CertificateVerificationError{UnverifiedCertificates: shown, Err: err}
	}
	return chains, nil
}

// wrongName says which names a certificate has, and which keys of the configuration
// help: Patroni announces IP addresses, and many certificates have names only.
func wrongName(e *x509.HostnameError) error {
	c := e.Certificate
	names := slices.Clone(c.DNSNames)
	if len(names) == 0 || net.ParseIP(e.Host) != nil {
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
	}
	const verification = "tls: failed to verify certificate: x509: "
	if len(names) == 0 {
		return fmt.Errorf(verification+`certificate has no names, not even %s (a common name does not count): want verify = "ca", or a certificate with names`, e.Host)
	}
	name := `"NAME"`
	if i := slices.IndexFunc(names, func(s string) bool { return !strings.HasPrefix(s, "*") }); i >= 0 {
		name = fmt.Sprintf("%q", names[i])
	}
	const most = 5
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf(verification+`certificate is valid for %s, not %s: want server-name = %s, or verify = "ca"`, strings.Join(names, ", "), e.Host, name)
}

// certificateEnds returns until when a member that shows these certificates is
// accepted: as long as one chain to a trusted authority is valid, which ends with the
// first of its certificates that ends. A certificate that was sent but is in no chain
// does not count. Where nothing is verified it is the end of the member's own
// certificate. It is zero without TLS.
func certificateEnds(s *tls.ConnectionState) time.Time {
	if s == nil || len(s.PeerCertificates) == 0 {
		return time.Time{}
	}
	if len(s.VerifiedChains) == 0 {
		return s.PeerCertificates[0].NotAfter
	}
	var longest time.Time
	for _, chain := range s.VerifiedChains {
		if ends := chainEnds(chain); ends.After(longest) {
			longest = ends
		}
	}
	return longest
}

func chainEnds(chain []*x509.Certificate) time.Time {
	ends := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(ends) {
			ends = c.NotAfter
		}
	}
	return ends
}
