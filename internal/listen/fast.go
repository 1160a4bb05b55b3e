package listen

import (
	"net"
	"net/netip"
	"time"
)

// Answer answers a request, which is what the peer has sent so far: perhaps nothing.
// It appends to out the answer, after which the connection is closed. It returns nil
// for a request that it cannot answer, or would have to wait for. It must not wait,
// because all other connections wait for it, and must keep neither slice.
type Answer func(peer netip.AddrPort, request, out []byte) []byte

// maxRequest is how many bytes of a request are read; a request that fills them is
// not answered fast.
const maxRequest = 2 << 10

// maxLingering is how many answered connections may wait for their peers to close
// them. For one more the oldest is closed.
const maxLingering = 16

// FastFiles is how many files a listener made by Fast may have open: its own three,
// the connections that wait to be closed, and one connection twice while Accept
// returns it.
const FastFiles = 3 + maxLingering + 2

// Fast makes ln answer those connections that have sent their whole request before
// they are accepted, as HAProxy's checks have: Accept answers them itself
// and returns only the others, with all that they sent. An answered connection
// is closed at once, or, with linger > 0, after that time unless its peer closes
// it before: the side that closes first has to remember it for a minute (TIME_WAIT).
//
// Use the returned listener instead of ln, with one Accept at a time. On systems
// other than Linux, and for listeners that are not TCP's, it is ln itself.
func Fast(ln net.Listener, linger time.Duration, answer Answer) (net.Listener, error) {
	if tcp, ok := ln.(*net.TCPListener); ok {
		return newFast(tcp, linger, answer)
	}
	return ln, nil
}

// begun is a connection from which some bytes were read already.
type begun struct {
	net.Conn
	unread []byte
}

func (c *begun) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}
