package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patroniglue/node"
)

// Level is how bad it is.
type Level uint8

// The levels of a cluster's health.
const (
	OK Level = iota
	Warning
	Critical
)

var levels = [...]string{"ok", "warning", "critical"}

func (l Level) String() string { return levels[l] }

// MarshalText writes the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (l *Level) UnmarshalText(b []byte) error {
	i := slices.Index(levels[:], string(b))
	if i < 0 {
		return fmt.Errorf("want one of %s (got %q)", strings.Join(levels[:], ", "), b)
	}
	*l = Level(i)
	return nil
}

// The codes of reasons, which keep their meaning between versions. They are the
// same in /health, on the page, from status, and as the label code of metrics and
// alerts.
const (
	CodeSplitBrain     = "split_brain"     // several nodes claim to be primary, and answer
	CodeNoPrimary      = "no_primary"      // no node passes the check of the leader: the primary, or in a standby cluster its leader
	CodeNodeDown       = "node_down"       // nothing is believed of the node; critical when of none
	CodeWrongCluster   = "wrong_cluster"   // the node belongs to another cluster, or is another member, than configured
	CodeLeaving        = "leaving"         // the node's announced stop holds
	CodeLeft           = "left"            // the DCS does not list the node any more
	CodeReplicaMissing = "replica_missing" // the node answers, but its PostgreSQL is no replica that works
	CodeWrongTimeline  = "wrong_timeline"  // the replica does not follow the primary's timeline
	CodeLag            = "lag"             // the replica is excluded for lag
	CodeDCSUnseen      = "dcs_unseen"      // the node does not see its DCS
	CodePaused         = "paused"          // Patroni is paused: no automatic failover
	CodeFailsafe       = "failsafe"        // Patroni's failsafe mode is active: the DCS is out of reach
	CodeTTLUnsafe      = "ttl_unsafe"      // the cache's TTL is too long for Patroni's own

	CodeCertificateExpiring = "certificate_expiring" // ends within [ExpiryWarning]: the node's, or one of the supervisor itself
	CodeCertificateExpired  = "certificate_expired"  // is over, and used nevertheless
	CodeReloadFailed        = "reload_failed"        // a new configuration cannot be used, so the supervisor goes on with the old one
	CodeDiscoveryStale      = "discovery_stale"      // the DCS is not heard: members are those that were known
	CodeDiscoveryProblem    = "discovery_problem"    // something that the DCS says of members cannot be used
)

// Codes lists every code, in a fixed order.
var Codes = []string{
	CodeSplitBrain, CodeNoPrimary, CodeNodeDown, CodeWrongCluster, CodeLeaving, CodeLeft, CodeReplicaMissing, CodeWrongTimeline, CodeLag,
	CodeDCSUnseen, CodePaused, CodeFailsafe, CodeTTLUnsafe, CodeCertificateExpiring, CodeCertificateExpired, CodeReloadFailed,
	CodeDiscoveryStale, CodeDiscoveryProblem,
}

// Reason is one thing that is wrong.
type Reason struct {
	Code  string `json:"code"` // one of Codes
	Level Level  `json:"level"`
	Node  string `json:"node,omitzero"` // "" when it is about the whole cluster
	Text  string `json:"text"`
}

// Health is the verdict on a whole cluster, or on the supervisor itself.
type Health struct {
	Level   Level    `json:"level"`   // the worst of all reasons
	Reasons []Reason `json:"reasons"` // worst first; empty, never null, when all is well
}

// Add puts r behind the reasons that are as bad or worse.
func (h *Health) Add(r Reason) {
	h.Level = max(h.Level, r.Level)
	at := len(h.Reasons)
	for at > 0 && h.Reasons[at-1].Level < r.Level {
		at--
	}
	h.Reasons = slices.Insert(h.Reasons, at, r)
}

// Health judges the cluster as it is known at now. Where one node only is
// watched, the primary may well be one that is not: no primary is no fault then.
func (v *View) Health(now time.Time) Health {
	h := Health{Reasons: []Reason{}}
	add := func(level Level, code, node, text string) { h.Add(Reason{code, level, node, text}) }
	alone := len(v.Members) == 1
	answering := 0
	for _, m := range v.Members {
		if m.Entry.Fresh(now) {
			answering++
		}
	}
	if v.Split {
		add(Critical, CodeSplitBrain, "", v.Why)
	}
	if leader := v.Member(v.Leader); leader != nil {
		verdict := leader.Verdict(leaderCheck, now)
		asAnnounced := leader.leaves(now) && verdict.Outcome != node.Fault // no emergency, until it has stopped
		if !verdict.Passes() && !asAnnounced {
			add(Critical, CodeNoPrimary, leader.Name, "elected last, but: "+verdict.Reason)
		}
	} else if !alone {
		text := "no node claims to be primary"
		switch {
		case v.Split: // which has told why
			text = "nobody is elected of those that claim to be primary"
		case v.Why != "":
			text = v.Why
		}
		add(Critical, CodeNoPrimary, "", text)
	}
	for _, m := range v.Members {
		fresh := m.Entry.Fresh(now)
		replica := m.Verdict(replicaCheck, now)
		if m.leaves(now) {
			add(Warning, CodeLeaving, m.Name, m.leaving.why(now))
		}
		if !m.Left.IsZero() && (fresh || answering > 0) {
			add(Warning, CodeLeft, m.Name, m.left(now))
		}
		switch {
		case !fresh && answering == 0:
			add(Critical, CodeNodeDown, m.Name, replica.Reason)
		case !fresh && m.Left.IsZero():
			add(Warning, CodeNodeDown, m.Name, replica.Reason)
		case !fresh:
		case m.Refused != "":
			add(Warning, CodeWrongCluster, m.Name, m.Refused)
		case m.Name == v.Leader:
		case m.Standing.Behind:
			add(Warning, CodeWrongTimeline, m.Name, m.Standing.Why)
		case replica.Outcome == node.Lagging:
			add(Warning, CodeLag, m.Name, replica.Reason)
		case replica.Outcome == node.Fault:
			add(Warning, CodeReplicaMissing, m.Name, replica.Reason)
		}
	}
	v.conditions(now, add)
	if v.Unsafe != "" {
		add(Warning, CodeTTLUnsafe, "", v.Unsafe)
	}
	return h
}

// conditions are what the nodes themselves report of their cluster, once each.
func (v *View) conditions(now time.Time, add func(Level, string, string, string)) {
	var paused, failsafe bool
	for _, m := range v.Members {
		if !m.Entry.Fresh(now) || m.Refused != "" {
			continue
		}
		d := &m.Entry.Value.Document
		paused = paused || d.Pause
		failsafe = failsafe || d.Failsafe
		// One that is over fails the poll, unless the node is polled with insecure.
		if r, ok := CertificateReason("the certificate of its REST API", m.Entry.Value.CertificateEnds, now, Warning); ok {
			add(r.Level, r.Code, m.Name, r.Text)
		}
		if !m.Standing.DCS {
			add(Warning, CodeDCSUnseen, m.Name, m.Name+" does not see its DCS")
		}
	}
	if paused {
		add(Warning, CodePaused, "", "Patroni is paused: there is no automatic failover")
	}
	if failsafe {
		add(Warning, CodeFailsafe, "", "failsafe mode is active: the DCS is out of reach")
	}
}

// ExpiryWarning is how long before its end a certificate is a warning.
const ExpiryWarning = 14 * 24 * time.Hour

// CertificateReason tells, by the wall clock, of a certificate that ends soon, or
// is over, which is of level over. The zero time is no certificate.
func CertificateReason(what string, ends, now time.Time, over Level) (r Reason, ok bool) {
	const layout = "2006-01-02 15:04 UTC"
	switch {
	case ends.IsZero() || ends.Sub(now) > ExpiryWarning:
		return Reason{}, false
	case now.After(ends): // as crypto/x509 judges
		return Reason{Code: CodeCertificateExpired, Level: over, Text: what + " ended at " + ends.UTC().Format(layout)}, true
	}
	return Reason{Code: CodeCertificateExpiring, Level: Warning, Text: what + " ends at " + ends.UTC().Format(layout)}, true
}
