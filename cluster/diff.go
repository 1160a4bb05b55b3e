package cluster

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

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
