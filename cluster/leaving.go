package cluster

import (
	"cmp"
	"slices"
	"time"

	"patroniglue/cache"
	"patroniglue/node"
)

// Bounds of an announced stop.
const (
	DefaultLeaving = 10 * time.Second
	MaxLeaving     = 60 * time.Second
)

// finishFor is how long open sessions may go on after an announcement: HAProxy
// cuts them when it takes a server out, so one that has just begun a short
// transaction would fail. It ends before a stop that follows an announcement
// begins (400 ms later, if contrib/patroni-before-stop or the command waits).
const finishFor = 300 * time.Millisecond

// leaving is the latest announcement that a node is about to stop: while it
// holds, that node is no leader to anybody. The election does not know of it, so
// it makes no other node pass.
type leaving struct {
	since   time.Time // zero = none was made
	until   time.Time
	stopped bool   // PostgreSQL was seen not running since
	ended   string // why it holds no more; "" for ever when its time was over
}

// holds is decided when somebody asks, as belief is: no poll has to come for the
// time to be over. Then the node may pass again, but never by an answer that is
// older than the announcement.
func (l *leaving) holds(e *cache.Entry[node.Report], now time.Time) bool {
	if l.since.IsZero() || l.ended != "" {
		return false
	}
	return now.Before(l.until) || e.Fresh(now) && !e.Began.After(l.since)
}

// why says for people why the announcement holds.
func (l *leaving) why(now time.Time) string {
	if now.Before(l.until) {
		return "about to stop, as announced: leads no more until " + l.until.UTC().Format("15:04:05.000 UTC") + " at most"
	}
	return "about to stop, as announced, and not heard of since"
}

// over says why it holds no more.
func (l *leaving) over() string { return cmp.Or(l.ended, "the announced time is over") }

// Leaving tells whether the announced stop of the node holds at now, and until
// when at most.
func (m *Member) Leaving(now time.Time) (until time.Time, leaves bool) {
	return m.leaving.until, m.leaves(now)
}

func (m *Member) leaves(now time.Time) bool { return m.leaving.holds(&m.Entry, now) }

// Announcement is what became of an announced stop.
type Announcement struct {
	Cluster, Node string
	Leaving       bool      // it holds
	Until         time.Time // zero when it does not
	Reason        string
}

// Leave announces that a node is about to stop: for d, at most [MaxLeaving], it
// passes no check of a leader, until it has stopped claiming, runs again after a
// stop, another node is elected, or [Supervisor.Stay]. Announced again it lasts
// for d from then on. For a node that leads nothing it changes nothing.
func (s *Supervisor) Leave(cluster, node string, d time.Duration) (Announcement, error) {
	r, _, err := s.watched.Load().find(cluster, node)
	if err != nil {
		return Announcement{}, err
	}
	return r.group.leave(node, min(d, MaxLeaving))
}

// Stay takes back what Leave announced.
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
		return Announcement{}, &UnknownError{"node", name, g.nodeNames(), ""} // gone since it was found
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
		g.publishLeaving(n, now, false) // the end of an earlier one may not be recorded yet: no poll came since
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

// publishLeaving publishes the view as it is, but for what was announced of n.
func (g *group) publishLeaving(n *tracked, now time.Time, again bool) {
	old := g.view.Load()
	v := *old
	v.At, v.Members = now, slices.Clone(old.Members)
	m := *old.Members[g.index[n.name]]
	m.leaving = n.leaving
	v.Members[g.index[n.name]] = &m
	v.follow(old)
	g.view.Store(&v)
	changes := diff(old, &v)
	if again {
		changes = append(changes, Change{At: now, Cluster: g.name, Node: m.Name, Kind: KindLeaving, Before: "yes", After: "yes", Reason: "announced again: " + m.leaving.why(now)})
	}
	g.subs.publish(changes)
}

// endLeaving ends, after an election, what is over before its time.
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
