package listen

import (
	"container/list"
	"net"
	"sync"
)

// Pool bounds how many connections are open, and refuses none: when a new one is one
// too many, the pool closes the connection that has been idle for longest, that is,
// for which most time has passed since it was opened or an answer was written to it.
// So every client can connect, however many unused connections others hold. A Pool
// has no goroutine.
type Pool struct {
	mu       sync.Mutex // guards the rest
	max      int
	open     list.List // of *conn; the one to close next is in front
	overflow uint64
}

// NewPool makes a pool of at most max connections, and at least one.
func NewPool(max int) *Pool { return &Pool{max: max} }

// SetMax replaces max. Connections beyond it are closed when the next one is added.
func (p *Pool) SetMax(max int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.max = max
}

// Add adds a connection, and closes others when there are too many. Use the returned
// connection instead of c; closing it removes it from the pool.
func (p *Pool) Add(c net.Conn) net.Conn {
	in := &conn{Conn: c, pool: p}
	for _, idle := range p.insert(in) {
		idle.Conn.Close() // its owner gets an error, and closes it once more
	}
	return in
}

// insert adds a connection, and removes and returns those that have to be closed for it.
func (p *Pool) insert(in *conn) (idle []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.open.Len() > 0 && p.open.Len() >= p.max {
		idle = append(idle, p.open.Remove(p.open.Front()).(*conn))
		p.overflow++
	}
	in.place = p.open.PushBack(in)
	return idle
}

// Open returns how many connections are open.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open.Len()
}

// Overflowed returns how many connections were closed because there were too many.
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

// Write also makes this connection the last one to be closed.
func (c *conn) Write(b []byte) (int, error) {
	c.pool.mu.Lock()
	c.pool.open.MoveToBack(c.place)
	c.pool.mu.Unlock()
	return c.Conn.Write(b)
}

// Close also removes the connection from the pool.
func (c *conn) Close() error {
	c.pool.mu.Lock()
	c.pool.open.Remove(c.place)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}
