package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// onlyTo keeps a dialer from all other addresses: a name that is announced may
// resolve to anything, and to something else each time.
func DialOnly(allow []netip.Prefix) func(network, address string, c syscall.RawConn) error {
	rules := Rules{Allow: allow}
	return func(_, address string, _ syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(address)
		if err == nil && rules.Allows(addr.Addr()) {
			return nil
		}
		host, _, _ := strings.Cut(address, "%")
		return fmt.Errorf("%s is not asked: it is not in discovery.allow", host)
	}
}
