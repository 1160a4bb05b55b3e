package nodetest

import (
	"maps"
	"slices"
	"time"
)

// world is everything that answers depend on, at one moment.
type world struct {
	leader  string            // the leader key
	members map[string]*State // by name
	expired map[string]bool   // members whose keys are gone from the DCS
	config  map[string]any
	history []Promotion

	failsafe bool // the failsafe key is there

	view DCS // the DCS's contents in this world; made when the world is published
}

func (w *world) clone() *world {
	next := &world{
		leader: w.leader, members: make(map[string]*State, len(w.members)),
		expired: maps.Clone(w.expired), config: maps.Clone(w.config), history: slices.Clone(w.history),
		failsafe: w.failsafe,
	}
	for name, s := range w.members {
		next.members[name] = new(s.clone())
	}
	return next
}

// settle stops the clock of members that have just lost the DCS, so that dcs_last_seen grows old.
func (w *world) settle(before map[string]*State) {
	for name, s := range w.members {
		if was := before[name]; was.DCS && !s.DCS && s.DCSLastSeen.IsZero() {
			s.DCSLastSeen = time.Now()
		} else if !was.DCS && s.DCS {
			s.DCSLastSeen = time.Time{}
		}
	}
}

func (w *world) dcs() DCS {
	d := DCS{Leader: w.leader, Config: w.config, History: w.history}
	w.failsafe = w.failsafe || d.failsafeMode()
	d.Failsafe = w.failsafe
	for name, s := range w.members {
		if !w.expired[name] {
			d.Members = append(d.Members, *s)
		}
	}
	return d
}

// position is the newest WAL position anywhere.
func (w *world) position() int64 {
	if s := w.members[w.leader]; s != nil && s.Role == "primary" {
		return s.Location
	}
	lsn := int64(firstLSN)
	for _, s := range w.members {
		lsn = max(lsn, s.Location, orZero(s.Received), orZero(s.Replayed))
	}
	return lsn
}

func (w *world) timeline() int64 {
	newest := int64(1)
	for _, s := range w.members {
		newest = max(newest, orZero(s.Timeline))
	}
	return newest
}

// lock gives the leader key to one member and takes it from all others.
func (w *world) lock(name string) {
	w.leader = name
	for other, s := range w.members {
		s.Lock = other == name
		s.Unlocked = name == ""
	}
}

// promote ends name's recovery and begins a new timeline. In a standby cluster it makes name the standby leader, on the same
// timeline.
func (w *world) promote(name string) {
	s, lsn := w.members[name], w.position()
	s.State, s.SQL = "running", true
	if s.StandbyCluster {
		s.Role = "standby_leader"
		return
	}
	ended := w.timeline()
	s.Role, s.ReplicationState, s.LatestEnd = "primary", "", 0
	s.Timeline, s.Location, s.Received, s.Replayed = new(ended+1), lsn, nil, nil
	w.history = append(w.history, Promotion{ended, lsn, "no recovery target specified", time.Now(), name})
}

// demote makes name a replica that does not run yet.
func (w *world) demote(name string) {
	s, lsn := w.members[name], w.position()
	s.Role, s.State, s.SQL, s.Lock = "replica", "starting", false, false
	s.Received, s.Replayed, s.ReplayedAt, s.Replication = new(lsn), new(lsn), time.Now(), nil
}

// stream makes every running replica stream from the leader, and the leader list them.
func (w *world) stream() {
	leader := w.members[w.leader]
	if leader == nil || !leader.queried() {
		return
	}
	leader.Replication = nil
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		s := w.members[name]
		if w.expired[name] || name == w.leader || s.Role != "replica" || !s.queried() {
			continue
		}
		s.ReplicationState = "streaming"
		if leader.Timeline != nil {
			s.Timeline = new(*leader.Timeline)
		}
		leader.Replication = append(leader.Replication, Walsender{
			User: "replicator", Application: name, ClientAddr: new("127.0.0.1"),
			State: "streaming", SyncState: "async",
		})
	}
	w.write(0)
}

// unstream makes all replicas stop streaming, as without a leader.
func (w *world) unstream() {
	for _, s := range w.members {
		s.ReplicationState = ""
	}
}

// write moves the leader's position, and with it those of the replicas that stream: their lag stays the same.
func (w *world) write(bytes int64) {
	before := w.position()
	lsn := before + bytes
	for name, s := range w.members {
		switch {
		case name == w.leader && s.Role == "primary":
			s.Location = lsn
		case s.Role == "primary" || !s.queried():
		case s.Received != nil && s.Replayed != nil && (s.ReplicationState == "streaming" || name == w.leader):
			s.Replayed = new(lsn - (before - *s.Replayed))
			s.Received, s.LatestEnd = new(lsn), lsn
		}
		if s.DCS {
			s.Optime = lsn
		}
	}
}

func setOrDelete(m map[string]any, key string, on bool, value any) {
	if on {
		m[key] = value
	} else {
		delete(m, key)
	}
}
