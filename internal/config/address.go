package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// host reads a host name or an IP address without brackets. It accepts "", which the
// caller judges.
func (t *table) host(key string, p *string) {
	s := *p
	t.text(key, &s)
	if !t.isValid(key) {
		return
	}
	if !ValidHost(s) {
		t.reject(key, "want a host name or an IP address, nothing more")
		return
	}
	*p = s
}

// ValidHost reports whether s can be a host name, an IP address without brackets or "".
func ValidHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return !strings.ContainsAny(s, "*:/[]@?#%\\\"<>|^`{} \t\r\n\x00")
}

// listenAddress reads a host:port, a :port or "".
func (t *table) listenAddress(key string, p *string) {
	s := *p
	t.text(key, &s)
	if !t.isValid(key) {
		return
	}
	if s != "" {
		if _, _, err := SplitAddress(s); err != nil {
			t.reject(key, `want host:port or :port, such as ":5555"`)
			return
		}
	}
	*p = s
}

// SplitAddress splits host:port and :port. The port may be the name of a service, such
// as "http".
func SplitAddress(addr string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	if !ValidHost(host) {
		return "", 0, fmt.Errorf("host %q", host)
	}
	if n, err := strconv.ParseUint(service, 10, 16); err == nil {
		return host, int(n), nil
	}
	if !word.MatchString(service) {
		return "", 0, fmt.Errorf("port %q", service)
	}
	port, err = net.LookupPort("tcp", service)
	return host, port, err
}

// networks reads CIDRs and IP addresses.
func (t *table) networks(key string, p *[]netip.Prefix) {
	t.texts(key, "CIDRs", func(path, s string) {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			addr = addr.Unmap()
			if addrErr == nil && addr.Zone() == "" {
				prefix, err = addr.Prefix(addr.BitLen())
			}
		}
		if err != nil {
			t.addMistake(path, `want a CIDR or an IP address, such as "10.0.0.0/8" (got %s)`, showValue(s))
			return
		}
		if ip := prefix.Addr(); ip.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96) // so are the addresses of clients compared
		}
		*p = append(*p, prefix.Masked())
	})
}
