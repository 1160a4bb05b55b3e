package cluster

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"patroniglue/node"
)

// suspendedAtLeast is what counts as a suspension: two clocks are never read at
// the same moment.
const suspendedAtLeast = time.Second

// suspension makes what was known before the machine was suspended count for
// nothing. Ages are counted on the monotonic clock, which stands still
// meanwhile: without this an answer from hours ago would be believed for the
// rest of its TTL.
type suspension struct {
	total func() time.Duration // as Config.Suspended; nil = never
	known atomic.Int64         // how much of total has been taken in, in nanoseconds
	ended time.Time            // guarded by the group's mu: the latest; zero = there was none
}

// gap is how long the machine was suspended since that was last taken in; 0 for
// too little to matter.
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

// suspendedError is why nothing is known any more.
type suspendedError struct{ gap time.Duration }

func (e suspendedError) Error() string {
	return fmt.Sprintf("forgotten: the machine was suspended for %s", e.gap.Round(time.Second))
}

// latest is the view to answer from.
func (r *roster) latest() *View {
	r.group.awake()
	return r.view.Load()
}

// awake forgets all that is known, and has it asked again, when the machine was
// suspended since the last call.
func (g *group) awake() {
	if g.suspension.gap() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gap := g.suspension.gap()
	if gap == 0 {
		return // another one was first
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
	g.suspension.known.Add(int64(gap)) // last: until here others wait
	g.hurryLocked(now)
	g.subs.publish(diff(old, view))
}

// spanned is the failure of a poll that brought an answer, but began before the
// machine was suspended; nil for others.
func (s *suspension) spanned(began time.Time) error {
	if s.ended.IsZero() || began.After(s.ended) {
		return nil
	}
	return &node.Failure{Kind: node.KindOther, Err: errors.New("the machine was suspended during the poll")}
}
