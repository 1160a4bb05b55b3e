package nodetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// State is everything that a member's answers depend on. Most of it is in the member's JSON document, but Lock,
// StandbyCluster, DCS and Optime are not: no document alone shows whether /primary is 200.
//
// Start from [Primary] or [Replica]: the zero State is a member that has neither a DCS nor a running Postgres.
type State struct {
	Version       string // Patroni's, in full or as a series ("3.3"); "" is DefaultVersion, "master" is unreleased
	Scope, Name   string
	SystemID      string // database_system_identifier
	ServerVersion int    // 150020 for PostgreSQL 15.20
	Started       time.Time
	APIURL        string // with /patroni at its end, as in /cluster
	Postgres      string // host:port of the database, as in /cluster

	// State is postgresql.state as Patroni has it in memory: running, starting, restarting, stopping, stopped, crashed, ...
	State string
	// SQL says that Postgres answers queries. Without it a running member calls itself "unknown" (api.py:1462), and no
	// document has xlog, timeline, server_version and the like. Patroni asks only when running, restarting or starting.
	SQL bool
	// Role is what the document says: primary, replica, standby_leader; when not running also demoted, uninitialized or
	// promoted. It is "primary" for all releases: those before 4.0.0 print "master" (#3127).
	Role string

	Lock           bool // ha.is_leader(): the leader lock is held and its local expiry is not over
	StandbyCluster bool // the dynamic configuration has a standby_cluster
	DCS            bool // a view of the cluster, younger than the ttl, is cached (C in the facts)
	Unlocked       bool // that view has no leader key; without a view cluster_unlocked is true anyway
	Pause          bool
	Failsafe       bool          // failsafe_mode_is_active
	SyncStandby    bool          // named in the DCS's /sync key in synchronous mode: shown and used only as a replica
	QuorumStandby  bool          // the same in quorum mode (4.0.0)
	Overdue        time.Duration // how long ago the HA loop should have run, which only /liveness checks

	ReplicationState   string // streaming, "in archive recovery" or nothing; in the document since 3.0.4
	Timeline           *int64 // nil is null, which replicas do show
	Location           int64  // a primary's position
	Received, Replayed *int64 // a replica's positions; nil is null
	ReplayedAt         time.Time
	ReplayPaused       bool
	Replication        []Walsender

	// Optime is the leader's position in the cached DCS view, LatestEnd that of this replica's own wal receiver (4.1.0).
	// Lag is measured from the larger one; when both are 0, no replica lags (api.py:330-335).
	Optime, LatestEnd int64

	// DCSLastSeen is when the DCS was last reached; the zero time means "just now" with DCS and never without.
	DCSLastSeen time.Time

	Tags  map[string]any // from the configuration file; false predefined ones are left out as Patroni does (tags.py:37)
	Extra map[string]any // further keys of the document: pending_restart, scheduled_restart, watchdog_failed, what a new release may bring
}

// Walsender is one entry of a document's replication list.
type Walsender struct {
	User         string  `json:"usename"`
	Application  string  `json:"application_name"`
	ClientAddr   *string `json:"client_addr"`
	State        string  `json:"state"`
	SyncState    string  `json:"sync_state"`
	SyncPriority int     `json:"sync_priority"`
}

// firstLSN is where a simulated cluster's WAL begins: shortly after what initdb writes.
const firstLSN = 0x3000060

// Primary returns a running leader that holds the lock.
func Primary(scope, name string) State {
	s := member(scope, name)
	s.Role, s.Lock, s.Location = "primary", true, firstLSN
	return s
}

// Replica returns a running member that streams and has replayed everything.
func Replica(scope, name string) State {
	s := member(scope, name)
	s.Role, s.ReplicationState, s.LatestEnd = "replica", "streaming", firstLSN
	s.Received, s.Replayed, s.ReplayedAt = new(int64(firstLSN)), new(int64(firstLSN)), s.Started
	return s
}

func member(scope, name string) State {
	return State{
		Version: DefaultVersion, Scope: scope, Name: name,
		SystemID: systemID(scope), ServerVersion: 150020,
		Started: time.Now().Add(-time.Hour), Postgres: "127.0.0.1:5432",
		State: "running", SQL: true, DCS: true,
		Timeline: new(int64(1)), Optime: firstLSN,
	}
}

func (s State) clone() State {
	clonePtr := func(p *int64) *int64 {
		if p == nil {
			return nil
		}
		return new(*p)
	}
	s.Timeline, s.Received, s.Replayed = clonePtr(s.Timeline), clonePtr(s.Received), clonePtr(s.Replayed)
	s.Replication, s.Tags, s.Extra = slices.Clone(s.Replication), maps.Clone(s.Tags), maps.Clone(s.Extra)
	return s
}

// queried says whether Patroni's query succeeds: it asks in three states only (api.py:1404).
func (s State) queried() bool {
	return s.SQL && (s.State == "running" || s.State == "restarting" || s.State == "starting")
}

// shownState is the state in the document.
func (s State) shownState() string {
	if s.State == "running" && !s.SQL {
		return "unknown"
	}
	return s.State
}

// inRecovery says whether the document's xlog is that of a replica.
func (s State) inRecovery() bool { return s.Role != "primary" }

func (s State) sync() bool { return s.SyncStandby && s.standsBy() }

func (s State) quorum() bool {
	return s.QuorumStandby && s.standsBy() && parseRelease(s.Version).since(4, 0, 0)
}

// standsBy reports whether the member may be a synchronous standby: a replica that was queried and sees its DCS, not in a
// standby cluster (api.py:1441, gc:114).
func (s State) standsBy() bool {
	return s.Role == "replica" && s.queried() && s.DCS && !s.StandbyCluster
}

// predefinedTags count only when they are set to something true.
var predefinedTags = []string{"clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"}

// tags are the configured tags as Patroni keeps them (tags.py:37).
func (s State) tags() map[string]any {
	tags := make(map[string]any, len(s.Tags))
	_, priority := s.Tags["failover_priority"]
	for k, v := range s.Tags {
		if slices.Contains(predefinedTags, k) && !truthy(v) && !(k == "nofailover" && priority) {
			continue
		}
		tags[k] = v
	}
	return tags
}

// realDocument is a real member's document.
type realDocument struct {
	State       string      `json:"state"`
	Role        string      `json:"role"`
	Started     string      `json:"postmaster_start_time"`
	Server      int         `json:"server_version"`
	Timeline    *int64      `json:"timeline"`
	Replication []Walsender `json:"replication"`
	RepState    string      `json:"replication_state"`
	Sync        bool        `json:"sync_standby"`
	Quorum      bool        `json:"quorum_standby"`
	Pause       bool        `json:"pause"`
	Unlocked    bool        `json:"cluster_unlocked"`
	Failsafe    bool        `json:"failsafe_mode_is_active"`
	SystemID    string      `json:"database_system_identifier"`
	DCSLastSeen *int64      `json:"dcs_last_seen"`
	Tags        tags        `json:"tags"`
	Patroni     struct{ Version, Scope, Name string }
	WriteAhead  *struct {
		Location   int64   `json:"location"`
		Received   *int64  `json:"received_location"`
		Replayed   *int64  `json:"replayed_location"`
		ReplayedAt *string `json:"replayed_timestamp"`
		Paused     bool    `json:"paused"`
	} `json:"xlog"`
}

// StateFrom makes a State of a real member's document (GET /patroni). lock says whether it holds the leader lock, which no
// document shows. For what else the document does not show, the normal case is assumed: Optime and LatestEnd are 0, so no
// replica lags; and cluster_unlocked is read as "no leader key", though a lost DCS view looks the same (set DCS to false for
// that). Keys without a field go to Extra. The error is about a document that cannot be parsed.
func StateFrom(doc []byte, lock bool) (State, error) {
	var d realDocument
	if err := json.Unmarshal(doc, &d); err != nil {
		return State{}, fmt.Errorf("reading Patroni's document: %w", err)
	}
	var extra tags
	if err := json.Unmarshal(doc, &extra); err != nil {
		return State{}, fmt.Errorf("reading Patroni's document: %w", err)
	}
	if d.State == "" || d.Role == "" {
		return State{}, errors.New("reading Patroni's document: no state or no role")
	}

	s := State{
		Version: d.Patroni.Version, Scope: d.Patroni.Scope, Name: d.Patroni.Name,
		SystemID: d.SystemID, ServerVersion: d.Server, Tags: d.Tags,
		State: d.State, SQL: d.WriteAhead != nil, Role: d.Role,
		Lock: lock, StandbyCluster: d.Role == "standby_leader",
		DCS: true, Unlocked: d.Unlocked, Pause: d.Pause, Failsafe: d.Failsafe,
		SyncStandby: d.Sync, QuorumStandby: d.Quorum,
		ReplicationState: d.RepState, Timeline: d.Timeline, Replication: d.Replication,
	}
	if s.Role == "master" {
		s.Role = "primary"
	}
	var err error
	if s.Started, err = parsePyTime(d.Started); err != nil {
		return State{}, fmt.Errorf("reading Patroni's document: postmaster_start_time: %w", err)
	}
	if x := d.WriteAhead; x != nil {
		s.Location, s.Received, s.Replayed, s.ReplayPaused = x.Location, x.Received, x.Replayed, x.Paused
		if x.ReplayedAt != nil {
			if s.ReplayedAt, err = parsePyTime(*x.ReplayedAt); err != nil {
				return State{}, fmt.Errorf("reading Patroni's document: replayed_timestamp: %w", err)
			}
		}
	}
	if d.DCSLastSeen != nil {
		s.DCSLastSeen = time.Unix(*d.DCSLastSeen, 0)
	}

	for _, f := range s.document(time.Now()) {
		delete(extra, f.key)
	}
	for _, known := range []string{"sync_standby", "quorum_standby", "cluster_unlocked", "dcs_last_seen", "replication_state"} {
		delete(extra, known) // a release that should not show it yet, or a false that only old ones print
	}
	if len(extra) > 0 {
		s.Extra = extra
	}
	return s, nil
}

// tags is decoded with its numbers as they are written: Patroni compares tag_weight=10 with str(10), which is not "10.0".
type tags map[string]any

func (t *tags) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode((*map[string]any)(t))
}
