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
	wake  chan struct{} // says that the next poll may be due earlier
	first chan struct{} // closed when the first poll is back, or nobody watches it any more

	promise atomic.Pointer[promise] // of its poll loop; nil while that does not run
	loop    *loop                   // guarded by the Supervisor's mu; nil before Run

	// The rest is guarded by the group's mu.
	cfg        NodeConfig
	gone       bool // not watched any more: what a last poll brings is dropped
	polled     bool
	entry      cache.Entry[node.Report]
	inflight   time.Time // when the poll that is under way began; zero = none
	began      time.Time // the last poll
	ended      time.Time
	jitter     float64
	timeouts   int   // in a row
	blips      int   // 503 in a row of an incumbent that still runs as primary
	position   int64 // of the primary, known when the poll under way began
	lag        int64
	receiveLag int64
	lagging    hold
	behind     hold
	refused    string
	since      time.Time
	claiming   bool // in the latest election
	leaving    leaving
	samples    samples
	beaten     bool // its claim lost to another's while it was silent: no claim until it answers again
}

func newTracked(g *group, cfg NodeConfig) *tracked {
	return &tracked{
		name: cfg.Name, group: g, cfg: cfg, wake: make(chan struct{}, 1), first: make(chan struct{}),
		position: -1, lag: -1, receiveLag: -1,
	}
}

// judgeWithin bounds how long a dispute waits for a claimant whose poll is under
// way. It may be short: who is judged silent and then answers is judged again.
const judgeWithin = 500 * time.Millisecond

// overdue reports whether the poll under way takes suspiciously long.
func (n *tracked) overdue(now time.Time) bool {
	return !n.inflight.IsZero() && now.Sub(n.inflight) >= judgeWithin
}

// held reports whether the latest answer, a 503, is not believed yet.
func (n *tracked) held() bool { return n.blips > 0 && n.blips < n.cfg.Fall }
