package cluster

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"patroniglue/node"
)

// suspendedAtLeast is the shortest time that counts as a suspension. The two clocks
// that show one are never read at quite the same moment.
const suspendedAtLeast = time.Second

// suspension detects that the machine was suspended, so that answers from before are
// no longer believed. Ages are counted on the monotonic clock, which stands still
// during a suspension: an answer from hours ago would be believed for the rest of its
// TTL.
type suspension struct {
	total func() time.Duration // as Config.Suspended; nil = never
	known atomic.Int64         // the part of total that awake has handled, in nanoseconds
	ended time.Time            // when the latest suspension was noticed, zero = never; guarded by the group's mu
}

// gap returns how long the machine was suspended since awake last handled a
// suspension; 0 for less than suspendedAtLeast.
func (s *suspension) gap() time.Duration {
	if s.total == nil {
		return 0
	}
	gap := s.total() - time.Duration(s.known.Load())
	if gap < suspendedAtLeast {
		return 0
	}
	return gap
}

// suspendedError is the reason why answers were forgotten.
type suspendedError struct{ gap time.Duration }

func (e suspendedError) Error() string {
	return fmt.Sprintf("forgotten: the machine was suspended for %s", e.gap.Round(time.Second))
}

// latest returns the view from which questions are answered.
func (r *roster) latest() *View {
	r.group.awake()
	return r.view.Load()
}

// awake forgets all answers and polls all nodes at once if the machine was suspended
// since the last call.
func (g *group) awake() {
	if g.suspension.gap() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gap := g.suspension.gap()
	if gap == 0 {
		return // another goroutine has handled it
	}
	now := time.Now()
	for _, n := range g.nodes {
		g.known.End(n.name, suspendedError{gap})
		n.entry = g.known.Get(n.name)
	}
	old := g.view.Load()
	view := g.render(now, nil, g.elect(now))
	g.view.Store(view)
	g.suspension.ended = now
	g.suspension.known.Add(int64(gap)) // last, so that until now other goroutines wait for the lock
	g.hurryLocked(now)
	g.subs.publish(diff(old, view))
}

// spanned returns a failure for a poll that brought an answer but began before the
// machine was suspended, else nil.
func (s *suspension) spanned(began time.Time) error {
	if s.ended.IsZero() || began.After(s.ended) {
		return nil
	}
	return &node.Failure{Kind: node.KindOther, Err: errors.New("the machine was suspended during the poll")}
}
