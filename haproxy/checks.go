package haproxy

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"

	"patroniglue/internal/config"
)

// supervisorHost is where HAProxy reaches what listens on host: beside it, when
// that says no more than "here".
func supervisorHost(host, override string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case override == "localhost":
		return "127.0.0.1"
	case override != "":
		return override
	case host == "" || host == "localhost" || err == nil && ip.IsUnspecified():
		return "127.0.0.1"
	}
	return host
}

// haproxyTLS is what HAProxy's checks know about certificates.
type checkTLS struct {
	ca, crt    string
	Unverified string // what would have to be given to verify a check that is not verified
}

func (t *checkTLS) checkSSL(host, ca string, unverified bool) string {
	options := " check-ssl verify required ca-file " + word(ca)
	if unverified {
		t.Unverified = "-ca FILE"
		options = " check-ssl verify none"
	} else if _, err := netip.ParseAddr(host); err != nil {
		options += " verifyhost " + word(host) // HAProxy compares names only, never IP addresses
	}
	if t.crt != "" {
		options += " crt " + word(t.crt)
	}
	return options
}

// direct is how HAProxy checks a node without the supervisor.
func (f *file) direct(n config.Node) (string, error) {
	host, port := n.URL.Hostname(), cmp.Or(n.URL.Port(), map[string]string{"http": "80", "https": "443"}[n.URL.Scheme])
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return "", fmt.Errorf("node %q: url: %w", n.Name, err)
	}
	options := fmt.Sprintf(" addr %s port %d", f.host(host), number)
	if n.URL.Scheme != "https" {
		return options, nil
	}
	if n.Certfile != "" && f.crt == "" {
		// Patroni may not require it, but a check that is refused looks like a dead node.
		return "", fmt.Errorf("node %q: certfile: want -crt FILE, as HAProxy takes certificate and key from one file", n.Name)
	}
	return options + f.checkSSL(host, cmp.Or(f.ca, n.CAfile, "@system-ca"), n.Insecure && f.ca == ""), nil
}
