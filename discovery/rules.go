package discovery

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Rules say what becomes of an address.
type Rules struct {
	Scopes  []string          // of interest; empty = all
	Allow   []netip.Prefix    // that may be asked; empty = all. Who dials enforces it, too: names resolve to anything
	Rewrite map[string]string // from an announced host:port, or host, to what is asked instead
	APIPort string            // instead of the announced one where Rewrite has nothing; "" = as announced
}

// Allows reports whether an address may be asked.
func (r *Rules) Allows(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return len(r.Allow) == 0 || slices.ContainsFunc(r.Allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func (r *Rules) wants(scope string) bool {
	return len(r.Scopes) == 0 || slices.Contains(r.Scopes, scope)
}

// resolve finds where to ask m.
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
