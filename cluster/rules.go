package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"patroniglue/node"
)

// Rules refine Patroni's own checks by what is known of the whole cluster.
type Rules struct {
	Lock         bool          // the holder of the leader lock is primary, whatever state PostgreSQL is in
	MaxLag       int64         // bytes by which a replica may lag behind the primary, 0 = no limit
	LagHold      time.Duration // how long a replica must be over the limit, or under it, before that counts
	SameTimeline bool          // a replica that stays on an older timeline than the primary, and does not stream, does not pass
	Streaming    bool          // a replica that does not stream does not pass
	MinReplicas  int           // lag excludes no replica if fewer than this would pass
	Fallback     bool          // the primary passes the check "replica" when no replica does
}

// minTimelineHold is how long a replica may take at least to follow a new timeline.
const minTimelineHold = 10 * time.Second

// hold is a condition that counts only after it has been true for some time, and
// stops counting only after it has been false for as long. Without it, replicas
// near a limit would flap.
type hold struct {
	on    bool
	since time.Time // when the condition last began to differ from on; zero = it does not
	begun time.Time // when the present condition began
}

// update records whether the condition is true at a moment, and switches on when it
// has differed for long.
func (h *hold) update(condition bool, at time.Time, long time.Duration) {
	if condition == h.on {
		h.since = time.Time{}
		return
	}
	if h.since.IsZero() {
		h.since = at
	}
	if at.Sub(h.since) >= long {
		h.on, h.begun, h.since = condition, h.since, time.Time{}
	}
}

// measure computes lag and timeline from a good report, for the rules. before is the
// document before it.
func (g *group) measure(n *tracked, before *node.Document, r *node.Report) {
	d := &r.Document
	n.lag, n.receiveLag = -1, -1
	if n.position >= 0 && d.Replayed != nil {
		n.lag = max(0, n.position-*d.Replayed)
	}
	if n.position >= 0 && d.Received != nil {
		n.receiveLag = max(0, n.position-*d.Received)
	}
	if g.rules.MaxLag > 0 {
		n.lagging.update(n.lag > g.rules.MaxLag, r.Began, g.rules.LagHold)
	}
	if g.rules.SameTimeline && d.Timeline != 0 {
		if d.Role == node.RoleReplica && d.Timeline < g.timeline && !n.streams(before, d) {
			n.behind.update(true, r.Began, max(g.rules.LagHold, minTimelineHold))
		} else {
			n.behind = hold{} // timelines do not flap
		}
	}
}

// streams reports whether a replica follows the primary although its timeline is an
// older one: Patroni's timeline of a replica is that of what it has replayed, so that
// after a failover a replica which replays late still has the old one.
//
// A replica also streams from an old primary that lives on. Its Patroni ends that when
// it sees another leader, so a Patroni that sees none is not asked, except in failsafe
// mode, in which nobody is promoted. Before 3.0.4 Patroni does not say whether a replica
// streams. It does so if it receives more, or if it has exactly what the primary has:
// one with another history has less, or more.
func (n *tracked) streams(before, d *node.Document) bool {
	if d.ClusterUnlocked && !d.Failsafe {
		return false
	}
	if d.TellsReplicationState() {
		return d.ReplicationState == "streaming"
	}
	if d.Received == nil {
		return false
	}
	return *d.Received == n.position || before.Received != nil && *d.Received > *before.Received
}

// standings computes what the cluster knows about each of its nodes.
func (g *group) standings(now time.Time, d decision) []node.Standing {
	all := make([]node.Standing, len(g.nodes))
	beside := 0
	for _, n := range g.nodes {
		if n.beside {
			beside++
		}
	}
	for i, n := range g.nodes {
		s := &all[i]
		*s = node.Standing{
			Elected: n.name == d.winner, Lock: g.rules.Lock, Judging: d.judging,
			Lag: n.lag, ReceiveLag: n.receiveLag,
		}
		if !n.entry.Known {
			continue
		}
		r := &n.entry.Value
		s.DCS = r.SeesDCS(g.loopWait())
		switch {
		case n.beside:
			s.Beside, s.OnlyStandby = "leads a standby cluster; "+g.primaryInWords(d), beside == 1
		case r.Claims() && !s.Elected:
			s.Dispute = g.dispute(n, d)
		}
		g.exclude(n, s)
	}
	g.keepReplicas(now, all)
	return all
}

func (g *group) primaryInWords(d decision) string {
	if d.winner == "" {
		return "other nodes claim to be primary"
	}
	return d.winner + " is the primary"
}

func (g *group) dispute(n *tracked, d decision) string {
	claims := n.name + " claims timeline " + timeline(n.entry.Value.Document.Timeline)
	if winner := g.byName[d.winner]; winner != nil {
		return fmt.Sprintf("not elected: %s holds timeline %s, %s", d.winner, timeline(winner.entry.Value.Document.Timeline), claims)
	}
	if n.beaten {
		return "not elected: another node claimed while " + n.name + " was silent"
	}
	return "not elected: " + cmp.Or(d.why, "none")
}

// exclude applies the rules that take a replica out of service.
func (g *group) exclude(n *tracked, s *node.Standing) {
	d := &n.entry.Value.Document
	out := func(o node.Outcome, label, why string) { s.Excluded, s.Label, s.Why = o, label, why }
	switch {
	case n.behind.on:
		s.Behind = true
		out(node.Excluded, "timeline "+timeline(d.Timeline), fmt.Sprintf("timeline %s, the primary is on %s", timeline(d.Timeline), timeline(g.timeline)))
	case g.rules.Streaming && d.Role == node.RoleReplica && d.ReplicationState != "streaming":
		why := "not streaming: " + cmp.Or(d.ReplicationState, "none")
		if !d.TellsReplicationState() {
			why = "not known to stream: Patroni " + d.Version + " does not report it, 3.0.4 and newer do"
		}
		out(node.Excluded, "not streaming", why)
	case n.lagging.on:
		text := "lag " + node.FormatSize(n.lag) + " over " + node.FormatSize(g.rules.MaxLag)
		if n.lag <= g.rules.MaxLag {
			lag := "unknown"
			if n.lag >= 0 {
				lag = node.FormatSize(n.lag)
			}
			text = fmt.Sprintf("lag %s, but not for %s yet below %s", lag, g.rules.LagHold, node.FormatSize(g.rules.MaxLag))
		} else if over := n.entry.Began.Sub(n.lagging.begun); over >= time.Second {
			text += " for " + over.Round(time.Second).String()
		}
		out(node.Lagging, text, text)
	}
}

// keepReplicas puts the least lagging replicas back when lag would leave fewer than
// MinReplicas, and lets the primary pass the check "replica" when no replica does.
func (g *group) keepReplicas(now time.Time, all []node.Standing) {
	if g.rules.MinReplicas == 0 && !g.rules.Fallback {
		return
	}
	eligible, lagging := 0, []int(nil)
	for i, n := range g.nodes {
		if !n.entry.Fresh(now) || n.refused != "" {
			continue
		}
		switch node.Judge(&n.entry.Value, &all[i], 0, replicaCheck).Outcome {
		case node.Pass:
			eligible++
		case node.Lagging:
			lagging = append(lagging, i)
		}
	}
	slices.SortStableFunc(lagging, func(a, b int) int { return int(min(1, max(-1, all[a].Lag-all[b].Lag))) })
	for _, i := range lagging[:max(0, min(len(lagging), g.rules.MinReplicas-eligible))] {
		all[i].Excluded, all[i].Label, all[i].Why = node.Pass, "", ""
		eligible++
	}
	for i := range all {
		all[i].Fallback = g.rules.Fallback && eligible == 0 && all[i].Elected
	}
}
