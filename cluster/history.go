package cluster

import (
	"cmp"
	"slices"
	"time"
)

// DefaultHistory is how many changes are kept where nothing else is configured:
// some hundred kB for each thousand.
const DefaultHistory = 10000

// history keeps the latest changes. It is guarded by the mutex of subscribers,
// so ids are in the order in which subscribers hear of changes.
type history struct {
	size    int
	changes []Change // oldest first, at most twice size; readers keep parts of it: it is appended to or replaced
	last    uint64   // the id given out last
	dropped bool     // changes that were older are gone
}

// newHistory begins with an id that no earlier run gave out, unless that saw
// more than a change a millisecond: the start in milliseconds since 1970. So an
// id that is not known any more is never taken for another change.
func newHistory(size int) history {
	return history{size: size, last: uint64(time.Now().UnixMilli())}
}

// add gives c the next id and keeps it.
func (h *history) add(c *Change) {
	h.last++
	c.ID = h.last
	if len(h.changes) >= 2*h.size {
		h.changes = slices.Clone(h.latest())
	}
	h.changes = append(h.changes, *c)
	h.dropped = h.dropped || len(h.changes) > h.size
}

// resize keeps so many from now on; what was dropped already stays so.
func (h *history) resize(size int) {
	if size == h.size {
		return
	}
	h.dropped = h.dropped || len(h.changes) > size
	h.size, h.changes = size, slices.Clone(h.changes[max(0, len(h.changes)-size):])
}

func (h *history) latest() []Change {
	return slices.Clip(h.changes[max(0, len(h.changes)-h.size):])
}

// Restore puts in what an earlier run kept, oldest first and with growing ids;
// incomplete says that it kept more. Only before Run.
func (s *Supervisor) Restore(changes []Change, incomplete bool) {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	h := &s.subs.history
	h.changes = slices.Clone(changes[max(0, len(changes)-h.size):])
	h.dropped = incomplete || len(changes) > h.size
	if n := len(changes); n > 0 {
		h.last = max(h.last, changes[n-1].ID)
	}
}

// kept gives what readers need, which nobody changes any more.
func (s *Supervisor) kept() (changes []Change, last uint64, dropped bool) {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	return s.subs.history.latest(), s.subs.history.last, s.subs.history.dropped
}

// Filter picks changes. Its zero value picks all.
type Filter struct {
	Cluster, Node string    // "" = any
	Since         time.Time // not before it
	After         uint64    // only ids above it
	Limit         int       // the newest so many; 0 = no limit
}

// Picks reports whether c is of the filter's cluster and node.
func (f *Filter) Picks(c *Change) bool {
	return (f.Cluster == "" || c.Cluster == f.Cluster) && (f.Node == "" || c.Node == f.Node)
}

// History is what changed, as far as it is kept.
type History struct {
	Changes   []Change `json:"changes"`   // oldest first
	Truncated bool     `json:"truncated"` // older ones that fit are left out by the limit, or may have been dropped
	LastID    uint64   `json:"last_id"`   // the id given out last, whether or not that change is here
}

// History gives the changes that f picks. A name that is neither configured nor
// kept is an [*UnknownError].
func (s *Supervisor) History(f Filter) (History, error) {
	kept, last, dropped := s.kept()
	if err := s.known(f, kept); err != nil {
		return History{}, err
	}
	h := History{Changes: []Change{}, LastID: last}
	if dropped && len(kept) > 0 {
		h.Truncated = f.After+1 < kept[0].ID && f.Since.Before(kept[0].At)
	}
	for i := len(kept) - 1; i >= 0 && kept[i].ID > f.After; i-- {
		if c := &kept[i]; f.Picks(c) && !c.At.Before(f.Since) {
			if f.Limit > 0 && len(h.Changes) == f.Limit {
				h.Truncated = true
				break
			}
			h.Changes = append(h.Changes, *c)
		}
	}
	slices.Reverse(h.Changes)
	return h, nil
}

// Knows reports an [*UnknownError] for a name of f that is neither configured nor
// kept.
func (s *Supervisor) Knows(f Filter) error {
	kept, _, _ := s.kept()
	return s.known(f, kept)
}

// known: a name that was restored may not be configured any more.
func (s *Supervisor) known(f Filter, kept []Change) error {
	w := s.watched.Load()
	if f.Cluster != "" && w.byName[f.Cluster] == nil &&
		!slices.ContainsFunc(kept, func(c Change) bool { return c.Cluster == f.Cluster }) {
		return &UnknownError{"cluster", f.Cluster, w.clusterNames(), w.pending}
	}
	if f.Node != "" && w.byNode[f.Node] == nil &&
		!slices.ContainsFunc(kept, func(c Change) bool { return c.Node == f.Node }) {
		return &UnknownError{"node", f.Node, w.nodeNames(), w.pending}
	}
	return nil
}

// After gives the changes since the one with this id, oldest first, and the id
// given out last. It is complete when none of those in between was dropped.
func (s *Supervisor) After(id uint64) (changes []Change, last uint64, complete bool) {
	kept, last, _ := s.kept()
	i, _ := slices.BinarySearchFunc(kept, id+1, func(c Change, id uint64) int { return cmp.Compare(c.ID, id) })
	complete = id == last || i < len(kept) && kept[i].ID == id+1 || i > 0 && kept[i-1].ID == id
	return kept[i:], last, complete
}
