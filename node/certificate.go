package node

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

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
