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

// Outcome classifies verdicts by how a load balancer should treat the node.
type Outcome uint8

// The outcomes. Only Pass passes.
const (
	Pass      Outcome = iota
	OtherRole         // healthy, but with another role: expected, no reason to act
	Lagging           // a replica that lags too far: open sessions may finish
	Excluded          // healthy and with the right role, but a rule excludes it
	Transient         // on the way to another state, for at most [PassingFor]
	Finishing         // about to stop, as just announced: open sessions may finish
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

// PassingFor bounds how long stopping, starting or promoting is [Transient]; after
// that it is a [Fault].
const PassingFor = 60 * time.Second

// Verdict is the answer to a check.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	Label   string  `json:"label"`  // a few words for an agent's answer, such as "replica" or "stopping"
	Reason  string  `json:"reason"` // a sentence for display
}

// Passes reports whether the node passes the check.
func (v Verdict) Passes() bool { return v.Outcome == Pass }

// FaultFor returns the verdict on a node with a fault.
func FaultFor(reason string) Verdict { return Verdict{Fault, reason, reason} }

// Standing is what the whole cluster knows about one node: the part of a verdict that
// its own report cannot decide. The zero Standing is that of a node that is not
// elected, in a cluster without rules, with a lag of 0 and without a view of its DCS.
type Standing struct {
	Elected     bool    // this node is the one leader, of a primary or standby cluster
	Lock        bool    // the holder of the leader lock is primary, whatever state PostgreSQL is in ([checks] primary = "lock")
	Judging     bool    // several nodes claim to lead and are being polled again
	Dispute     string  // why this node's claim was not accepted
	Beside      string  // why this node is not elected though it leads a standby cluster: a primary does; "" = otherwise
	OnlyStandby bool    // with Beside: no other node does the same
	Leaving     string  // why the node passes no check of a leader though elected: its stop was announced; "" = it was not
	Finishing   bool    // the stop was announced just now
	Lag         int64   // replayed bytes behind the primary, -1 = unknown
	ReceiveLag  int64   // received bytes behind the primary, -1 = unknown
	Excluded    Outcome // of a replica that a rule excludes; Pass = none does
	Label, Why  string  // Label and Reason of the verdict when excluded
	Behind      bool    // it has been on an older timeline than the primary for too long
	Fallback    bool    // no replica passes, so the primary serves reads
	DCS         bool    // the node sees its DCS
}

// DefaultReadinessLag is Patroni's maximum_lag_on_failover (api.py:468-534).
const DefaultReadinessLag = 1 << 20

// Judge answers a check for a node whose report is fresh. It follows Patroni 4.1.4
// (api.py:322-418), but where Patroni checks the leader lock it uses s.Elected, so
// that at most one node of a cluster leads. inState is how long the node has had its
// present role and state.
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

// leader judges the three checks of the leader. An announced stop is no fault, and it
// does not hide one.
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
		v := j.notLeader()
		if ask == AskStandbyLeader && v.Outcome == OtherRole && j.s.Beside != "" && j.s.OnlyStandby {
			v = Verdict{Pass, string(RoleStandbyLeader), "holds the leader lock of a standby cluster"}
		}
		return v
	case standby && ask == AskPrimary:
		return Verdict{OtherRole, string(RoleStandbyLeader), "leads a standby cluster, which takes no writes"}
	case !standby && ask == AskStandbyLeader:
		return Verdict{OtherRole, string(RolePrimary), "leads a primary cluster, not a standby cluster"}
	case standby && (j.s.Lock || j.d.Running() || j.d.State == StateUnknown):
		return Verdict{Pass, string(RoleStandbyLeader), "holds the leader lock of a standby cluster"}
	case !standby && (j.s.Lock || j.r.Writable()):
		return Verdict{Pass, string(RolePrimary), "holds the leader lock"}
	case j.d.Running():
		return j.transient("promoting", "holds the leader lock, but is not promoted yet: role "+string(j.d.Role))
	}
	return j.notRunning()
}

func (j *judge) notLeader() Verdict {
	switch {
	case j.s.Beside != "" && (j.d.Running() || j.d.State == StateUnknown || j.s.Lock):
		return Verdict{OtherRole, string(RoleStandbyLeader), j.s.Beside}
	case j.s.Judging && j.r.Claims():
		return Verdict{Transient, "judging", "two nodes claim to lead and are being asked again"}
	case j.r.Claims():
		return FaultFor(cmp.Or(j.s.Dispute, "not elected"))
	case !j.d.Running():
		return j.notRunning()
	case j.d.Role == RolePrimary:
		return j.transient("no lock", "role is primary, but without the leader lock")
	}
	return j.otherRole()
}

func (j *judge) otherRole() Verdict {
	switch j.d.Role { // the two common roles, without allocating
	case RolePrimary:
		return Verdict{OtherRole, "primary", "role is primary"}
	case RoleReplica:
		return Verdict{OtherRole, "replica", "role is replica"}
	}
	return Verdict{OtherRole, string(j.d.Role), "role is " + string(j.d.Role)}
}

// orLeader judges the read-only checks: the leader passes them, whatever v says.
func (j *judge) orLeader(v Verdict) Verdict {
	if j.s.Beside != "" && j.d.Running() {
		return Verdict{Pass, string(RoleStandbyLeader), "holds the leader lock of a standby cluster"}
	}
	if leader := j.leader(AskLeader); leader.Passes() || j.s.Leaving != "" && !v.Passes() {
		return leader
	}
	return v
}

// replica judges as Patroni does for /replica, then by the rules of the cluster.
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
		v.Reason = fmt.Sprintf("replication state unknown, want %q: Patroni %s does not report it, 3.0.4 and newer do", want, j.d.Version)
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

// seenByDCS excludes a node that does not see its DCS: it cannot know whether it is
// synchronous.
func (j *judge) seenByDCS(v Verdict) Verdict {
	if v.Outcome == Pass && !j.s.DCS {
		return Verdict{Excluded, "DCS unseen", "the node does not see its DCS, so whether it is synchronous is unknown"}
	}
	return v
}

// readiness judges as Patroni 4.1 does (api.py:468-534). Releases before 3.0.4 do not
// report whether a replica streams; they are judged as 3.0.2 does: a running member
// that sees its DCS is ready.
func (j *judge) readiness() Verdict {
	limit, lag := j.c.Lag, j.s.Lag
	if limit == noLimit {
		limit = DefaultReadinessLag
	}
	if j.c.Received {
		lag = j.s.ReceiveLag
	}
	switch {
	case j.s.Elected, j.s.Beside != "":
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

// notRunning is the verdict on a node whose PostgreSQL does not run. A state that
// usually ends by itself is no fault at first.
func (j *judge) notRunning() Verdict {
	state := string(j.d.State)
	switch j.d.State {
	case StateStarting, StateStopping, StateStopped, StateRestarting, "starting after custom bootstrap":
		return j.transient(state, "PostgreSQL is "+state)
	case StateUnknown:
		return Verdict{Fault, "SQL fails", "PostgreSQL does not answer SQL"}
	}
	return Verdict{Fault, state, "PostgreSQL: " + state}
}

// transient is the verdict on a state that usually ends by itself: Transient for
// PassingFor, then a fault.
func (j *judge) transient(label, reason string) Verdict {
	if j.inState <= PassingFor {
		return Verdict{Transient, label, reason}
	}
	since := " for " + j.inState.Round(time.Second).String()
	return Verdict{Fault, label + since, reason + since}
}

// TellsReplicationState reports whether this release of Patroni reports
// replication_state: since 3.0.4 (d46ca88e).
func (d *Document) TellsReplicationState() bool {
	return d.ReplicationState != "" || !olderThan(d.Version, 3, 0, 4)
}

// olderThan compares a version such as "3.0.2". An unreadable version is not older.
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
