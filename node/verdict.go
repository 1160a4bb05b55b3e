package node

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Outcome sorts verdicts by what a load balancer should make of them.
type Outcome uint8

// The outcomes. Only Pass passes.
const (
	Pass      Outcome = iota
	OtherRole         // healthy, but of another role: expected, nobody needs to look
	Lagging           // a replica excluded for lag: open sessions may finish
	Excluded          // the right role, healthy, but a rule keeps it out
	Transient         // in passing, for at most [PassingFor]
	Finishing         // its stop was announced just now: open sessions may finish
	Fault             // not answering, stale, of another cluster, not running
)

var outcomes = [...]string{"pass", "other-role", "lagging", "excluded", "transient", "finishing", "fault"}

func (o Outcome) String() string { return outcomes[o] }

// MarshalText writes the outcome's name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (o *Outcome) UnmarshalText(b []byte) error {
	i := slices.Index(outcomes[:], string(b))
	if i < 0 {
		return fmt.Errorf("want one of %s (got %q)", strings.Join(outcomes[:], ", "), b)
	}
	*o = Outcome(i)
	return nil
}

// PassingFor bounds how long stopping, starting or promoting counts as passing.
const PassingFor = 60 * time.Second

// Verdict is the answer to a check.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	Label   string  `json:"label"`  // in a word or two, as an agent says it: "replica", "stopping"
	Reason  string  `json:"reason"` // for people
}

// Passes reports whether the check is answered with yes.
func (v Verdict) Passes() bool { return v.Outcome == Pass }

// FaultFor is the verdict on a node of which nothing good is known.
func FaultFor(reason string) Verdict { return Verdict{Fault, reason, reason} }

// Standing is what the whole cluster knows about one node: the half of a
// verdict that no node can decide alone. The zero Standing is a node without
// leadership in a cluster without rules, whose lag is 0.
type Standing struct {
	Elected    bool   // this node is the one leader, of a primary or standby cluster
	Lock       bool   // who holds the lock is primary, whatever PostgreSQL does ([checks] primary = "lock")
	Judging    bool   // two nodes claim and are being asked again
	Dispute    string // why this node's claim was not accepted
	Leaving    string // why this node is to lead no more though it does: its stop was announced
	Finishing  bool   // that was just now
	Lag        int64  // replayed bytes behind the primary, -1 = unknown
	ReceiveLag int64  // received bytes behind the primary, -1 = unknown
	Excluded   Outcome
	Label, Why string // of Excluded
	Behind     bool   // on an older timeline than the primary for too long
	Fallback   bool   // no replica is left: the primary serves reads
	DCS        bool   // the node sees its DCS
}

// DefaultReadinessLag is Patroni's maximum_lag_on_failover (api.py:468-534).
const DefaultReadinessLag = 1 << 20

// Judge answers a check for a node whose report is fresh, as the truth table of
// Patroni 4.1.4's api.py:322-418 says; what the table takes from the leader lock
// is s.Elected here, so that at most one node of a cluster has it. inState is
// for how long the node has been in its present role and state.
func Judge(r *Report, s *Standing, inState time.Duration, c *Check) Verdict {
	j := judge{r, &r.Document, s, c, inState}
	v := j.role()
	if v.Outcome != Pass || len(c.Tags) == 0 || c.Writes() || c.Ask == AskLiveness || c.Ask == AskReadiness {
		return v
	}
	for _, tag := range c.Tags {
		if have, ok := j.d.TagText(tag.Name); !ok {
			return Verdict{Excluded, "no tag " + printable(tag.Name), fmt.Sprintf("tag %s is not set, want %q", printable(tag.Name), tag.Value)}
		} else if have != tag.Value {
			return Verdict{Excluded, "tag " + printable(tag.Name), fmt.Sprintf("tag %s is %q, want %q", printable(tag.Name), printable(have), tag.Value)}
		}
	}
	return v
}

type judge struct {
	r       *Report
	d       *Document
	s       *Standing
	c       *Check
	inState time.Duration
}

func (j *judge) role() Verdict {
	switch j.c.Ask {
	case AskPrimary, AskLeader, AskStandbyLeader:
		return j.leader(j.c.Ask)
	case AskReplica:
		v := j.replica()
		if v.Outcome != Pass && j.s.Fallback && j.s.Elected && j.leader(AskPrimary).Passes() {
			return Verdict{Pass, "primary", "no replica is eligible: the primary serves reads"}
		}
		return v
	case AskReadOnly:
		return j.orLeader(j.replica())
	case AskSync:
		return j.sync()
	case AskAsync:
		return j.async()
	case AskQuorum:
		return j.quorum()
	case AskReadOnlySync:
		return j.seenByDCS(j.orLeader(j.sync()))
	case AskReadOnlyQuorum:
		return j.seenByDCS(j.orLeader(j.quorum()))
	case AskHealth:
		if !j.d.Running() {
			return j.notRunning()
		}
		return Verdict{Pass, string(j.d.Role), "PostgreSQL is running"}
	case AskLiveness:
		return Verdict{Pass, "alive", "Patroni answers"}
	case AskReadiness:
		return j.readiness()
	}
	return FaultFor("no such check")
}

// leader answers for the three names of the one leader. A stop that was
// announced is no fault, and hides none.
func (j *judge) leader(ask Question) Verdict {
	v := j.elected(ask)
	if j.s.Leaving == "" || v.Outcome != Pass && v.Outcome != Transient {
		return v
	}
	if v.Outcome = Transient; j.s.Finishing {
		v.Outcome = Finishing
	}
	return Verdict{v.Outcome, "leaving", j.s.Leaving}
}

func (j *judge) elected(ask Question) Verdict {
	standby := j.r.ClaimsStandby() || j.r.Status != http.StatusOK && j.d.Role == RoleStandbyLeader
	switch {
	case !j.s.Elected:
		return j.notLeader()
	case standby && ask == AskPrimary:
		return Verdict{OtherRole, string(RoleStandbyLeader), "leads a standby cluster, which takes no writes"}
	case !standby && ask == AskStandbyLeader:
		return Verdict{OtherRole, string(RolePrimary), "leads a primary cluster, not a standby cluster"}
	case standby && (j.s.Lock || j.d.Running() || j.d.State == StateUnknown):
		return Verdict{Pass, string(RoleStandbyLeader), "holds the leader lock of a standby cluster"}
	case !standby && (j.s.Lock || j.r.Writable()):
		return Verdict{Pass, string(RolePrimary), "holds the leader lock"}
	case j.d.Running():
		return j.passing("promoting", "holds the leader lock, but is not promoted yet: role "+string(j.d.Role))
	}
	return j.notRunning()
}

func (j *judge) notLeader() Verdict {
	switch {
	case j.s.Judging && j.r.Claims():
		return Verdict{Transient, "judging", "two nodes claim to lead and are being asked again"}
	case j.r.Claims():
		return FaultFor(cmp.Or(j.s.Dispute, "not elected"))
	case !j.d.Running():
		return j.notRunning()
	case j.d.Role == RolePrimary:
		return j.passing("no lock", "role is primary, but without the leader lock")
	}
	return j.otherRole()
}

func (j *judge) otherRole() Verdict {
	switch j.d.Role { // these two make no garbage: each view asks for them often
	case RolePrimary:
		return Verdict{OtherRole, "primary", "role is primary"}
	case RoleReplica:
		return Verdict{OtherRole, "replica", "role is replica"}
	}
	return Verdict{OtherRole, string(j.d.Role), "role is " + string(j.d.Role)}
}

// orLeader is for the read-only checks: the leader passes whatever v says.
func (j *judge) orLeader(v Verdict) Verdict {
	if leader := j.leader(AskLeader); leader.Passes() || j.s.Leaving != "" && !v.Passes() {
		return leader
	}
	return v
}

// replica is Patroni's replica_ok, then the rules of the cluster.
func (j *judge) replica() Verdict {
	switch {
	case !j.d.Running():
		return j.notRunning()
	case j.d.Role != RoleReplica:
		return j.otherRole()
	case j.r.ClaimsStandby():
		return Verdict{OtherRole, string(RoleStandbyLeader), "holds the leader lock of a standby cluster"}
	case j.d.NoLoadBalance():
		return Verdict{Excluded, "noloadbalance", "tag noloadbalance is set"}
	case j.c.ReplicationState != "" && j.d.ReplicationState != j.c.ReplicationState:
		return j.notStreaming(j.c.ReplicationState)
	case j.c.Lag != noLimit && j.s.Lag > j.c.Lag:
		text := "lag " + FormatSize(j.s.Lag) + " over " + FormatSize(j.c.Lag)
		return Verdict{Lagging, text, text}
	case j.s.Excluded != Pass:
		return Verdict{j.s.Excluded, j.s.Label, j.s.Why}
	}
	return Verdict{Pass, string(RoleReplica), "running replica"}
}

func (j *judge) notStreaming(want string) Verdict {
	v := Verdict{Outcome: Excluded, Label: "not " + printable(want)}
	switch {
	case j.d.ReplicationState != "":
		v.Reason = fmt.Sprintf("replication state is %q, want %q", j.d.ReplicationState, want)
	case j.d.TellsReplicationState():
		v.Reason = fmt.Sprintf("no replication state, want %q", want)
	default:
		v.Reason = fmt.Sprintf("replication state unknown, want %q: Patroni %s does not tell it, 3.0.4 and newer do", want, j.d.Version)
	}
	return v
}

func (j *judge) sync() Verdict {
	v := j.seenByDCS(j.replica())
	if v.Outcome == Pass && !j.d.SyncStandby {
		return Verdict{OtherRole, "async", "not a synchronous standby"}
	}
	return v
}

func (j *judge) quorum() Verdict {
	v := j.seenByDCS(j.replica())
	if v.Outcome == Pass && !j.d.QuorumStandby {
		return Verdict{OtherRole, "async", "not a quorum standby"}
	}
	return v
}

func (j *judge) async() Verdict {
	v := j.seenByDCS(j.replica())
	switch {
	case v.Outcome == Pass && j.d.SyncStandby:
		return Verdict{OtherRole, "sync", "a synchronous standby"}
	case v.Outcome == Pass && j.d.QuorumStandby:
		return Verdict{OtherRole, "quorum", "a quorum standby"}
	}
	return v
}

// seenByDCS takes out a node that cannot know whether it is synchronous.
func (j *judge) seenByDCS(v Verdict) Verdict {
	if v.Outcome == Pass && !j.s.DCS {
		return Verdict{Excluded, "DCS unseen", "the node does not see its DCS, so who is synchronous is unknown"}
	}
	return v
}

// readiness follows Patroni 4.1 (api.py:468-534); before 3.0.4, which do not
// tell whether a replica streams, 3.0.2's: running, with a view of the DCS.
func (j *judge) readiness() Verdict {
	limit, lag := j.c.Lag, j.s.Lag
	if limit == noLimit {
		limit = DefaultReadinessLag
	}
	if j.c.Received {
		lag = j.s.ReceiveLag
	}
	switch {
	case j.s.Elected:
		return Verdict{Pass, string(j.d.Role), "holds the leader lock"}
	case !j.d.Running():
		return j.notRunning()
	case !j.d.TellsReplicationState() && !j.s.DCS:
		return Verdict{Excluded, "DCS unseen", "the node does not see its DCS"}
	case !j.d.TellsReplicationState():
	case j.d.ReplicationState != "streaming":
		return j.notStreaming("streaming")
	case lag > limit:
		text := "lag " + FormatSize(lag) + " over " + FormatSize(limit)
		return Verdict{Lagging, text, text}
	}
	return Verdict{Pass, string(j.d.Role), "ready"}
}

// notRunning is the verdict on a node whose PostgreSQL does not run: what
// passes by itself is no fault for a while.
func (j *judge) notRunning() Verdict {
	state := string(j.d.State)
	switch j.d.State {
	case StateStarting, StateStopping, StateStopped, StateRestarting, "starting after custom bootstrap":
		return j.passing(state, "PostgreSQL is "+state)
	case StateUnknown:
		return Verdict{Fault, "SQL fails", "PostgreSQL does not answer SQL"}
	}
	return Verdict{Fault, state, "PostgreSQL: " + state}
}

func (j *judge) passing(label, reason string) Verdict {
	if j.inState <= PassingFor {
		return Verdict{Transient, label, reason}
	}
	since := " for " + j.inState.Round(time.Second).String()
	return Verdict{Fault, label + since, reason + since}
}

// TellsReplicationState reports whether this Patroni reports replication_state
// at all: since 3.0.4.
func (d *Document) TellsReplicationState() bool {
	return d.ReplicationState != "" || !olderThan(d.Version, 3, 0, 4)
}

// olderThan compares a version such as "3.0.2"; an unreadable one is not older.
func olderThan(version string, than ...int) bool {
	for i, part := range strings.SplitN(version, ".", len(than)) {
		n, err := strconv.Atoi(part)
		if err != nil || n > than[i] {
			return false
		}
		if n < than[i] {
			return true
		}
	}
	return false
}
