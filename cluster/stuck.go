package cluster

import (
	"fmt"
	"time"
)

// stuckAfter is how late a poll loop may be: a machine that is busy is no reason
// to be restarted.
const stuckAfter = 5 * time.Second

// promise is what a poll loop does, and when it is to be done with that.
type promise struct {
	doing string
	until time.Time
}

func (n *tracked) promises(doing string, within time.Duration) {
	n.promise.Store(&promise{doing, time.Now().Add(within)})
}

// Stuck names a poll loop that should have turned five seconds ago or earlier,
// given its interval, its backoff and its timeout; nil while all of them turn,
// before Run and after it. It takes no lock, so it tells of loops that wait for
// one, too.
func (s *Supervisor) Stuck(now time.Time) error {
	for _, r := range s.watched.Load().rosters {
		for _, n := range r.nodes {
			if p := n.promise.Load(); p != nil && now.Sub(p.until) >= stuckAfter {
				return fmt.Errorf("watching %q of cluster %q: stuck in %s: %s over its time", n.name, r.group.name, p.doing, now.Sub(p.until).Round(time.Millisecond))
			}
		}
	}
	return nil
}
