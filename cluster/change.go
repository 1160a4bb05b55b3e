package cluster

import "time"

// Change is one difference between two successive views of a cluster.
type Change struct {
	ID      uint64    `json:"id"` // grows by one with each change; 0 = a repeat, which the history does not have
	At      time.Time `json:"at"`
	Cluster string    `json:"cluster"`       // "" if the change is about the supervisor
	Node    string    `json:"node,omitzero"` // "" if the change is about the whole cluster
	Kind    string    `json:"kind"`          // one of the Kind constants
	Before  string    `json:"before"`
	After   string    `json:"after"`
	Reason  string    `json:"reason,omitzero"`
	// Gap is set where a leader or a primary follows "none": the seconds for which
	// there was none, at the start counted from when every node had been polled. It
	// is 0 where only one node is watched: an unwatched node may have been it.
	Gap    float64 `json:"gap_seconds,omitzero"`
	Repeat bool    `json:"-"` // the same as the change before: a poll that failed again
}

// The kinds of changes.
const (
	KindLeader          = "leader"    // the elected node
	KindPrimary         = "primary"   // the node that passes the check "leader": without one nothing can be written
	KindSplit           = "split"     // several nodes claim and answer: "no", "yes"
	KindLevel           = "level"     // the level of the cluster's health
	KindAnswering       = "answering" // whether the node answers polls: "yes", "no"
	KindKnown           = "known"     // whether the node's last answer is believed: "fresh", "out"
	KindRole            = "role"
	KindState           = "state"
	KindTimeline        = "timeline"
	KindIdentity        = "identity"         // whether the node belongs to this cluster: "right", "wrong"
	KindIdentityChanged = "identity_changed" // the cluster's system identifier
	KindLeaving         = "leaving"          // whether the node's announced stop holds: "no", "yes"; "yes", "yes" when it was announced again
	KindUnlisted        = "unlisted"         // whether the DCS does not list the node any more: "no", "yes"
	KindReplica         = "replica"          // the replica check's outcome while the role stays
	KindSettings        = "settings"         // whether the cache's TTL is safe: "safe", "unsafe", "unknown"
	KindWatching        = "watching"         // whether the supervisor runs, or the cluster is watched: "yes", "no"; a crash leaves no change
)
