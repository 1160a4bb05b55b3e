package nodetest

import (
	"time"
)

// document is the body of every health check and of GET /patroni (api.py:190-242, 1404-1471).
func (s State) document(now time.Time) object {
	v := parseRelease(s.Version)
	role := s.Role
	if role == "primary" && !v.since(4, 0, 0) {
		role = "master"
	}

	doc := object{{"state", s.shownState()}}
	if s.queried() {
		doc.add("postmaster_start_time", pyTime(s.Started, v))
		doc.add("role", role)
		doc.add("server_version", s.ServerVersion)
		if !v.since(2, 1, 0) {
			doc.add("cluster_unlocked", !s.DCS || s.Unlocked)
		}
		if s.inRecovery() {
			doc.add("xlog", object{
				{"received_location", s.Received},
				{"replayed_location", s.Replayed},
				{"replayed_timestamp", pyTime(s.ReplayedAt, v)},
				{"paused", s.ReplayPaused},
			})
		} else {
			doc.add("xlog", object{{"location", s.Location}})
		}
		if s.sync() && v.since(3, 0, 2) {
			doc.add("sync_standby", true)
		}
		if s.quorum() {
			doc.add("quorum_standby", true)
		}
		doc.add("timeline", s.Timeline)
		if s.replicationState() != "" {
			doc.add("replication_state", s.replicationState())
		}
		if len(s.Replication) > 0 {
			doc.add("replication", s.Replication)
		}
	} else {
		doc.add("role", role)
	}

	if s.Pause {
		doc.add("pause", true)
	}
	if v.since(2, 1, 0) && (!s.DCS || s.Unlocked) {
		doc.add("cluster_unlocked", true)
	}
	if s.Failsafe && v.since(3, 0, 0) {
		doc.add("failsafe_mode_is_active", true)
	}
	if v.since(2, 1, 2) {
		doc.add("dcs_last_seen", s.dcsLastSeen(now))
	}
	if tags := s.tags(); len(tags) > 0 {
		doc.add("tags", tags)
	}
	if s.SystemID != "" {
		doc.add("database_system_identifier", s.SystemID)
	}
	patroni := object{{"version", versionInBody(s.Version)}, {"scope", s.Scope}}
	if v.since(3, 2, 0) {
		patroni.add("name", s.Name)
	}
	doc.add("patroni", patroni)
	for _, k := range sortedKeys(s.Extra) {
		doc.add(k, s.Extra[k])
	}
	return doc
}

// replicationState is the document's: of replicas only, since 3.0.4 (d46ca88e).
func (s State) replicationState() string {
	if !s.queried() || !s.inRecovery() || !parseRelease(s.Version).since(3, 0, 4) {
		return ""
	}
	return s.ReplicationState
}

func (s State) dcsLastSeen(now time.Time) int64 {
	switch {
	case !s.DCSLastSeen.IsZero():
		return s.DCSLastSeen.Unix()
	case s.DCS:
		return now.Unix()
	}
	return 0
}
