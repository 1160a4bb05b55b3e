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
	Allow   []netip.Prefix    // addresses that may be polled; empty = all but those that every machine has. The dialer checks it again, because a name may resolve to any address
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

// resolve sets where m is polled, or its Problem, and where its PostgreSQL is.
func (r *Rules) resolve(m *Member) {
	m.API, m.Postgres = nil, ""
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
	} else {
		if r.isOwn(host) {
			m.Problem = fmt.Sprintf("%s is not asked: %s; want restapi.connect_address in Patroni's configuration to be an address that others reach, or this one in discovery.allow", u.Host, r.whyOwn())
			return
		}
		if r.APIPort != "" {
			u.Host = joinHostPort(host, r.APIPort)
		}
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !r.Allows(ip) {
		m.Problem = fmt.Sprintf("%s is not asked: it is not in discovery.allow", u.Host)
		return
	}
	m.API = &u
	if host, _, err := net.SplitHostPort(m.conn); err == nil && r.isOwn(host) {
		m.Problem = cmp.Or(m.Problem, fmt.Sprintf("%s is not its PostgreSQL: %s; want postgresql.connect_address in Patroni's configuration to be an address that others reach, or this one in discovery.allow", m.conn, r.whyOwn()))
		return
	}
	m.Postgres = m.conn
}

func (r *Rules) whyOwn() string {
	const why = "every machine has this address"
	if len(r.Allow) > 0 {
		return "it is not in discovery.allow, and " + why
	}
	return why
}

// isOwn reports whether host is an address that leads every machine to itself, such as
// 127.0.0.1, and that Allow does not name. A member that announces it is not the one
// that answers there, unless it is on this machine.
func (r *Rules) isOwn(host string) bool {
	addresses := []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name != "localhost" && !strings.HasSuffix(name, ".localhost") {
		ip, err := netip.ParseAddr(host)
		if err != nil || !isOwnAddress(ip) {
			return false
		}
		addresses = []netip.Addr{ip.Unmap().WithZone("")}
	}
	return !slices.ContainsFunc(r.Allow, func(p netip.Prefix) bool {
		named := isOwnAddress(p.Addr()) && p.Bits() > 0 // 0.0.0.0/0 is everything, and names nothing
		return named && slices.ContainsFunc(addresses, p.Contains)
	})
}

func isOwnAddress(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsUnspecified()
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
