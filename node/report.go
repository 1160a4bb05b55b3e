package node

import (
	"net/http"
	"net/netip"
	"time"
)

// Report is the result of one poll that succeeded. It is not changed after
// [Client.Poll] returned it.
type Report struct {
	Began    time.Time      // when the poll began, or if another supervisor answers for the member, when its poll did; belief is counted from here
	Took     time.Duration  // from the start of the poll to the end of the answer
	Status   int            // of GET /primary: 200 or 503
	Leader   bool           // GET /leader has status 200; only a standby leader is asked
	Peer     netip.AddrPort // the address that answered; zero = unknown
	Clock    time.Time      // the member's wall clock by its Date header; zero when not sent
	Document Document
	Raw      []byte // the document as it was received: one valid JSON object

	CertificateEnds time.Time // when the member's certificate stops being accepted; zero without TLS
}

// ClaimsPrimary reports whether the member says that it holds the leader lock of
// a primary cluster: its /primary answers 200 (api.py:341-361).
func (r *Report) ClaimsPrimary() bool { return r.Status == http.StatusOK }

// ClaimsStandby reports whether the member says that it holds the leader lock of
// a standby cluster: /primary is 503 there, /leader is 200.
func (r *Report) ClaimsStandby() bool { return r.Status != http.StatusOK && r.Leader }

// Claims reports whether the member says that it holds a leader lock.
func (r *Report) Claims() bool { return r.ClaimsPrimary() || r.Leader }

// Writable reports whether PostgreSQL can take writes, by the document. Patroni
// answers 200 to /primary also while PostgreSQL is stopping, crashed or not yet
// promoted (api.py:341-361 does not check the state). State unknown counts as
// writable: SQL failed once, but the lock is held.
func (r *Report) Writable() bool {
	d := &r.Document
	return d.Role == RolePrimary && (d.State == StateRunning || d.State == StateUnknown)
}

// SeesDCS reports whether the member sees its DCS. cluster_unlocked in the document
// means either that there is no leader key or that the member does not see the DCS
// (api.py:1471). The age of dcs_last_seen, by the member's own clock, distinguishes
// the two: a working member reaches its DCS once per loopWait, the cluster's
// loop_wait; 1.5 s more are allowed.
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
