package listen

import (
	"net"
	"net/netip"
	"slices"
)

// Allows reports whether one of the networks contains the address. An IPv4 address
// that is mapped into IPv6 counts as the IPv4 address. A zone is ignored, as networks
// have none. An empty list allows every address.
func Allows(networks []netip.Prefix, peer netip.Addr) bool {
	if len(networks) == 0 {
		return true
	}
	peer = peer.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// AllowsPeer is Allows for a connection's peer. A peer whose address is not one of
// TCP is in no network: only an empty list allows it.
func AllowsPeer(networks []netip.Prefix, peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return len(networks) == 0
	}
	return Allows(networks, tcp.AddrPort().Addr())
}
