package listen

import (
	"net"
	"net/netip"
	"time"
)

// Answer answers a connection's first bytes, of which there may be none yet: it appends to out what is written
// before the connection is closed. nil is for what it cannot answer, or not at
// once. It never waits, for it holds up all others, and keeps neither slice.
type Answer func(peer netip.AddrPort, request, out []byte) []byte

// maxRequest is how many bytes of a request are read; a request that fills them is
// not answered fast.
const maxRequest = 2 << 10

// maxLast is how many connections, answered, wait for their peer to close: one
// more, and the oldest is closed.
const maxLast = 16

// FastFiles is how many files a listener made by Fast may have open: its own three,
// the connections that wait to be closed, and one connection twice while Accept
// returns it.
const FastFiles = 3 + maxLast + 2

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

// begun is a connection of which some bytes were read already.
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
