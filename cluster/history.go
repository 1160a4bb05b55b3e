package cluster

import (
	"cmp"
	"slices"
	"time"
)

// DefaultHistory is how many changes are kept where the configuration does not say.
// A thousand changes take some hundred kB.
const DefaultHistory = 10000

// history keeps the latest changes. It is guarded by the mutex of subscribers, so
// that subscribers get changes in the order of their ids.
type history struct {
	size    int
	changes []Change // oldest first, at most twice size; readers hold slices of it, so elements are never changed
	last    uint64   // the latest id
	dropped bool     // older changes were dropped
}

// newHistory begins with an id that no earlier run used: the milliseconds since
// 1970. (An earlier run would have needed more than a change per millisecond.) So the
// id of a change that was dropped never names another change.
func newHistory(size int) history {
	return history{size: size, last: uint64(time.Now().UnixMilli())}
}

// add gives c the next id and records it.
func (h *history) add(c *Change) {
	h.last++
	c.ID = h.last
	if len(h.changes) >= 2*h.size {
		h.changes = slices.Clone(h.latest())
	}
	h.changes = append(h.changes, *c)
	h.dropped = h.dropped || len(h.changes) > h.size
}

// resize sets how many changes are kept from now on.
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

// Restore fills the history with the changes of an earlier run, oldest first and
// with growing ids. incomplete says that older changes are missing. It may be called
// before Run only.
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

// keptChanges returns the history's changes, which are not modified any more, the
// latest id, and whether older changes were dropped.
func (s *Supervisor) keptChanges() (changes []Change, last uint64, dropped bool) {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	return s.subs.history.latest(), s.subs.history.last, s.subs.history.dropped
}

// Filter selects changes. Its zero value selects all.
type Filter struct {
	Cluster, Node string    // "" = any
	Since         time.Time // no earlier ones
	After         uint64    // only those with a larger id
	Limit         int       // at most so many, the newest; 0 = no limit
}

// Picks reports whether c is about the filter's cluster and node. It ignores the
// other fields.
func (f *Filter) Picks(c *Change) bool {
	return (f.Cluster == "" || c.Cluster == f.Cluster) && (f.Node == "" || c.Node == f.Node)
}

// History is a part of the changes that are kept.
type History struct {
	Changes   []Change `json:"changes"`   // oldest first
	Truncated bool     `json:"truncated"` // older matching changes were left out because of the limit, or may have been dropped
	LastID    uint64   `json:"last_id"`   // the latest id of all, whether or not that change is in Changes
}

// History returns the changes that f selects. A name that is neither configured nor
// in the history gives an [*UnknownError].
func (s *Supervisor) History(f Filter) (History, error) {
	kept, last, dropped := s.keptChanges()
	if err := s.checkNames(f, kept); err != nil {
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

// Knows returns an [*UnknownError] if a name of f is neither configured nor in the
// history.
func (s *Supervisor) Knows(f Filter) error {
	kept, _, _ := s.keptChanges()
	return s.checkNames(f, kept)
}

// checkNames is Knows for changes that were read already. A restored change may bear
// a name that is no longer configured.
func (s *Supervisor) checkNames(f Filter, kept []Change) error {
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

// After returns the changes that follow the one with this id, oldest first, and the
// latest id. complete says that no change in between was dropped.
func (s *Supervisor) After(id uint64) (changes []Change, last uint64, complete bool) {
	kept, last, _ := s.keptChanges()
	i, _ := slices.BinarySearchFunc(kept, id+1, func(c Change, id uint64) int { return cmp.Compare(c.ID, id) })
	complete = id == last || i < len(kept) && kept[i].ID == id+1 || i > 0 && kept[i-1].ID == id
	return kept[i:], last, complete
}
