// Package listen bounds how many connections are open, and turns none away: one
// too many makes that one give way which was neither opened nor answered for
// longest. So whoever asks gets in, however many connections others hold and do
// not use.
package listen

import (
	"container/list"
	"net"
	"sync"
)

// Pool is a set of open connections. It has no goroutine.
type Pool struct {
	mu       sync.Mutex // guards the rest
	max      int
	open     list.List // of *conn; in front is who gives way next
	overflow uint64
}

// New makes a pool of at most max connections, and at least one.
func New(max int) *Pool { return &Pool{max: max} }

// SetMax replaces max; connections give way when the next one comes.
func (p *Pool) SetMax(max int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.max = max
}

// Add takes a connection in, and closes others when there are too many. What it
// returns is to be used instead of c, and leaves the pool when it is closed.
func (p *Pool) Add(c net.Conn) net.Conn {
	in := &conn{Conn: c, pool: p}
	for _, out := range p.exchange(in) {
		out.Conn.Close() // its owner sees an error, and closes it once more
	}
	return in
}

// exchange takes one in and those out that have to go for it.
func (p *Pool) exchange(in *conn) (out []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.open.Len() > 0 && p.open.Len() >= p.max {
		out = append(out, p.open.Remove(p.open.Front()).(*conn))
		p.overflow++
	}
	in.place = p.open.PushBack(in)
	return out
}

// Open returns how many connections are open.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open.Len()
}

// Overflowed returns how many connections had to give way.
func (p *Pool) Overflowed() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overflow
}

// conn is a connection of a pool.
type conn struct {
	net.Conn
	pool  *Pool
	place *list.Element // read-only; in the list until the connection is closed or displaced
}

// Write answers: all others give way before this one.
func (c *conn) Write(b []byte) (int, error) {
	c.pool.mu.Lock()
	c.pool.open.MoveToBack(c.place)
	c.pool.mu.Unlock()
	return c.Conn.Write(b)
}

// Close also leaves the pool.
func (c *conn) Close() error {
	c.pool.mu.Lock()
	c.pool.open.Remove(c.place)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}
