package node

import (
	"net/http"
	"time"
)

// Report is what one good poll brought. It is never changed after [Client.Poll]
// returned it.
type Report struct {
	Began    time.Time     // when the poll began, or that of the supervisor that answers for the member; belief is counted from here
	Took     time.Duration // until the answer was complete
	Status   int           // of GET /primary: 200 or 503
	Leader   bool          // GET /leader said 200; asked only of a standby leader
	Clock    time.Time     // the member's own wall clock (Date header); zero when not sent
	Document Document
	Raw      []byte // the document as the member gave it: one valid JSON object

	CertificateEnds time.Time // from then on the member's certificate is not accepted any more; zero without TLS
}

// ClaimsPrimary reports whether the member says that it holds the leader lock of
// a primary cluster: its /primary answers 200 (api.py:341-361).
func (r *Report) ClaimsPrimary() bool { return r.Status == http.StatusOK }

// ClaimsStandby reports whether the member says that it holds the leader lock of
// a standby cluster: /primary is 503 there, /leader is 200.
func (r *Report) ClaimsStandby() bool { return r.Status != http.StatusOK && r.Leader }

// Claims reports whether the member says that it holds a leader lock.
func (r *Report) Claims() bool { return r.ClaimsPrimary() || r.Leader }

// Writable reports whether PostgreSQL can really take writes as far as the
// document tells. Patroni answers 200 to /primary also while it is stopping,
// crashed or not yet promoted (api.py:341-361 never looks at the state).
// State unknown counts as writable: SQL failed once, but the lock is held.
func (r *Report) Writable() bool {
	d := &r.Document
	return d.Role == RolePrimary && (d.State == StateRunning || d.State == StateUnknown)
}

// SeesDCS reports whether the member had a view of its DCS (C in Patroni's
// truth table). cluster_unlocked means "no leader key" or "no view"; the age of
// dcs_last_seen on the member's own clock tells them apart. loopWait is the
// cluster's; within a good second more than it, a member that works has looked.
func (r *Report) SeesDCS(loopWait time.Duration) bool {
	d := &r.Document
	if !d.ClusterUnlocked {
		return true
	}
	if d.DCSLastSeen == 0 || r.Clock.IsZero() {
		return false
	}
	return r.Clock.Sub(time.Unix(d.DCSLastSeen, 0)) <= loopWait+1500*time.Millisecond
}
