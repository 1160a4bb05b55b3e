package cluster

import (
	"time"
)

// Change is something that became different, as the supervisor saw it.
type Change struct {
	ID      uint64    `json:"id"` // grows by one with each; 0 = a repeat, which is no history
	At      time.Time `json:"at"`
	Cluster string    `json:"cluster"`       // "" when it is about the supervisor
	Node    string    `json:"node,omitzero"` // "" when it is about the whole cluster
	Kind    string    `json:"kind"`          // one of the Kind constants
	Before  string    `json:"before"`
	After   string    `json:"after"`
	Reason  string    `json:"reason,omitzero"`
	// Gap is of a leader or a primary after "none": for how long, in seconds, there
	// was none, at the start since every node had been polled. 0 where one node only
	// is watched: another may have been it.
	Gap    float64 `json:"gap_seconds,omitzero"`
	Repeat bool    `json:"-"` // the same once more: a poll that failed again
}

// What can change.
const (
	KindLeader    = "leader"    // the elected node
	KindPrimary   = "primary"   // the node that passes the check of the leader: without one nobody can write
	KindSplit     = "split"     // several nodes claim and answer: "no", "yes"
	KindLevel     = "level"     // of the cluster's health
	KindAnswering = "answering" // the node's polls: "yes", "no" while failing
	KindKnown     = "known"     // whether the node is believed: "fresh", "out"
	KindRole      = "role"
	KindState     = "state"
	KindTimeline  = "timeline"
	KindIdentity  = "identity" // whether the node is of this cluster: "right", "wrong"
	KindLeaving   = "leaving"  // whether the node's announced stop holds: "no", "yes"; "yes", "yes" when it was announced again
	KindLeft      = "left"     // whether the DCS does not list the node any more: "no", "yes"
	KindReplica   = "replica"  // the replica check's outcome while the role stays
	KindSettings  = "settings" // whether the cache's TTL is safe: "safe", "unsafe"
	KindWatching  = "watching" // of no cluster: the supervisor stopped, "yes", "no"; nothing says so after a crash
)
