package nodetest

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestDocument(t *testing.T) {
	// The first two are those of the facts, measured on 4.1.4.
	tests := []struct {
		name  string
		state State
		want  string
	}{
		{"primary", primary(func(s *State) {
			s.Location = 50331744
			s.Tags = map[string]any{"clonefrom": true, "weight": 10, "zone": "az1", "nofailover": false}
			s.Replication = []Walsender{{User: "rep", Application: "n2", ClientAddr: new("127.0.0.1"), State: "streaming", SyncState: "async"}}
		}), `{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15.478774+00:00", "role": "primary", "server_version": 150020, ` +
			`"xlog": {"location": 50331744}, "timeline": 1, ` +
			`"replication": [{"usename": "rep", "application_name": "n2", "client_addr": "127.0.0.1", "state": "streaming", "sync_state": "async", "sync_priority": 0}], ` +
			`"dcs_last_seen": 1795351476, "tags": {"clonefrom": true, "weight": 10, "zone": "az1"}, "database_system_identifier": "7710975781833504509", ` +
			`"patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
		{"synchronous replica", replica(func(s *State) {
			s.SyncStandby, s.Timeline = true, new(int64(5))
			s.Received, s.Replayed = new(int64(100664008)), new(int64(100664008))
			s.ReplayedAt = time.Date(2026, 11, 22, 12, 50, 54, 852808000, time.UTC)
		}), `{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15.478774+00:00", "role": "replica", "server_version": 150020, ` +
			`"xlog": {"received_location": 100664008, "replayed_location": 100664008, "replayed_timestamp": "2026-11-22 12:50:54.852808+00:00", "paused": false}, ` +
			`"sync_standby": true, "timeline": 5, "replication_state": "streaming", "dcs_last_seen": 1795351476, ` +
			`"database_system_identifier": "7710975781833504509", "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
		{"quorum standby with nulls", replica(func(s *State) {
			s.QuorumStandby, s.Timeline, s.Received, s.Replayed, s.ReplayedAt, s.ReplicationState = true, nil, nil, nil, time.Time{}, ""
			s.Started = s.Started.Truncate(time.Second)
		}), `{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15+00:00", "role": "replica", "server_version": 150020, ` +
			`"xlog": {"received_location": null, "replayed_location": null, "replayed_timestamp": null, "paused": false}, ` +
			`"quorum_standby": true, "timeline": null, "dcs_last_seen": 1795351476, ` +
			`"database_system_identifier": "7710975781833504509", "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
		{"not running", primary(func(s *State) { s.State, s.SQL = "stopping", false; s.Pause, s.Unlocked, s.Failsafe = true, true, true }),
			`{"state": "stopping", "role": "primary", "pause": true, "cluster_unlocked": true, "failsafe_mode_is_active": true, "dcs_last_seen": 1795351476, ` +
				`"database_system_identifier": "7710975781833504509", "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
		{"no SQL, no DCS, never seen", replica(func(s *State) { s.SQL, s.DCS, s.DCSLastSeen, s.SystemID = false, false, time.Time{}, "" }),
			`{"state": "unknown", "role": "replica", "cluster_unlocked": true, "dcs_last_seen": 0, "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
		{"DCS just seen", replica(func(s *State) { s.SQL, s.DCSLastSeen, s.SystemID = false, time.Time{}, "" }),
			`{"state": "unknown", "role": "replica", "dcs_last_seen": 1795351854, "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
		{"extra keys, text beyond ASCII", primary(func(s *State) {
			s.SQL, s.SystemID = false, ""
			s.Tags = map[string]any{"zone": "Zürich \U0001F418 <\"a\":1,2>\\"}
			s.Extra = map[string]any{"pending_restart": true, "logger_queue_size": 3}
		}), `{"state": "unknown", "role": "primary", "dcs_last_seen": 1795351476, "tags": {"zone": "Z\u00fcrich \ud83d\udc18 <\"a\":1,2>\\"}, ` +
			`"patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}, "logger_queue_size": 3, "pending_restart": true}`},
		{"primary, 3.0.2", primary(version("3.0.2")), `{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15.478774+00:00", "role": "master", "server_version": 150020, ` +
			`"xlog": {"location": 50331744}, "timeline": 1, "dcs_last_seen": 1795351476, "database_system_identifier": "7710975781833504509", "patroni": {"version": "3.0.2", "scope": "rl"}}`},
		{"replica, 3.0.2", replica(version("3.0.2"), func(s *State) { s.SyncStandby, s.ReplayedAt = true, time.Time{} }),
			`{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15.478774+00:00", "role": "replica", "server_version": 150020, ` +
				`"xlog": {"received_location": 50331744, "replayed_location": 50331744, "replayed_timestamp": null, "paused": false}, "sync_standby": true, "timeline": 1, ` +
				`"dcs_last_seen": 1795351476, "database_system_identifier": "7710975781833504509", "patroni": {"version": "3.0.2", "scope": "rl"}}`},
		{"replica, 2.1", replica(version("2.1"), func(s *State) { s.SyncStandby, s.Failsafe, s.ReplayedAt = true, true, time.Time{} }),
			`{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15.478774+00:00", "role": "replica", "server_version": 150020, ` +
				`"xlog": {"received_location": 50331744, "replayed_location": 50331744, "replayed_timestamp": null, "paused": false}, "timeline": 1, ` +
				`"dcs_last_seen": 1795351476, "database_system_identifier": "7710975781833504509", "patroni": {"version": "2.1.7", "scope": "rl"}}`},
		{"primary, 1.6", primary(version("1.6")), `{"state": "running", "postmaster_start_time": "2026-11-22 12:44:15.478 UTC", "role": "master", "server_version": 150020, "cluster_unlocked": false, ` +
			`"xlog": {"location": 50331744}, "timeline": 1, "database_system_identifier": "7710975781833504509", "patroni": {"version": "1.6.5", "scope": "rl"}}`},
		{"primary without SQL, 1.6", primary(version("1.6"), func(s *State) { s.SQL, s.Unlocked = false, true }),
			`{"state": "unknown", "role": "master", "database_system_identifier": "7710975781833504509", "patroni": {"version": "1.6.5", "scope": "rl"}}`},
		{"the master branch", primary(version("master"), func(s *State) { s.SQL, s.SystemID = false, "" }),
			`{"state": "unknown", "role": "primary", "dcs_last_seen": 1795351476, "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, target := range []string{"/patroni", "/primary", "/nonexistent"} {
				a := Decide(tt.state, DCS{}, Request{"GET", target}, now)
				if len(a.Body) == 0 && tt.state.Replayed == nil {
					continue // the exception: see TestLag
				}
				if got := string(a.Body); got != tt.want {
					t.Errorf("GET %s:\n got %s\nwant %s", target, got, tt.want)
				}
			}
		})
	}
}

// TestStateFrom reads what a simulated member says: the same document must come out of the state again.
func TestStateFrom(t *testing.T) {
	states := map[string]State{
		"primary": primary(func(s *State) {
			s.Tags = map[string]any{"weight": json.Number("10"), "nofailover": true}
			s.Extra = map[string]any{"pending_restart": true, "logger_queue_size": json.Number("12345678901234567")}
			s.Replication = []Walsender{{User: "rep", Application: "n2", State: "streaming", SyncState: "async"}}
		}),
		"sync standby":   replica(func(s *State) { s.SyncStandby, s.Pause = true, true }),
		"quorum standby": replica(func(s *State) { s.QuorumStandby, s.Failsafe, s.ReplayPaused = true, true, true }),
		"standby leader": replica(func(s *State) { s.Role, s.StandbyCluster = "standby_leader", true }),
		"nulls":          replica(func(s *State) { s.Timeline, s.Replayed = nil, nil }),
		"stopping":       primary(func(s *State) { s.State, s.SQL, s.Unlocked = "stopping", false, true }),
		"unknown":        primary(func(s *State) { s.SQL = false }),
	}
	for name, s := range states {
		for _, v := range Versions() {
			s.Version = v
			doc := Decide(s, DCS{}, Request{"GET", "/patroni"}, now).Body
			got, err := StateFrom(doc, true)
			if err != nil {
				t.Errorf("%s, %s: %v", name, v, err)
				continue
			}
			if !got.Lock || !got.DCS {
				t.Errorf("%s, %s: lock %t, DCS %t, want both", name, v, got.Lock, got.DCS)
			}
			if len(s.Extra) != len(got.Extra) || len(s.Extra) > 0 && !reflect.DeepEqual(s.Extra, got.Extra) {
				t.Errorf("%s, %s: Extra = %v, want %v", name, v, got.Extra, s.Extra)
			}
			again := Decide(got, DCS{}, Request{"GET", "/patroni"}, now).Body
			if string(again) != string(doc) {
				t.Errorf("%s, %s:\n got %s\nwant %s", name, v, again, doc)
			}
		}
	}

	for doc, want := range map[string]string{
		`{`:             `reading Patroni's document: unexpected end of JSON input`,
		`{}`:            `reading Patroni's document: no state or no role`,
		`{"role": "x"}`: `reading Patroni's document: no state or no role`,
		`[1]`:           `reading Patroni's document: json: cannot unmarshal array into Go value of type`,
		`{"state": 3}`:  `reading Patroni's document: json: cannot unmarshal number into Go struct field`,
		`{"state":"running","role":"replica","postmaster_start_time":"noon"}`: `reading Patroni's document: postmaster_start_time: parsing time "noon"`,
	} {
		if _, err := StateFrom([]byte(doc), false); err == nil || !hasPrefix(err.Error(), want) {
			t.Errorf("StateFrom(%s): error %v, want %s...", doc, err, want)
		}
	}
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

func TestResources(t *testing.T) {
	leader, sync := Primary("rl", "n1"), Replica("rl", "n2")
	leader.APIURL, leader.Postgres, leader.Tags = "http://127.0.0.1:28001/patroni", "127.0.0.1:25431", map[string]any{"clonefrom": true}
	leader.Location, leader.Optime = 0x1_0300_0060, 0x1_0300_0060
	sync.APIURL, sync.Postgres, sync.SyncStandby = "http://127.0.0.1:28002/patroni", "127.0.0.1:25432", true
	sync.Received, sync.Replayed = new(int64(0x1_0300_0050)), new(int64(0x1_0300_0040))
	stopped := Replica("rl", "n3")
	stopped.State, stopped.SQL, stopped.Postgres = "stopped", false, ""
	dcs := DCS{
		Leader: "n1", Members: []State{stopped, sync, leader},
		Config:  map[string]any{"ttl": 20, "loop_wait": 3, "failsafe_mode": true},
		History: []Promotion{{1, 67109024, "no recovery target specified", time.Date(2026, 11, 22, 12, 45, 6, 873730000, time.UTC), "n2"}},
	}
	pending := leader.with(func(s *State) {
		s.Extra = map[string]any{"pending_restart": true, "scheduled_restart": map[string]any{"schedule": "2026-11-28T12:00:00+00:00"}, "watchdog_failed": true}
	})
	standby := leader
	standby.StandbyCluster, standby.Role, standby.ReplicationState, standby.Received, standby.Replayed = true, "standby_leader", "streaming", sync.Received, sync.Replayed

	tests := []struct {
		name, target string
		state        State
		dcs          DCS
		status       int
		want         string
	}{
		{"cluster", "/cluster", leader.with(func(s *State) { s.Pause = true }), dcs, 200, `{"members": [` +
			`{"name": "n1", "role": "leader", "state": "running", "api_url": "http://127.0.0.1:28001/patroni", "host": "127.0.0.1", "port": 25431, "timeline": 1, "tags": {"clonefrom": true}}, ` +
			`{"name": "n2", "role": "sync_standby", "state": "streaming", "api_url": "http://127.0.0.1:28002/patroni", "host": "127.0.0.1", "port": 25432, "timeline": 1, ` +
			`"receive_lag": 16, "receive_lsn": "1/3000050", "replay_lag": 32, "replay_lsn": "1/3000040", "lag": 16, "lsn": "1/3000050"}, ` +
			`{"name": "n3", "role": "replica", "state": "stopped", "api_url": "", ` +
			`"receive_lag": "unknown", "receive_lsn": "unknown", "replay_lag": "unknown", "replay_lsn": "unknown", "lag": "unknown", "lsn": "unknown"}], ` +
			`"pause": true, "scope": "rl"}`},
		{"cluster, 3.0.2", "/cluster", leader.with(version("3.0.2")), dcs, 200, `{"members": [` +
			`{"name": "n1", "role": "leader", "state": "running", "api_url": "http://127.0.0.1:28001/patroni", "host": "127.0.0.1", "port": 25431, "timeline": 1, "tags": {"clonefrom": true}}, ` +
			`{"name": "n2", "role": "sync_standby", "state": "running", "api_url": "http://127.0.0.1:28002/patroni", "host": "127.0.0.1", "port": 25432, "timeline": 1, "lag": 16}, ` +
			`{"name": "n3", "role": "replica", "state": "stopped", "api_url": "", "lag": "unknown"}]}`},
		{"cluster, master", "/cluster", leader.with(version("master")), DCS{Leader: "n1", Members: []State{stopped}}, 200, `{"members": [` +
			`{"name": "n3", "role": "replica", "state": "stopped", "api_url": "", "tags": {}, ` +
			`"receive_lag": "unknown", "receive_lsn": "unknown", "replay_lag": "unknown", "replay_lsn": "unknown", "lag": "unknown", "lsn": "unknown"}], "scope": "rl"}`},
		{"cluster, restarts", "/cluster", leader, DCS{Leader: "n1", Members: []State{pending}}, 200, `{"members": [` +
			`{"name": "n1", "role": "leader", "state": "running", "api_url": "http://127.0.0.1:28001/patroni", "host": "127.0.0.1", "port": 25431, "timeline": 1, ` +
			`"pending_restart": true, "scheduled_restart": {"schedule": "2026-11-28T12:00:00+00:00"}, "tags": {"clonefrom": true}}], "scope": "rl"}`},
		{"standby cluster", "/cluster", standby, DCS{Leader: "n1", Members: []State{standby}}, 200, `{"members": [` +
			`{"name": "n1", "role": "standby_leader", "state": "streaming", "api_url": "http://127.0.0.1:28001/patroni", "host": "127.0.0.1", "port": 25431, "timeline": 1, "tags": {"clonefrom": true}}], ` +
			`"scope": "rl"}`},
		{"no members", "/cluster", leader, DCS{}, 200, `{"members": [], "scope": "rl"}`},
		{"config", "/config", leader, dcs, 200, `{"failsafe_mode": true, "loop_wait": 3, "ttl": 20}`},
		{"config, gone", "/config", leader, DCS{}, 502, "<!DOCTYPE HTML>\n<html><head><title>Error response</title></head><body><p>502: Bad Gateway.</p></body></html>\n"},
		{"config, gone, 3.0.2", "/config", leader.with(version("3.0.2")), DCS{}, 200, `{}`},
		{"history", "/history", leader, dcs, 200, `[[1, 67109024, "no recovery target specified", "2026-11-22T12:45:06.873730+00:00", "n2"]]`},
		{"history, none", "/history", leader, DCS{}, 200, `[]`},
		{"failsafe", "/failsafe", leader, dcs, 200, `{"n1": "http://127.0.0.1:28001/patroni", "n2": "http://127.0.0.1:28002/patroni", "n3": ""}`},
		{"failsafe, never on", "/failsafe", leader, DCS{}, 502, "<!DOCTYPE HTML>\n<html><head><title>Error response</title></head><body><p>502: Bad Gateway.</p></body></html>\n"},
		{"failsafe, no longer on", "/failsafe", leader, DCS{Failsafe: true, Members: []State{stopped}}, 200, `{"n3": ""}`},
		{"liveness", "/liveness", leader, dcs, 200, ""},
		{"no DCS", "/config", leader.with(func(s *State) { s.DCS = false }), dcs, 0, ""},
	}
	for _, tt := range tests {
		a := Decide(tt.state, tt.dcs, Request{"GET", tt.target}, now)
		if a.Status != tt.status || string(a.Body) != tt.want {
			t.Errorf("%s:\n got %d %s\nwant %d %s", tt.name, a.Status, a.Body, tt.status, tt.want)
		}
	}
}
