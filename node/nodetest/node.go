package nodetest

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options configure the members. The functions NewCluster and NewNode use the zero value.
type Options struct {
	Version string         // of Patroni: in full ("3.0.2"), a series ("3.3") or "master"; "" is DefaultVersion
	Config  map[string]any // the dynamic configuration; nil is Patroni's default (ttl 30, loop_wait 10, ...)
	History []Promotion    // of /history, before anything happens here
	TLS     *tls.Config    // serve https with it

	// Listen opens a member's port; nil is net.Listen. See Net for one in memory.
	Listen func(network, addr string) (net.Listener, error)
	// Addr gives the address where a member listens; nil, like "", is a free port of 127.0.0.1.
	Addr func(name string) string

	// Workers is how many connections a member serves at a time, idle ones included; further connections are accepted and
	// wait. Releases from 4.1.1, 4.0.8 and 3.3.9 on have 5 (#3526). 0 is no limit, as in older ones.
	Workers int
}

// Node is a simulated member: a listener, a State and a Fault. Its methods may be called by many goroutines at once.
type Node struct {
	name    string
	cluster *Cluster
	options Options
	scheme  string

	workers chan struct{} // holds a token per request in work; nil is no limit
	done    chan struct{} // closed by Close
	wg      sync.WaitGroup

	mu       sync.Mutex // guards what follows
	addr     string     // fixed once the first listener is open
	ln       net.Listener
	closed   bool
	fault    Fault
	delay    time.Duration
	changed  chan struct{} // closed and replaced when the fault changes
	conns    map[net.Conn]struct{}
	counters counters
}

// counters count requests and connections.
type counters struct {
	requests      map[string]int // by path, without query
	total         int
	accepted      int
	open, maxOpen int
}

func newNode(c *Cluster, name string, o Options) *Node {
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	n := &Node{
		name: name, cluster: c, options: o, scheme: "http",
		done:    make(chan struct{}),
		addr:    "127.0.0.1:0",
		changed: make(chan struct{}),
		conns:   map[net.Conn]struct{}{},
	}
	n.counters.requests = map[string]int{}
	if o.TLS != nil {
		n.scheme = "https"
	}
	if o.Workers > 0 {
		n.workers = make(chan struct{}, o.Workers)
	}
	if o.Addr != nil {
		if addr := o.Addr(name); addr != "" {
			n.addr = addr
		}
	}
	if err := n.open(); err != nil {
		panic(fmt.Sprintf("nodetest: opening a port for %q: %v", name, err))
	}
	return n
}

// NewNode starts a single member in state s: a cluster of its own, of which it holds the leader key if it has the lock.
// Close it with Close.
func (o Options) NewNode(s State) *Node {
	if o.Version != "" {
		s.Version = o.Version
	}
	return o.newCluster(s.Scope, s).nodes[0]
}

// NewNode starts a single member with default options.
func NewNode(s State) *Node { return Options{}.NewNode(s) }

// Name is the member's name.
func (n *Node) Name() string { return n.name }

// Addr is the host:port where it listens, and where it will listen again after Refuse.
func (n *Node) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

// URL is the base URL, without a slash at the end.
func (n *Node) URL() string { return n.scheme + "://" + n.Addr() }

// State is a copy of the current state.
func (n *Node) State() State { return n.cluster.now.Load().members[n.name].clone() }

// Set changes the state: f gets a copy, which takes effect as a whole when f returns. One change at a time is made, so f must
// not make another one. Answers do not wait for changes.
func (n *Node) Set(f func(*State)) {
	n.cluster.change(func(w *world) { f(w.members[n.name]) })
}

// SetLag makes the replica lag: it has received everything and replayed all but the last bytes.
func (n *Node) SetLag(bytes int64) {
	n.cluster.change(func(w *world) {
		s, lsn := w.members[n.name], w.position()
		s.Received, s.Replayed = new(lsn), new(lsn-bytes)
	})
}

// Requests is how many requests for the path there were, with any query and method.
func (n *Node) Requests(path string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counters.requests[path]
}

// Total is how many requests there were.
func (n *Node) Total() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counters.total
}

// Accepted is how many connections there were, those without a request included.
func (n *Node) Accepted() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counters.accepted
}

// Open is how many connections are open: accepted, and neither answered nor closed by the client.
func (n *Node) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counters.open
}

// MaxOpen is the largest number of connections that were open at the same time.
func (n *Node) MaxOpen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counters.maxOpen
}

// ResetCounters sets the counters to 0, except that open connections stay counted.
func (n *Node) ResetCounters() {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := n.counters.open
	n.counters = counters{requests: map[string]int{}, open: open, maxOpen: open}
}

// Close ends a node that NewNode started: it closes the port and all connections and returns when every goroutine has ended.
// Members of a Cluster are closed by Cluster.Close; closing one of them alone leaves it refusing for good.
func (n *Node) Close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.done)
		n.dropLocked()
	}
	n.mu.Unlock()
	n.wg.Wait()
}
