package cluster

import (
	"fmt"
	"time"
)

// stuckAfter is how late a poll loop may be. A busy machine must not be a reason to
// restart the program.
const stuckAfter = 5 * time.Second

// promise says what a poll loop is doing, and when it must have finished.
type promise struct {
	doing string
	until time.Time
}

func (n *tracked) setPromise(doing string, within time.Duration) {
	n.promise.Store(&promise{doing, time.Now().Add(within)})
}

// Stuck returns an error that names a poll loop which is five seconds late or more,
// given its interval, its backoff and its timeout. It returns nil while all loops
// turn, before Run and after it. It takes no lock, so it also finds loops that wait
// for one for ever.
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
