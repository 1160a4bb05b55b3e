package cluster

import (
	"sync/atomic"
	"time"

	"patroniglue/cache"
	"patroniglue/node"
)

// tracked is one node as it is being watched.
type tracked struct {
	name  string        // read-only
	group *group        // read-only
	wake  chan struct{} // receives when the next poll may be due earlier
	first chan struct{} // closed when the first poll has ended, or the node was removed

	promise atomic.Pointer[promise] // of its poll loop; nil while that does not run
	loop    *loop                   // guarded by the Supervisor's mu; nil before Run

	// The rest is guarded by the group's mu.
	cfg        NodeConfig
	gone       bool // removed: the result of its last poll is dropped
	polled     bool
	entry      cache.Entry[node.Report]
	inflight   time.Time // when the poll that is under way began; zero = none
	began      time.Time // when the last poll began
	ended      time.Time // when it ended
	jitter     float64   // factor of the interval until the next poll
	timeouts   int       // in a row, of polls that may occupy a worker of Patroni
	named      bool      // something named it since its last poll began: its backoff ends
	hurried    time.Time // when a poll last began because of that
	blips      int       // answers 503 in a row of a leader that still runs as primary
	position   int64     // the primary's, in bytes, as known when the poll under way began; -1 = unknown
	lag        int64     // bytes, -1 = unknown
	receiveLag int64     // bytes, -1 = unknown
	lagging    hold
	behind     hold
	refused    string    // as Member.Refused
	heard      time.Time // when it was first heard of with its present identifier
	strange    []string  // identifiers with which it answered while a node of the cluster led with another one
	since      time.Time // as Member.Since
	claiming   bool      // in the latest election
	beside     bool      // in the latest election: it leads a standby cluster, and another node is a primary
	leaving    leaving
	samples    samples
	beaten     bool // it lost an election while it was silent: its claim does not count until it answers
}

func newTracked(g *group, cfg NodeConfig) *tracked {
	return &tracked{
		name: cfg.Name, group: g, cfg: cfg, wake: make(chan struct{}, 1), first: make(chan struct{}),
		position: -1, lag: -1, receiveLag: -1,
	}
}

// judgeWithin bounds how long an election between several claimants waits for a poll
// that is under way. It may be short: a node that was judged silent and then answers
// is judged again.
const judgeWithin = 500 * time.Millisecond

// overdue reports whether the poll under way takes suspiciously long.
func (n *tracked) overdue(now time.Time) bool {
	return !n.inflight.IsZero() && now.Sub(n.inflight) >= judgeWithin
}

// held reports whether the latest answer is a 503 that is not believed yet.
func (n *tracked) held() bool { return n.blips > 0 && n.blips < n.cfg.Fall }
