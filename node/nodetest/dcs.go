package nodetest

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DCS is what the members of a cluster store in etcd, Consul or the like.
type DCS struct {
	Leader  string         // the member that the leader key names; "" without a key
	Members []State        // those whose keys have not expired
	Config  map[string]any // the dynamic configuration; nil when its key is missing
	History []Promotion

	// Failsafe says that the failsafe key is there: failsafe mode writes it, and nothing removes it when that is turned off.
	Failsafe bool
}

// Promotion is a line of /history: the timeline that ended, where and why, and who began the next one.
type Promotion struct {
	Timeline, LSN int64
	Reason        string
	At            time.Time
	Leader        string
}

// defaultConfig are Patroni's own defaults.
func defaultConfig() map[string]any {
	return map[string]any{"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1 << 20}
}

func (d DCS) failsafeMode() bool {
	on, _ := d.Config["failsafe_mode"].(bool)
	return on
}

func (d DCS) integer(key string, orElse int64) int64 {
	switch n := d.Config[key].(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case float64:
		return int64(n)
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return orElse
}

func (d DCS) seconds(key string, orElse int64) time.Duration {
	return time.Duration(d.integer(key, orElse)) * time.Second
}

// cluster is the body of GET /cluster as the member s gives it (utils.py:913 cluster_as_json; 3.0.2 utils.py:406).
func (d DCS) cluster(s State) object {
	v := parseRelease(s.Version)
	members := slices.Clone(d.Members)
	slices.SortFunc(members, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	rows := make([]object, 0, len(members)) // not nil: [] rather than null
	for _, m := range members {
		rows = append(rows, d.row(s, m, v))
	}

	doc := object{{"members", rows}}
	if s.Pause {
		doc.add("pause", true)
	}
	if v.since(3, 2, 0) {
		doc.add("scope", s.Scope)
	}
	return doc
}

func (d DCS) row(s, m State, v release) object {
	role, state := "replica", m.State
	switch {
	case m.Name == d.Leader && m.StandbyCluster:
		role = "standby_leader"
	case m.Name == d.Leader:
		role = "leader"
	case m.QuorumStandby && v.since(4, 0, 0):
		role = "quorum_standby"
	case m.SyncStandby:
		role = "sync_standby"
	}
	m.Version = s.Version // the row is written by the member that is asked
	if r := m.replicationState(); role != "leader" && r != "" {
		state = r
	}

	row := object{{"name", m.Name}, {"role", role}, {"state", state}, {"api_url", m.APIURL}}
	if host, port, err := net.SplitHostPort(m.Postgres); err == nil {
		row.add("host", host)
		if n, err := strconv.Atoi(port); err == nil {
			row.add("port", n)
		}
	}
	if m.queried() && m.Timeline != nil {
		row.add("timeline", *m.Timeline)
	}
	for _, key := range []string{"pending_restart", "pending_restart_reason", "scheduled_restart"} {
		if value, ok := m.Extra[key]; ok {
			row.add(key, value)
		}
	}
	if tags := m.tags(); len(tags) > 0 || fullVersion(s.Version) == "master" {
		row.add("tags", tags)
	}
	if m.Name == d.Leader {
		return row
	}

	// 0: unknown, as when Postgres does not run; and on a primary the first two (ha.py touch_member).
	var received, replayed, position int64
	if m.queried() {
		received, replayed = orZero(m.Received), orZero(m.Replayed)
		position = max(received, replayed) // pg:1270
		if !m.inRecovery() {
			received, replayed, position = 0, 0, m.Location
		}
	}
	if v.since(4, 1, 0) {
		addLag(&row, "receive_", s.Optime, received, true)
		addLag(&row, "replay_", s.Optime, replayed, true)
	}
	addLag(&row, "", s.Optime, position, v.since(4, 1, 0))
	return row
}

func addLag(row *object, prefix string, optime, lsn int64, withLSN bool) {
	var lag, position any = max(0, optime-lsn), fmt.Sprintf("%X/%X", lsn>>32, lsn&0xFFFFFFFF)
	if lsn == 0 {
		lag, position = "unknown", "unknown"
	}
	row.add(prefix+"lag", lag)
	if withLSN {
		row.add(prefix+"lsn", position)
	}
}

// history is the body of GET /history (dcs:726).
func (d DCS) history() [][]any {
	lines := make([][]any, 0, len(d.History))
	for _, p := range d.History {
		lines = append(lines, []any{p.Timeline, p.LSN, p.Reason, p.At.UTC().Format("2006-01-02T15:04:05.000000-07:00"), p.Leader})
	}
	return lines
}

// failsafe is the body of GET /failsafe: the members that would have to agree, and their URLs.
func (d DCS) failsafe() map[string]string {
	members := make(map[string]string, len(d.Members))
	for _, m := range d.Members {
		members[m.Name] = m.APIURL
	}
	return members
}

// systemID derives a system identifier from the scope, so that it is the same in every run.
func systemID(scope string) string {
	h := fnv.New32a()
	h.Write([]byte(scope))
	return strconv.FormatInt(7_710_975_000_000_000_000+int64(h.Sum32()), 10)
}
