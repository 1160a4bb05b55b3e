package node

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Address is where u leads, in one spelling: host:port, with the path of a member behind
// another supervisor. Two members at one address would be one member under two names.
func Address(u *url.URL) string {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	port := cmp.Or(strings.TrimLeft(u.Port(), "0"), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return net.JoinHostPort(host, port) + strings.TrimRight(u.EscapedPath(), "/")
}
