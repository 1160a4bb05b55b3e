package cluster

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Change is something that became different, as the supervisor saw it.
type Change struct {
	ID      uint64    `json:"id"` // grows by one with each; 0 = a repeat, which is no history
	At      time.Time `json:"at"`
	Cluster string    `json:"cluster"`       // "" when it is about the supervisor
	Node    string    `json:"node,omitzero"` // "" when it is about the whole cluster
	Kind    string    `json:"kind"`          // one of the Kind constants
	Before  string    `json:"before"`
	After   string    `json:"after"`
	Reason  string    `json:"reason,omitzero"`
	// Gap is of a leader or a primary after "none": for how long, in seconds, there
	// was none, at the start since every node had been polled. 0 where one node only
	// is watched: another may have been it.
	Gap    float64 `json:"gap_seconds,omitzero"`
	Repeat bool    `json:"-"` // the same once more: a poll that failed again
}

// What can change.
const (
	KindLeader    = "leader"    // the elected node
	KindPrimary   = "primary"   // the node that passes the check of the leader: without one nobody can write
	KindSplit     = "split"     // several nodes claim and answer: "no", "yes"
	KindLevel     = "level"     // of the cluster's health
	KindAnswering = "answering" // the node's polls: "yes", "no" while failing
	KindKnown     = "known"     // whether the node is believed: "fresh", "out"
	KindRole      = "role"
	KindState     = "state"
	KindTimeline  = "timeline"
	KindIdentity  = "identity" // whether the node is of this cluster: "right", "wrong"
	KindLeaving   = "leaving"  // whether the node's announced stop holds: "no", "yes"; "yes", "yes" when it was announced again
	KindLeft      = "left"     // whether the DCS does not list the node any more: "no", "yes"
	KindReplica   = "replica"  // the replica check's outcome while the role stays
	KindSettings  = "settings" // whether the cache's TTL is safe: "safe", "unsafe"
	KindWatching  = "watching" // of no cluster: the supervisor stopped, "yes", "no"; nothing says so after a crash
)

// subscribers get every change without being able to slow anybody down: who
// does not read loses changes and is told how many.
type subscribers struct {
	mu      sync.Mutex
	subs    map[*Subscription]struct{} // guarded by mu
	history history                    // guarded by mu
}

// Subscription is a stream of changes. Close it when done.
type Subscription struct {
	C    <-chan Change
	c    chan Change
	all  *subscribers
	lost int // guarded by all.mu
}

func (s *subscribers) subscribe(buffer int) *Subscription {
	c := make(chan Change, buffer)
	sub := &Subscription{C: c, c: c, all: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs == nil {
		s.subs = make(map[*Subscription]struct{})
	}
	s.subs[sub] = struct{}{}
	return sub
}

// Lost gives how many changes were dropped since the last call because the
// buffer was full.
func (s *Subscription) Lost() int {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	n := s.lost
	s.lost = 0
	return n
}

// Close ends the subscription. C is not closed.
func (s *Subscription) Close() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	delete(s.all.subs, s)
}

func (s *subscribers) resize(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.resize(size)
}

func (s *subscribers) publish(changes []Change) {
	if len(changes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		if c := &changes[i]; !c.Repeat {
			s.history.add(c)
		}
	}
	for sub := range s.subs {
		for _, c := range changes {
			select {
			case sub.c <- c:
			default:
				sub.lost++
			}
		}
	}
}

// diff says what became different between two views of a cluster.
func diff(before, after *View) []Change {
	var changes []Change
	at := after.At
	note := func(node, kind, was, is, why string) {
		if was != is {
			changes = append(changes, Change{At: at, Cluster: after.Cluster, Node: node, Kind: kind, Before: was, After: is, Reason: why})
		}
	}
	for i, m := range after.Members {
		old := before.was(i, m.Name)
		// A member that nothing was heard of is shared, and may have become stale, or
		// its announced time may be over.
		if old != m || old.Entry.Fresh(before.At) != m.Entry.Fresh(at) || old.leaves(before.At) != m.leaves(at) {
			diffMember(old, m, before.At, at, note)
		}
	}
	note("", KindSplit, yes(before.Split), yes(after.Split), after.Why)
	note("", KindLeader, cmp.Or(before.Leader, "none"), cmp.Or(after.Leader, "none"), after.withoutLeader(before.Leader))
	if after.Leader != "" && !before.LeaderLost.IsZero() {
		changes[len(changes)-1].Gap = gap(before.LeaderLost, at).Seconds()
	}
	had, has := before.primary(), after.primary()
	note("", KindPrimary, cmp.Or(had, "none"), cmp.Or(has, "none"), after.withoutPrimary(had))
	if has != "" && !before.PrimaryLost.IsZero() {
		changes[len(changes)-1].Gap = gap(before.PrimaryLost, at).Seconds()
	}
	note("", KindSettings, safe(before.Unsafe), safe(after.Unsafe), after.Unsafe)
	was, is := before.Health(before.At), after.Health(at)
	var why strings.Builder
	for i, r := range is.Reasons {
		if i > 0 {
			why.WriteString("; ")
		}
		if r.Node != "" {
			why.WriteString(r.Node + ": ")
		}
		why.WriteString(r.Text)
	}
	note("", KindLevel, was.Level.String(), is.Level.String(), why.String())
	return changes
}

// was gives the member of that name, which usually is at the same place. One
// that is new was not asked.
func (v *View) was(i int, name string) *Member {
	if i < len(v.Members) && v.Members[i].Name == name {
		return v.Members[i]
	}
	return cmp.Or(v.Member(name), &Member{Name: name})
}

func diffMember(old, m *Member, before, at time.Time, note func(node, kind, was, is, why string)) {
	verdict := m.Verdict(replicaCheck, at)
	var failure string
	if m.Entry.Err != nil {
		failure = fmt.Sprintf("polling %q: %v", m.Name, m.Entry.Err)
	}
	note(m.Name, KindAnswering, answering(old), answering(m), failure)
	wasFresh, isFresh := old.Entry.Fresh(before), m.Entry.Fresh(at)
	note(m.Name, KindKnown, fresh(wasFresh), fresh(isFresh), ifOut(isFresh, verdict.Reason))
	leaving := m.leaving.over()
	if m.leaves(at) {
		leaving = m.leaving.why(at)
	}
	note(m.Name, KindLeaving, yes(old.leaves(before)), yes(m.leaves(at)), leaving)
	note(m.Name, KindLeft, yes(!old.Left.IsZero()), yes(!m.Left.IsZero()), m.left(at))
	note(m.Name, KindIdentity, right(old.Refused), right(m.Refused), m.Refused)
	o, d := &old.Entry.Value.Document, &m.Entry.Value.Document
	note(m.Name, KindRole, cmp.Or(string(o.Role), "none"), cmp.Or(string(d.Role), "none"), "")
	note(m.Name, KindState, cmp.Or(string(o.State), "none"), cmp.Or(string(d.State), "none"), "")
	if d.Timeline != 0 { // a PostgreSQL that does not run tells none
		note(m.Name, KindTimeline, timeline(o.Timeline), timeline(d.Timeline), "")
	}
	if wasFresh && isFresh && o.Role == d.Role && o.State == d.State {
		was := old.Verdict(replicaCheck, before)
		note(m.Name, KindReplica, was.Outcome.String(), verdict.Outcome.String(), verdict.Reason)
	}
}

// gap is rounded, so that what is counted is the sum of what the history tells.
func gap(lost, at time.Time) time.Duration { return at.Sub(lost).Round(time.Millisecond) }

func answering(m *Member) string {
	switch {
	case !m.Polled:
		return "not asked"
	case m.Entry.Failures > 0:
		return "no"
	}
	return "yes"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func fresh(b bool) string {
	if b {
		return "fresh"
	}
	return "out"
}

func ifOut(fresh bool, reason string) string {
	if fresh {
		return ""
	}
	return reason
}

func right(refused string) string {
	if refused == "" {
		return "right"
	}
	return "wrong"
}

func safe(unsafe string) string {
	if unsafe == "" {
		return "safe"
	}
	return "unsafe"
}
