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

// Reason is one thing that is wrong, with a code that does not change between
// versions.
type Reason struct {
	Code  string `json:"code"`
	Level Level  `json:"level"`
	Node  string `json:"node,omitzero"` // "" when it is about the whole cluster
	Text  string `json:"text"`
}

// Health is the verdict on a whole cluster.
type Health struct {
	Level   Level    `json:"level"`
	Reasons []Reason `json:"reasons"` // worst first; empty, never null, when all is well
}

// Health judges the cluster as it is known at now. Where one node only is
// watched, the primary may well be one that is not: no primary is no fault then.
func (v *View) Health(now time.Time) Health {
	h := Health{Reasons: []Reason{}}
	add := func(level Level, code, node, text string) {
		h.Level = max(h.Level, level)
		h.Reasons = append(h.Reasons, Reason{code, level, node, text})
	}
	alone := len(v.Members) == 1
	answering := 0
	for _, m := range v.Members {
		if m.Entry.Fresh(now) {
			answering++
		}
	}
	if v.Split {
		add(Critical, "split_brain", "", v.Why)
	}
	if leader := v.Member(v.Leader); leader != nil {
		verdict := leader.Verdict(leaderCheck, now)
		asAnnounced := leader.leaves(now) && verdict.Outcome != node.Fault // no emergency, until it has stopped
		if !verdict.Passes() && !asAnnounced {
			add(Critical, "no_primary", leader.Name, "elected last, but: "+verdict.Reason)
		}
	} else if !alone {
		text := "no node claims to be primary"
		switch {
		case v.Split: // which has told why
			text = "nobody is elected of those that claim to be primary"
		case v.Why != "":
			text = v.Why
		}
		add(Critical, "no_primary", "", text)
	}
	for _, m := range v.Members {
		fresh := m.Entry.Fresh(now)
		replica := m.Verdict(replicaCheck, now)
		if m.leaves(now) {
			add(Warning, "leaving", m.Name, m.leaving.why(now))
		}
		switch {
		case !fresh && answering == 0:
			add(Critical, "node_down", m.Name, replica.Reason)
		case !fresh:
			add(Warning, "node_down", m.Name, replica.Reason)
		case m.Refused != "":
			add(Warning, "wrong_cluster", m.Name, m.Refused)
		case m.Name == v.Leader:
		case m.Standing.Behind:
			add(Warning, "wrong_timeline", m.Name, m.Standing.Why)
		case replica.Outcome == node.Lagging:
			add(Warning, "lag", m.Name, replica.Reason)
		case replica.Outcome == node.Fault:
			add(Warning, "replica_missing", m.Name, replica.Reason)
		}
	}
	v.conditions(now, add)
	if v.Unsafe != "" {
		add(Warning, "ttl_unsafe", "", v.Unsafe)
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
		if !m.Standing.DCS {
			add(Warning, "dcs_unseen", m.Name, m.Name+" does not see its DCS")
		}
	}
	if paused {
		add(Warning, "paused", "", "Patroni is paused: there is no automatic failover")
	}
	if failsafe {
		add(Warning, "failsafe", "", "failsafe mode is active: the DCS is out of reach")
	}
}
