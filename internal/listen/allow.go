package listen

import (
	"net"
	"net/netip"
	"slices"
)

// Allows reports whether one of the networks has the address, as the IPv4 address
// that it is where it is one, and without its zone, which no network has. No
// networks allow all.
func Allows(networks []netip.Prefix, peer netip.Addr) bool {
	if len(networks) == 0 {
		return true
	}
	peer = peer.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// AllowsPeer is Allows for a connection's peer; with networks, one that has no
// address of TCP is none of theirs.
func AllowsPeer(networks []netip.Prefix, peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return len(networks) == 0
	}
	return Allows(networks, tcp.AddrPort().Addr())
}
