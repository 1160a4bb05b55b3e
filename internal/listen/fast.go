package listen

import (
	"net"
	"net/netip"
	"time"
)

// Answer answers a connection's first bytes, of which there may be none yet: it appends to out what is written
// before the connection is closed. nil is for what it cannot answer, or not at
// once. It never waits, for it holds up all others, and keeps neither slice.
type Answer func(peer netip.AddrPort, first, out []byte) []byte

// maxQuick is how many first bytes are looked at; more are never answered.
const maxQuick = 2 << 10

// maxLast is how many connections, answered, wait for their peer to close: one
// more, and the oldest is closed.
const maxLast = 16

// QuickFiles is how many files a listener of Quick's may have open: its own, what
// waits, and a connection twice while Accept returns it.
const QuickFiles = 3 + maxLast + 2

// Quick gives ln a short way for connections that have sent their whole question
// when they are accepted, as those of HAProxy's checks have: Accept answers them itself
// and returns only the others, to which nothing has happened. A connection that was
// answered is closed at once, or with linger > 0 after that time, if its peer has
// not closed it before: who closes first has to remember it for a minute (TIME_WAIT).
//
// What Quick returns is to be used instead of ln, by one Accept at a time. Where
// there is no short way, on anything but Linux and for listeners that are not TCP's,
// that is ln.
func Quick(ln net.Listener, linger time.Duration, answer Answer) (net.Listener, error) {
	if tcp, ok := ln.(*net.TCPListener); ok {
		return newQuick(tcp, linger, answer)
	}
	return ln, nil
}

// begun is a connection of which some bytes were read already.
type begun struct {
	net.Conn
	first []byte
}

func (c *begun) Read(b []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}
