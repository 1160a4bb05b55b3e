package discovery

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Rules say which scopes count and how an announced address is polled.
type Rules struct {
	Scopes  []string          // the only ones that count; empty = all
	Allow   []netip.Prefix    // addresses that may be polled; empty = all. The dialer checks it again, because a name may resolve to any address
	Rewrite map[string]string // from an announced host:port, or host, to the one that is polled instead
	APIPort string            // replaces the announced port where Rewrite has no entry; "" = as announced
}

// Allows reports whether an address may be polled.
func (r *Rules) Allows(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return len(r.Allow) == 0 || slices.ContainsFunc(r.Allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func (r *Rules) wants(scope string) bool {
	return len(r.Scopes) == 0 || slices.Contains(r.Scopes, scope)
}

// resolve sets where m is polled, or its Problem.
func (r *Rules) resolve(m *Member) {
	m.API = nil
	if m.announced == nil {
		return
	}
	m.Problem = m.document
	u := *m.announced
	host, port := u.Hostname(), u.Port()
	if to, ok := r.Rewrite[u.Host]; ok {
		u.Host = to
	} else if to, ok := r.Rewrite[host]; ok {
		u.Host = joinHostPort(to, cmp.Or(r.APIPort, port))
	} else if r.APIPort != "" {
		u.Host = joinHostPort(host, r.APIPort)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !r.Allows(ip) {
		m.Problem = fmt.Sprintf("%s is not asked: it is not in discovery.allow", u.Host)
		return
	}
	m.API = &u
}

func joinHostPort(host, port string) string {
	if port == "" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}
