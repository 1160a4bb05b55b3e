package cluster

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// diff lists the changes between two successive views of a cluster.
func diff(before, after *View) []Change {
	var changes []Change
	at := after.At
	add := func(node, kind, was, is, why string) {
		if was != is {
			changes = append(changes, Change{At: at, Cluster: after.Cluster, Node: node, Kind: kind, Before: was, After: is, Reason: why})
		}
	}
	for i, m := range after.Members {
		old := before.memberBefore(i, m.Name)
		// Both views share a member of which nothing was heard in between. It may have
		// become stale nevertheless, or the time of its announced stop may be over.
		if old != m || old.Entry.Fresh(before.At) != m.Entry.Fresh(at) || old.leaves(before.At) != m.leaves(at) {
			diffMember(old, m, before.At, at, add)
		}
	}
	if after.Changed != before.Changed && after.Changed != (IdentityChange{}) {
		add("", KindIdentityChanged, after.Changed.From, after.Changed.To, after.Changed.reason())
	}
	add("", KindSplit, yesNo(before.Split), yesNo(after.Split), after.Why)
	add("", KindLeader, cmp.Or(before.Leader, "none"), cmp.Or(after.Leader, "none"), after.whyNoLeader(before.Leader))
	if after.Leader != "" && !before.LeaderLost.IsZero() {
		changes[len(changes)-1].Gap = gap(before.LeaderLost, at).Seconds()
	}
	had, has := before.primary(), after.primary()
	add("", KindPrimary, cmp.Or(had, "none"), cmp.Or(has, "none"), after.whyNoPrimary(had))
	if has != "" && !before.PrimaryLost.IsZero() {
		changes[len(changes)-1].Gap = gap(before.PrimaryLost, at).Seconds()
	}
	add("", KindSettings, before.safety(), after.safety(), cmp.Or(after.Unsafe, after.Unread))
	was, is := before.Health(before.At), after.Health(at)
	add("", KindLevel, was.Level.String(), is.Level.String(), reasonsText(is.Reasons))
	return changes
}

// reasonsText joins reasons to one text: "pg1: reason; reason".
func reasonsText(reasons []Reason) string {
	var text strings.Builder
	for i, r := range reasons {
		if i > 0 {
			text.WriteString("; ")
		}
		if r.Node != "" {
			text.WriteString(r.Node + ": ")
		}
		text.WriteString(r.Text)
	}
	return text.String()
}

// memberBefore returns the member of that name, which usually has the same index.
// For a new one it is a member that was never polled.
func (v *View) memberBefore(i int, name string) *Member {
	if i < len(v.Members) && v.Members[i].Name == name {
		return v.Members[i]
	}
	return cmp.Or(v.Member(name), &Member{Name: name})
}

func diffMember(old, m *Member, before, at time.Time, add func(node, kind, was, is, why string)) {
	verdict := m.Verdict(replicaCheck, at)
	var failure string
	if m.Entry.Err != nil {
		failure = fmt.Sprintf("polling %q: %v", m.Name, m.Entry.Err)
	}
	add(m.Name, KindAnswering, answering(old), answering(m), failure)
	wasFresh, isFresh, outReason := old.Entry.Fresh(before), m.Entry.Fresh(at), ""
	if !isFresh {
		outReason = verdict.Reason
	}
	add(m.Name, KindKnown, freshOrOut(wasFresh), freshOrOut(isFresh), outReason)
	leaving := m.leaving.whyEnded()
	if m.leaves(at) {
		leaving = m.leaving.why(at)
	}
	add(m.Name, KindLeaving, yesNo(old.leaves(before)), yesNo(m.leaves(at)), leaving)
	add(m.Name, KindUnlisted, yesNo(!old.Unlisted.IsZero()), yesNo(!m.Unlisted.IsZero()), m.unlisted(at))
	add(m.Name, KindIdentity, rightOrWrong(old.Refused), rightOrWrong(m.Refused), m.Refused)
	o, d := &old.Entry.Value.Document, &m.Entry.Value.Document
	add(m.Name, KindRole, cmp.Or(string(o.Role), "none"), cmp.Or(string(d.Role), "none"), "")
	add(m.Name, KindState, cmp.Or(string(o.State), "none"), cmp.Or(string(d.State), "none"), "")
	if d.Timeline != 0 { // while PostgreSQL does not run, the timeline is unknown
		add(m.Name, KindTimeline, timeline(o.Timeline), timeline(d.Timeline), "")
	}
	if wasFresh && isFresh && o.Role == d.Role && o.State == d.State {
		was := old.Verdict(replicaCheck, before)
		add(m.Name, KindReplica, was.Outcome.String(), verdict.Outcome.String(), verdict.Reason)
	}
}

// gap returns the time between two moments, rounded to milliseconds as in the
// history, so that the counted total equals the sum of the history's gaps.
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

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func freshOrOut(b bool) string {
	if b {
		return "fresh"
	}
	return "out"
}

func rightOrWrong(refused string) string {
	if refused == "" {
		return "right"
	}
	return "wrong"
}

// safety says whether TTL is safe.
func (v *View) safety() string {
	switch {
	case v.Unsafe != "":
		return "unsafe"
	case v.Unread != "":
		return "unknown"
	}
	return "safe"
}
