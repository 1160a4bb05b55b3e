package cluster

import (
	"cmp"
	"slices"
	"time"

	"patroniglue/cache"
	"patroniglue/node"
)

// How long an announced stop holds, from the announcement on.
const (
	DefaultLeaving = 10 * time.Second // where the announcement does not say
	MaxLeaving     = 60 * time.Second // a longer time is cut to this
)

// finishFor is how long open sessions may continue after an announcement. HAProxy
// cuts them when it takes a server out, so a short transaction that has just begun
// would fail. The time is over before the stop itself begins, which is 400 ms after
// the announcement if contrib/patroni-before-stop or the command waits.
const finishFor = 300 * time.Millisecond

// leaving is the latest announcement that a node is about to stop. While it holds,
// the node passes no check of a leader. The election ignores it, so that it makes no
// other node pass.
type leaving struct {
	since   time.Time // zero = none was made
	until   time.Time
	stopped bool   // PostgreSQL was seen not running after the announcement
	ended   string // why it no longer holds; "" while it holds, and if only its time is over
}

// holds reports whether the announcement holds at now. That is decided when it is
// asked, so that the time ends without a poll. Even then the node may pass again
// only by an answer that is newer than the announcement.
func (l *leaving) holds(e *cache.Entry[node.Report], now time.Time) bool {
	if l.since.IsZero() || l.ended != "" {
		return false
	}
	return now.Before(l.until) || e.Fresh(now) && !e.Began.After(l.since)
}

// why says in words why the announcement holds.
func (l *leaving) why(now time.Time) string {
	if now.Before(l.until) {
		return "about to stop, as announced: leads no more until " + l.until.UTC().Format("15:04:05.000 UTC") + " at most"
	}
	return "about to stop, as announced, and not heard of since"
}

// whyEnded says why the announcement no longer holds.
func (l *leaving) whyEnded() string { return cmp.Or(l.ended, "the announced time is over") }

// Leaving reports whether the announced stop of the node holds at now, and until
// when at most.
func (m *Member) Leaving(now time.Time) (until time.Time, leaves bool) {
	return m.leaving.until, m.leaves(now)
}

func (m *Member) leaves(now time.Time) bool { return m.leaving.holds(&m.Entry, now) }

// Announcement is the outcome of announcing a stop, or of taking that back.
type Announcement struct {
	Cluster, Node string
	Leaving       bool      // the announcement holds
	Until         time.Time // when it ends at the latest; zero when it does not hold
	Reason        string    // in words, for display
}

// Leave announces that a node is about to stop. For d, at most [MaxLeaving], the
// node passes no check of a leader. The announcement ends early when the node stops
// claiming, runs again after a stop, another node is elected, or Stay is called.
// Announced again, it holds for d from then on. Announcing the stop of a node that
// does not lead changes nothing. The error is an [*UnknownError] or an
// [*AmbiguousError].
func (s *Supervisor) Leave(cluster, node string, d time.Duration) (Announcement, error) {
	r, _, err := s.watched.Load().find(cluster, node)
	if err != nil {
		return Announcement{}, err
	}
	return r.group.leave(node, min(d, MaxLeaving))
}

// Stay takes back the announcement of Leave. Its errors are those of Leave.
func (s *Supervisor) Stay(cluster, node string) (Announcement, error) {
	r, _, err := s.watched.Load().find(cluster, node)
	if err != nil {
		return Announcement{}, err
	}
	return r.group.stay(node)
}

func (g *group) leave(name string, d time.Duration) (Announcement, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.byName[name]
	if n == nil {
		return Announcement{}, &UnknownError{"node", name, g.nodeNames(), ""} // removed since it was found
	}
	now := time.Now()
	a := Announcement{Cluster: g.name, Node: n.name}
	// A node of which nothing fresh is known may turn out to lead: its stop is announced.
	switch claims := n.entry.Value.Claims() || n.held(); {
	case g.leader != "" && g.leader != n.name:
		a.Reason = "nothing to announce: " + g.leader + " leads, not " + n.name
		return a, nil
	case n.entry.Fresh(now) && (n.refused != "" || !claims):
		a.Reason = "nothing to announce: " + n.name + " does not lead"
		return a, nil
	}
	again := n.leaving.holds(&n.entry, now)
	if !again {
		g.publishLeaving(n, now, false) // the end of an earlier announcement is not recorded before a poll
		n.leaving = leaving{since: now}
	}
	n.leaving.until = now.Add(d)
	a.Leaving, a.Until, a.Reason = true, n.leaving.until, n.leaving.why(now)
	g.publishLeaving(n, now, again)
	g.hurryLocked(now)
	return a, nil
}

func (g *group) stay(name string) (Announcement, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.byName[name]
	if n == nil {
		return Announcement{}, &UnknownError{"node", name, g.nodeNames(), ""}
	}
	now := time.Now()
	a := Announcement{Cluster: g.name, Node: n.name, Reason: "it was not leaving"}
	if n.leaving.holds(&n.entry, now) {
		n.leaving.ended = "taken back"
		a.Reason = n.leaving.ended
		g.publishLeaving(n, now, false)
	}
	return a, nil
}

// publishLeaving publishes the present view with a new announcement for n. again
// says that an announcement that holds was repeated.
func (g *group) publishLeaving(n *tracked, now time.Time, again bool) {
	old := g.view.Load()
	v := *old
	v.At, v.Members = now, slices.Clone(old.Members)
	m := *old.Members[g.index[n.name]]
	m.leaving = n.leaving
	v.Members[g.index[n.name]] = &m
	v.carryOver(old)
	g.view.Store(&v)
	changes := diff(old, &v)
	if again {
		changes = append(changes, Change{At: now, Cluster: g.name, Node: m.Name, Kind: KindLeaving, Before: "yes", After: "yes", Reason: "announced again: " + m.leaving.why(now)})
	}
	g.subs.publish(changes)
}

// endLeaving ends announcements early, after an election.
func (g *group) endLeaving(now time.Time) {
	for _, n := range g.nodes {
		l := &n.leaving
		if !l.holds(&n.entry, now) {
			continue
		}
		r := &n.entry.Value
		heard := n.entry.Fresh(now) && n.entry.Began.After(l.since)
		switch {
		case g.leader != "" && g.leader != n.name:
			l.ended = g.leader + " is elected"
		case heard && !r.Claims() && !n.held():
			l.ended = "it has stopped claiming"
		// Patroni's before_stop hook runs at a restart too (postgresql/__init__.py,
		// _do_stop), which ends with the same primary.
		case heard && l.stopped && r.Claims() && r.Document.Running():
			l.ended = "it runs again"
		case heard && !r.Document.Running() && r.Document.State != node.StateUnknown:
			l.stopped = true
		}
	}
}
