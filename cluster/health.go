package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patroniglue/node"
)

// Level is how serious a reason is, or a whole health.
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

// The codes of reasons. Their meaning stays the same between versions, and they are
// the same in /health, on the page, in the output of status, and as the label "code"
// of metrics and alerts.
const (
	CodeSplitBrain      = "split_brain"      // several nodes claim to be primary and answer
	CodeNoPrimary       = "no_primary"       // no node passes the check "leader": the primary, or in a standby cluster its leader
	CodeNodeDown        = "node_down"        // there is no answer of the node that can be believed; critical if there is none of any node
	CodeWrongCluster    = "wrong_cluster"    // the node belongs to another cluster than configured, or is another member
	CodeIdentityChanged = "identity_changed" // the cluster has another system identifier than before
	CodeMixedScopes     = "mixed_scopes"     // the nodes of the cluster have several scopes, and none is configured
	CodeSQLFails        = "sql_fails"        // the primary passes, but has not answered Patroni's SQL for long
	CodeLeaving         = "leaving"          // the node's announced stop holds
	CodeUnlisted        = "unlisted"         // the DCS does not list the node any more
	CodeReplicaMissing  = "replica_missing"  // the node answers, but its PostgreSQL is not a working replica
	CodeWrongTimeline   = "wrong_timeline"   // the replica does not follow the primary's timeline
	CodeLag             = "lag"              // the replica is excluded for lag
	CodeDCSUnseen       = "dcs_unseen"       // the node does not see its DCS
	CodePaused          = "paused"           // Patroni is paused: no automatic failover
	CodeFailsafe        = "failsafe"         // Patroni's failsafe mode is active: the DCS is out of reach
	CodeTTLUnsafe       = "ttl_unsafe"       // the cache's TTL is too long for Patroni's own
	CodeTTLUnknown      = "ttl_unknown"      // Patroni's ttl or loop_wait cannot be read, so the cache's TTL is not compared with them

	CodeCertificateExpiring = "certificate_expiring" // a certificate, of the node or of the supervisor itself, ends within [ExpiryWarning]
	CodeCertificateExpired  = "certificate_expired"  // a certificate has ended and is still used
	CodeReloadFailed        = "reload_failed"        // a new configuration is invalid, so the supervisor keeps the old one
	CodeDiscoveryStale      = "discovery_stale"      // the DCS does not answer: the members are the last ones known
	CodeDiscoveryProblem    = "discovery_problem"    // an entry of a member in the DCS cannot be used
)

// Codes lists every code, in a fixed order.
var Codes = []string{
	CodeSplitBrain, CodeNoPrimary, CodeNodeDown, CodeWrongCluster, CodeIdentityChanged, CodeMixedScopes, CodeSQLFails, CodeLeaving, CodeUnlisted, CodeReplicaMissing, CodeWrongTimeline, CodeLag,
	CodeDCSUnseen, CodePaused, CodeFailsafe, CodeTTLUnsafe, CodeTTLUnknown, CodeCertificateExpiring, CodeCertificateExpired, CodeReloadFailed,
	CodeDiscoveryStale, CodeDiscoveryProblem,
}

// Reason is one thing that is wrong.
type Reason struct {
	Code  string `json:"code"` // one of Codes
	Level Level  `json:"level"`
	Node  string `json:"node,omitzero"` // "" if the reason is about the whole cluster
	Text  string `json:"text"`
}

// Health is the verdict on a whole cluster, or on the supervisor itself.
type Health struct {
	Level   Level    `json:"level"`   // the worst of all reasons
	Reasons []Reason `json:"reasons"` // worst first; empty, never null, when all is well
}

// Add inserts r after the reasons that are as serious or more so.
func (h *Health) Add(r Reason) {
	h.Level = max(h.Level, r.Level)
	at := len(h.Reasons)
	for at > 0 && h.Reasons[at-1].Level < r.Level {
		at--
	}
	h.Reasons = slices.Insert(h.Reasons, at, r)
}

// sqlFailsAfter is for how long a leader's SQL must fail before that is a reason. A single
// query of Patroni fails now and then.
const sqlFailsAfter = 10 * time.Second

// Health judges the cluster as it is known at now. Where only one node is watched,
// the primary may be an unwatched node: it is no fault then that there is none.
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
		asAnnounced := leader.leaves(now) && verdict.Outcome != node.Fault // an announced stop is no emergency before it happens
		if !verdict.Passes() && !asAnnounced {
			add(Critical, CodeNoPrimary, leader.Name, "elected last, but: "+verdict.Reason)
		}
	} else if !alone {
		text := "no node claims to be primary"
		switch {
		case v.Split: // whose reason says why
			text = "none of the nodes that claim to be primary is elected"
		case v.Why != "":
			text = v.Why
		}
		add(Critical, CodeNoPrimary, "", text)
	}
	if v.Changed != (IdentityChange{}) {
		text := v.Changed.reason() + ", since " + v.Changed.At.UTC().Format("2006-01-02 15:04:05 UTC")
		if names := v.unfollowed(now); names != "" {
			text += "; not followed by " + names + " yet: reload the configuration to acknowledge it"
		}
		add(Warning, CodeIdentityChanged, "", text)
	}
	if scopes := v.mixedScopes(now); scopes != "" {
		add(Warning, CodeMixedScopes, "", "the nodes have several scopes: "+scopes+"; no scope is configured, so it is not checked")
	}
	v.memberReasons(now, answering, add)
	v.conditions(now, add)
	if v.Unsafe != "" {
		add(Warning, CodeTTLUnsafe, "", v.Unsafe)
	}
	if v.Unread != "" {
		add(Warning, CodeTTLUnknown, "", v.Unread)
	}
	return h
}

// memberReasons adds the reasons that are about one node each. answering is the
// number of nodes whose answer is fresh.
func (v *View) memberReasons(now time.Time, answering int, add func(Level, string, string, string)) {
	for _, m := range v.Members {
		fresh := m.Entry.Fresh(now)
		replica := m.Verdict(replicaCheck, now)
		if m.leaves(now) {
			add(Warning, CodeLeaving, m.Name, m.leaving.why(now))
		}
		if !m.Unlisted.IsZero() && (fresh || answering > 0) {
			add(Warning, CodeUnlisted, m.Name, m.unlisted(now))
		}
		switch {
		case !fresh && answering == 0:
			add(Critical, CodeNodeDown, m.Name, replica.Reason)
		case !fresh && m.Unlisted.IsZero():
			add(Warning, CodeNodeDown, m.Name, replica.Reason)
		case !fresh:
		case m.Refused != "":
			add(Warning, CodeWrongCluster, m.Name, m.Refused)
		case m.Name == v.Leader:
			if since := now.Sub(m.Since); m.Entry.Value.Document.State == node.StateUnknown && since >= sqlFailsAfter && m.Verdict(leaderCheck, now).Passes() {
				add(Warning, CodeSQLFails, m.Name, "PostgreSQL has not answered Patroni's SQL for "+since.Round(time.Second).String()+": it passes because it holds the leader lock")
			}
		case m.Standing.Behind:
			add(Warning, CodeWrongTimeline, m.Name, m.Standing.Why)
		case replica.Outcome == node.Lagging:
			add(Warning, CodeLag, m.Name, replica.Reason)
		case replica.Outcome == node.Fault:
			add(Warning, CodeReplicaMissing, m.Name, replica.Reason)
		}
	}
}

// conditions adds what the nodes themselves report: each condition of the cluster
// once, and those of a node for each node.
func (v *View) conditions(now time.Time, add func(Level, string, string, string)) {
	var paused, failsafe bool
	for _, m := range v.Members {
		if !m.Entry.Fresh(now) || m.Refused != "" {
			continue
		}
		d := &m.Entry.Value.Document
		paused = paused || d.Pause
		failsafe = failsafe || d.Failsafe
		// A certificate that has ended fails the poll, unless the node is polled with verify = "none".
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

// ExpiryWarning is how long before its end a certificate becomes a warning.
const ExpiryWarning = 14 * 24 * time.Hour

// CertificateReason returns the reason for a certificate that ends within
// [ExpiryWarning] by the wall clock, at level Warning, or that has ended, at the level
// given by over. ok is false for others and for the zero time, which is no
// certificate. what names the certificate in the text.
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
