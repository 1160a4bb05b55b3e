package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"patroniglue/cache"
	"patroniglue/node"
)

// group is the state of one watched cluster.
type group struct {
	name  string
	scope string // as configured, "" = any
	subs  *subscribers
	start time.Time // samples are counted from here
	known *cache.Cache[string, node.Report]

	suspension suspension

	mu      sync.Mutex
	*roster // the latest; this and all below is guarded by mu
	identity
	leader     string    // the elected node
	timeline   int64     // of the latest primary
	position   int64     // the newest known of the latest primary, in bytes; -1 = unknown
	disputed   time.Time // since when the present claimants are several; zero = they are not
	unsettled  time.Time // when the cluster was last unsettled
	episode    time.Time // when the present unsettled period began; zero = the cluster is settled
	settings   node.Settings
	unread     string        // as View.Unread
	settingsAt time.Time     // when settings are to be read again
	arrival    chan struct{} // closed when the next first poll has ended, or the roster was replaced
}

func newGroup(cfg Config, c ClusterConfig, subs *subscribers) *group {
	g := &group{
		name: c.Name, scope: c.Scope, subs: subs, start: time.Now(),
		known: cache.New[string, node.Report](cfg.TTL), position: -1, arrival: make(chan struct{}),
		suspension: suspension{total: cfg.Suspended},
	}
	if cfg.Suspended != nil {
		g.suspension.known.Store(int64(cfg.Suspended()))
	}
	g.roster = newRoster(g, cfg, c, func(*NodeConfig) *tracked { return nil })
	return g
}

// nextArrival returns a channel that is closed when the next first poll has ended or
// the roster was replaced.
func (g *group) nextArrival() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.arrival
}

func (g *group) arrivedLocked() {
	close(g.arrival)
	g.arrival = make(chan struct{})
}

// pollBegins records that a poll of n begins.
func (g *group) pollBegins(n *tracked, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n.inflight, n.position = at, g.position
	if n.named {
		n.named, n.hurried = false, at
	}
}

// merge records the outcome of a poll of n, elects, and publishes the view and the
// changes that follow.
func (g *group) merge(n *tracked, began time.Time, r node.Report, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n.gone {
		return
	}
	now := time.Now()
	before := n.entry
	first := !n.polled
	n.inflight, n.began, n.ended, n.polled = time.Time{}, began, now, true
	if err == nil {
		err = cmp.Or(g.suspension.spanned(began), g.late(&r))
	}
	if err != nil {
		g.failed(n, began, err)
	} else {
		if r.Began.Before(before.Began) {
			// The answer comes from another supervisor, with an age. A later answer is not
			// based on an older poll; it only seems so because the answer itself took longer.
			r.Began = before.Began
		}
		if g.known.Put(n.name, r, r.Began) {
			g.answered(n, &before, &r)
		}
	}
	n.entry = g.known.Get(n.name)
	g.adopt(now)
	old := g.view.Load()
	d := g.elect(now)
	g.sample(n, now, err != nil)
	g.endLeaving(now)
	view := g.render(now, n, d)
	changes := diff(old, view)
	if err != nil && before.Failures > 0 {
		changes = append(changes, Change{At: now, Cluster: g.name, Node: n.name, Kind: KindAnswering, Before: "no", After: "no",
			Reason: fmt.Sprintf("polling %q: %v", n.name, err), Repeat: true})
	}
	g.view.Store(view)
	n.jitter = 0.9 + 0.2*rand.Float64()
	found := old.Leader == "" && old.last == "" && old.LeaderLost.IsZero() // the first leader that is found, before all nodes were polled, is no change
	g.pace(now, d, !found && d.winner != old.Leader || before.Known && n.name == d.winner && changedAnswer(&before, &n.entry))
	if first {
		close(n.first)
		g.arrivedLocked()
	}
	g.subs.publish(changes) // never blocks
}

// late returns a failure for an answer that took longer than half the TTL, else nil.
// Such an answer is too old before the next one comes: to believe it would put the
// node in and out of service with every poll.
func (g *group) late(r *node.Report) error {
	limit := g.ttl / 2
	if r.Took <= limit {
		return nil
	}
	return &node.Failure{Kind: node.KindTimeout, Err: lateError{r.Took, limit}}
}

type lateError struct{ took, limit time.Duration }

func (e lateError) Error() string {
	return fmt.Sprintf("answered after %s, want at most %s (half the ttl)", e.took.Round(10*time.Millisecond), e.limit)
}

func (g *group) failed(n *tracked, began time.Time, err error) {
	fall, timeout := 0, false
	if f, ok := err.(*node.Failure); ok {
		_, late := errors.AsType[lateError](f.Err)
		// A node that answered late does not hang, and a poll that was never connected
		// occupies no worker there: poll it again soon.
		timeout = f.Kind == node.KindTimeout && !late && !f.Unconnected
		// A paused Patroni may be down on purpose while PostgreSQL runs on.
		if f.Hard() && !n.entry.Value.Document.Pause {
			fall = n.cfg.Fall
		}
		if f.Kind == node.KindNotBelieved {
			fall = 1 // the other supervisor has counted them
		}
	}
	if timeout {
		n.timeouts++
	} else {
		n.timeouts = 0
	}
	g.known.Fail(n.name, err, began, fall)
}

func (g *group) answered(n *tracked, before *cache.Entry[node.Report], r *node.Report) {
	d := &r.Document
	n.timeouts, n.named, n.beaten = 0, false, false
	if o := &before.Value.Document; !before.Known || o.Role != d.Role || o.State != d.State || before.Value.Claims() != r.Claims() {
		n.since = r.Began
	}
	if before.Value.Document.SystemID != d.SystemID {
		n.heard = time.Now()
	}
	n.refused = cmp.Or(g.identify(n, d), g.twin(n, r))
	g.measure(n, &before.Value.Document, r)
	// Patroni in failsafe mode answers 503 for a moment when the DCS comes back
	// (ha.py:351): a leader that still runs as one is polled again first.
	if n.name == g.leader && !r.Claims() && d.Running() && (d.Role == node.RolePrimary || d.Role == node.RoleStandbyLeader) {
		n.blips++
	} else {
		n.blips = 0
	}
}

// elect elects the leader from the latest reports. Beside a primary the leader of a
// standby cluster, which has a lock of its own, is of another role: it takes no part.
func (g *group) elect(now time.Time) decision {
	primary := slices.ContainsFunc(g.nodes, func(n *tracked) bool {
		return n.refused == "" && n.entry.Fresh(now) && !n.beaten && (n.entry.Value.ClaimsPrimary() || n.held() && n.entry.Value.Document.Role == node.RolePrimary)
	})
	var claims []claim
	claimants, joined := 0, false
	for _, n := range g.nodes {
		r := &n.entry.Value
		believed := n.refused == "" && n.entry.Fresh(now)
		n.beside = primary && believed && r.ClaimsStandby()
		claiming := believed && r.Claims() && !n.beside
		held := believed && n.held() && !(primary && r.Document.Role == node.RoleStandbyLeader)
		if claiming {
			claimants++
			joined = joined || !n.claiming
		}
		n.claiming = claiming
		if !n.beaten && (claiming || held) {
			claims = append(claims, claim{name: n.name, timeline: r.Document.Timeline, unlocked: r.Document.ClusterUnlocked, held: held})
		}
	}
	switch {
	case claimants < 2:
		g.disputed = time.Time{}
	case joined:
		g.disputed = now
	}
	for i := range claims {
		n := g.byName[claims[i].name]
		again := !n.entry.Began.Before(g.disputed)
		claims[i].answering = n.entry.Failures == 0 && again
		claims[i].pending = n.entry.Failures == 0 && !again && !n.overdue(now)
	}
	d := elect(claims, g.leader)
	if g.leader = d.winner; d.winner == "" && d.why == "" {
		d.why = g.whyRefused(now)
	}
	for _, c := range claims {
		// When the winner goes too, an old claim must not come back by itself.
		if d.winner != "" && !d.judging && c.name != d.winner && (c.held || !c.answering) {
			g.byName[c.name].beaten = true
		}
	}
	if n := g.byName[d.winner]; n != nil {
		doc := &n.entry.Value.Document
		g.noteLeader(doc)
		if doc.Timeline != 0 {
			g.timeline = doc.Timeline
		}
		switch {
		case doc.Location != nil:
			g.position = *doc.Location
		case doc.Role == node.RoleStandbyLeader && doc.Received != nil:
			g.position = *doc.Received // replicas of a standby cluster follow its leader
		}
	}
	return d
}

// render makes the next view. polled is the node that was just polled, nil if none. Members of the view
// before are reused if their report and standing are unchanged.
func (g *group) render(now time.Time, polled *tracked, d decision) *View {
	old := g.view.Load()
	v := &View{
		Cluster: g.name, Scope: g.scopeOf(), SystemID: g.systemID, Changed: g.changed, At: now, TTL: g.ttl,
		Members: make([]*Member, len(g.nodes)), Leader: d.winner, Judging: d.judging, Split: d.split, Why: d.why,
		Settings: g.settings, Unsafe: g.unsafe(), Unread: g.unread, index: g.index,
	}
	standings := g.standings(now, d)
	for i, n := range g.nodes {
		m := old.Members[i]
		if n == polled || m.Polled != n.polled || m.Standing != standings[i] || m.Refused != n.refused || m.leaving != n.leaving || m.Unlisted != n.cfg.Unlisted || m.Entry.Ended != n.entry.Ended {
			m = &Member{
				Name: m.Name, URL: m.URL, Postgres: m.Postgres, Polled: n.polled, Entry: n.entry,
				Refused: n.refused, Unlisted: n.cfg.Unlisted, Since: n.since, Standing: standings[i], leaving: n.leaving,
			}
			m.makeVerdicts(now)
		}
		v.Members[i] = m
	}
	v.carryOver(old)
	return v
}

// unsafe says why the TTL is so long that a frozen old primary could still be
// believed when Patroni elects a new one; "" if it is not. Patroni does so when its
// leader key expires, at the earliest ttl - loop_wait after the last update.
func (g *group) unsafe() string {
	s := g.settings
	if s.TTL == 0 || g.ttl < s.TTL-s.LoopWait {
		return ""
	}
	return fmt.Sprintf("cache ttl %s is not below %s (Patroni's ttl %s - loop_wait %s): a frozen old primary could be believed after a new one is elected",
		g.ttl, s.TTL-s.LoopWait, s.TTL, s.LoopWait)
}

// loopWait is the cluster's loop_wait, or Patroni's default, 10 s, while it is not
// known.
func (g *group) loopWait() time.Duration {
	if g.settings.LoopWait > 0 {
		return g.settings.LoopWait
	}
	return 10 * time.Second
}

func changedAnswer(a, b *cache.Entry[node.Report]) bool {
	x, y := &a.Value, &b.Value
	return b.Failures > 0 || x.Status != y.Status || x.Leader != y.Leader ||
		x.Document.Role != y.Document.Role || x.Document.State != y.Document.State
}
