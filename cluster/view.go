package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"patroniglue/cache"
	"patroniglue/node"
)

// View is an immutable picture of one cluster at one moment.
type View struct {
	Cluster  string
	Scope    string         // as configured, else as the leader said; "" while unknown
	SystemID string         // PostgreSQL's system identifier; "" while unknown
	Changed  IdentityChange // of SystemID
	At       time.Time
	Members  []*Member     // in the order of the configuration
	Leader   string        // the elected node, "" when there is none
	Judging  bool          // several nodes claim to lead and are being polled again
	Split    bool          // several nodes claim to lead and answer
	Why      string        // the reason in words of Judging, Split, or a claim that was not accepted
	Settings node.Settings // zero while unknown
	Unsafe   string        // why TTL is too long for Patroni's own settings; "" when it is not
	Unread   string        // why the latest settings cannot be read, so Settings are older ones; "" when they can
	TTL      time.Duration // how long an answer is believed

	// Since when there is no leader, and since when no node passes the check "leader";
	// zero while there is one, and while it is not known.
	LeaderLost, PrimaryLost time.Time

	// Since when the present primary passes that check; zero while there is none. With
	// PrimaryAtStart it was the first primary since the supervisor started, so it may
	// have been primary before.
	PrimarySince   time.Time
	PrimaryAtStart bool

	// How often since the start the primary became another node, and how often a
	// split began.
	PrimaryChanges, SplitBrains uint64

	last    string        // the latest primary, kept while there is none
	without time.Duration // how long there was no primary, without the time since PrimaryLost
	index   map[string]int
}

// Member returns the node of that name, nil when there is none.
func (v *View) Member(name string) *Member {
	if i, ok := v.index[name]; ok {
		return v.Members[i]
	}
	return nil
}

// HasPrimary reports whether a node passes the check "leader" at now: the primary,
// or in a standby cluster its leader. If none does, known says whether that means
// that there is none: not before all nodes were polled, nor where only one node is
// watched, because an unwatched node may be the primary.
func (v *View) HasPrimary(now time.Time) (has, known bool) {
	if m := v.Member(v.Leader); m != nil {
		return m.Verdict(leaderCheck, now).Passes(), true
	}
	return false, len(v.Members) > 1 && v.polled()
}

// WithoutPrimary returns for how long in total, from the start to At, there was
// known to be no primary: the sum of the history's gaps and the present one.
func (v *View) WithoutPrimary() time.Duration {
	if v.PrimaryLost.IsZero() {
		return v.without
	}
	return v.without + gap(v.PrimaryLost, v.At)
}

// primary returns the node that passed the check "leader" when the view was made,
// "" when none did.
func (v *View) primary() string {
	if has, _ := v.HasPrimary(v.At); has {
		return v.Leader
	}
	return ""
}

// whyNoLeader says why no node leads. was is the node that led before.
func (v *View) whyNoLeader(was string) string {
	m := v.Member(was)
	if v.Leader != "" || v.Why != "" || m == nil {
		return v.Why
	}
	return m.Name + ": " + m.Verdict(leaderCheck, v.At).Reason
}

// whyNoPrimary says why there is no primary. was is the node that was it before.
func (v *View) whyNoPrimary(was string) string {
	m := v.Member(cmp.Or(v.Leader, was))
	if v.primary() != "" || v.Leader == "" && v.Why != "" || m == nil {
		return v.Why
	}
	return m.Name + ": " + m.Verdict(leaderCheck, v.At).Reason
}

// carryOver continues the counters and times of old, the view before.
func (v *View) carryOver(old *View) {
	v.PrimaryChanges, v.SplitBrains, v.last, v.without = old.PrimaryChanges, old.SplitBrains, old.last, old.without
	v.LeaderLost, v.PrimaryLost = time.Time{}, time.Time{}
	v.PrimarySince, v.PrimaryAtStart = time.Time{}, false
	// A new configuration may bring nodes that are not polled yet.
	known := func(before time.Time) bool { return len(v.Members) > 1 && (v.polled() || !before.IsZero()) }
	if v.Leader == "" && known(old.LeaderLost) {
		v.LeaderLost = cmp.Or(old.LeaderLost, v.At)
	}
	if primary := v.primary(); primary == "" && known(old.PrimaryLost) {
		v.PrimaryLost = cmp.Or(old.PrimaryLost, v.At)
	} else if primary != "" {
		if !old.PrimaryLost.IsZero() {
			v.without += gap(old.PrimaryLost, v.At)
		}
		if v.last != "" && v.last != primary {
			v.PrimaryChanges++
		}
		if v.last = primary; primary == old.primary() {
			v.PrimarySince, v.PrimaryAtStart = old.PrimarySince, old.PrimaryAtStart
		} else {
			v.PrimarySince, v.PrimaryAtStart = v.At, old.last == "" && old.PrimaryLost.IsZero()
		}
	}
	if v.Split && !old.Split {
		v.SplitBrains++
	}
}

// polled reports whether every node was polled at least once.
func (v *View) polled() bool {
	return !slices.ContainsFunc(v.Members, func(m *Member) bool { return !m.Polled })
}

// Member is one node in a view. It is never changed; unchanged ones are shared
// by successive views.
type Member struct {
	Name     string
	URL      string // of its REST API
	Postgres string // host:port, "" when not configured
	Polled   bool   // at least one poll has ended
	Entry    cache.Entry[node.Report]
	Refused  string    // why the node does not belong to this cluster; "" when it does
	Unlisted time.Time // since when the DCS does not list it any more; zero while it does, or when it is configured
	Since    time.Time // since when role, state and claim are unchanged
	Standing node.Standing

	leaving  leaving
	verdicts [node.Questions]node.Verdict // of the checks without parameters; valid while Entry is fresh
}

// Verdict answers a check at now. It allocates no memory when the check has no
// parameter and the node's answer is fresh.
func (m *Member) Verdict(c *node.Check, now time.Time) node.Verdict {
	if !m.Entry.Fresh(now) {
		return m.unknown(now)
	}
	if m.Refused != "" {
		return node.FaultFor("wrong cluster: " + m.Refused)
	}
	if m.leaves(now) {
		s := m.Standing
		s.Leaving, s.Finishing = m.leaving.why(now), now.Sub(m.leaving.since) < finishFor
		return node.Judge(&m.Entry.Value, &s, now.Sub(m.Since), c)
	}
	if c.Plain() {
		return m.verdicts[c.Ask]
	}
	return node.Judge(&m.Entry.Value, &m.Standing, now.Sub(m.Since), c)
}

// Refuted reports whether something proves that the node is not there: its host refused
// or reset connections, or another cluster's node answers. Silence, however long, and
// what was forgotten after a suspension prove nothing.
func (m *Member) Refuted(now time.Time) bool {
	if m.Entry.Fresh(now) {
		return m.Refused != ""
	}
	_, suspended := errors.AsType[suspendedError](m.Entry.Err)
	return m.Entry.Ended && !suspended
}

// unknown is the verdict on a node whose answer is not fresh.
func (m *Member) unknown(now time.Time) node.Verdict {
	if why := m.unlisted(now); why != "" {
		return node.FaultFor(why)
	}
	return node.FaultFor(m.silent(now))
}

// unlisted says in words that the DCS does not list the node any more, and how it
// answers; "" if the DCS lists it. By itself that takes no node out of service,
// because the DCS may have lost its keys while Patroni still works.
func (m *Member) unlisted(now time.Time) string {
	if m.Unlisted.IsZero() {
		return ""
	}
	text := "unlisted: the DCS does not list it since " + m.Unlisted.UTC().Format("2006-01-02 15:04:05 UTC")
	if m.Entry.Fresh(now) {
		return text + ", but it answers"
	}
	return text + "; " + m.silent(now)
}

// silent says why there is no answer of the node that can be believed.
func (m *Member) silent(now time.Time) string {
	e := &m.Entry
	switch {
	case !m.Polled:
		return "unknown: not polled yet"
	case !e.Known:
		return "no answer yet: " + errText(e.Err)
	case e.Ended:
		if s, ok := errors.AsType[suspendedError](e.Err); ok {
			return s.Error()
		}
		return fmt.Sprintf("not answering: %s (%d times in a row)", errText(e.Err), e.Failures)
	}
	reason := fmt.Sprintf("stale: last answer %.1fs ago, ttl %s", e.Age(now).Seconds(), e.TTL)
	if e.Err != nil {
		reason += ": " + e.Err.Error()
	}
	return reason
}

func errText(err error) string {
	if err == nil {
		return "unknown error"
	}
	return err.Error()
}

// makeVerdicts prepares the verdicts of the checks without parameters, which are
// asked most.
func (m *Member) makeVerdicts(now time.Time) {
	if !m.Entry.Known {
		return
	}
	for q := range m.verdicts {
		c := plainChecks[q]
		m.verdicts[q] = node.Judge(&m.Entry.Value, &m.Standing, now.Sub(m.Since), &c)
	}
}

var plainChecks = func() (checks [node.Questions]node.Check) {
	for q := range checks {
		checks[q] = node.PlainCheck(node.Question(q))
	}
	return checks
}()

var (
	leaderCheck  = &plainChecks[node.AskLeader]
	replicaCheck = &plainChecks[node.AskReplica]
)

// timeline formats a timeline for display; 0 is unknown.
func timeline(n int64) string {
	if n == 0 {
		return "unknown"
	}
	return strconv.FormatInt(n, 10)
}
