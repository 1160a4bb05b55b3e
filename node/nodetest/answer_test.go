package nodetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 22, 12, 50, 54, 0, time.UTC)

func primary(edit ...func(*State)) State { return edited(Primary("rl", "n1"), edit) }
func replica(edit ...func(*State)) State { return edited(Replica("rl", "n1"), edit) }

func edited(s State, edits []func(*State)) State {
	s.Started = time.Date(2026, 11, 22, 12, 44, 15, 478774000, time.UTC)
	s.SystemID = "7710975781833504509"
	s.DCSLastSeen = time.Unix(1795351476, 0)
	for _, f := range edits {
		f(&s)
	}
	return s
}

func version(v string) func(*State) { return func(s *State) { s.Version = v } }

// status is Decide's status alone; the method is GET unless the target says otherwise.
func status(s State, target string) int {
	r := Request{"GET", target}
	if method, rest, ok := strings.Cut(target, " "); ok {
		r = Request{method, rest}
	}
	return Decide(s, DCS{Config: defaultConfig()}, r, now).Status
}

// endpoints are all that the truth table has, each answering 200 or 503 whatever the state.
var endpoints = []string{
	"/", "/primary", "/master", "/read-write", "/leader", "/standby-leader", "/standby_leader", "/replica", "/read-only", "/health",
	"/sync", "/synchronous", "/quorum", "/async", "/asynchronous", "/read-only-sync", "/read-only-synchronous", "/read-only-quorum",
	"/liveness", "/readiness", "/patroni", "/nonexistent",
}

func TestTruthTable(t *testing.T) {
	const (
		isPrimary = "/ /primary /master /read-write"
		isSync    = "/sync /synchronous"
		isAsync   = "/async /asynchronous"
		roSync    = "/read-only-sync /read-only-synchronous"
		standby   = "/standby-leader /standby_leader"
	)
	running := func(role string, lock bool) State {
		s := replica()
		s.Role, s.Lock = role, lock
		return s
	}
	down := func(state string) func(*State) {
		return func(s *State) { s.State, s.SQL = state, false }
	}
	noDCS := func(s *State) { s.DCS = false }
	pause := func(s *State) { s.Pause = true }
	standbyCluster := func(s *State) { s.StandbyCluster = true }

	// passes is everything that answers 200; the rest of endpoints answers 503. /patroni is added: it always passes.
	tests := []struct {
		name   string
		state  State
		passes string
	}{
		{"primary", primary(), isPrimary + " /leader /read-only /health " + roSync + " /read-only-quorum /liveness /readiness"},
		{"replica", replica(), "/replica /read-only /health " + isAsync + " /liveness /readiness"},
		{"sync standby", replica(func(s *State) { s.SyncStandby = true }), "/replica /read-only /health " + isSync + " " + roSync + " /liveness /readiness"},
		{"quorum standby", replica(func(s *State) { s.QuorumStandby = true }), "/replica /read-only /health /quorum /read-only-quorum /liveness /readiness"},
		{"a synchronous name on the primary counts for nothing", primary(func(s *State) { s.SyncStandby = true }), isPrimary + " /leader /read-only /health " + roSync + " /read-only-quorum /liveness /readiness"},

		// Measured: S1, a switchover.
		{"stopping primary", primary(down("stopping")), isPrimary + " /leader /read-only " + roSync + " /read-only-quorum /liveness /readiness"},
		{"demoted", primary(down("stopping"), func(s *State) { s.Role, s.Lock, s.Unlocked = "demoted", false, true }), "/liveness"},
		{"promoting", replica(func(s *State) { s.Lock = true }), isPrimary + " /leader /replica /read-only /health " + isAsync + " " + roSync + " /read-only-quorum /liveness /readiness"},
		{"starting replica", replica(down("starting")), "/liveness"},
		{"starting replica that answers queries", replica(func(s *State) { s.State = "starting" }), "/liveness"},
		// S2, a crash; S11, a restart.
		{"primary without SQL", primary(func(s *State) { s.SQL = false }), isPrimary + " /leader /read-only " + roSync + " /read-only-quorum /liveness /readiness"},
		{"crashed primary", primary(down("crashed")), isPrimary + " /leader /read-only " + roSync + " /read-only-quorum /liveness /readiness"},
		{"restarting primary", primary(down("restarting")), isPrimary + " /leader /read-only " + roSync + " /read-only-quorum /liveness /readiness"},
		{"replica without SQL", replica(func(s *State) { s.SQL = false }), "/liveness"},
		{"replica that does not stream", replica(func(s *State) { s.ReplicationState = "" }), "/replica /read-only /health " + isAsync + " /liveness"},
		{"replica in archive recovery", replica(func(s *State) { s.ReplicationState = "in archive recovery" }), "/replica /read-only /health " + isAsync + " /liveness"},
		// S3, S4: no DCS.
		{"replica without DCS", replica(noDCS), "/replica /read-only /health /liveness /readiness"},
		{"replica without DCS and wal receiver", replica(noDCS, func(s *State) { s.LatestEnd = 0 }), "/replica /read-only /health /liveness"},
		{"the same in failsafe mode", replica(noDCS, func(s *State) { s.LatestEnd, s.Failsafe = 0, true }), "/replica /read-only /health /liveness /readiness"},
		{"sync standby without DCS", replica(noDCS, func(s *State) { s.SyncStandby = true }), "/replica /read-only /health /liveness /readiness"},
		{"primary in failsafe mode", primary(noDCS, func(s *State) { s.Failsafe = true }), isPrimary + " /leader /read-only /health /liveness /readiness"},
		{"failsafe blip", primary(func(s *State) { s.Lock, s.Unlocked, s.Failsafe = false, true, true }), "/health /liveness"},
		// S5: pause.
		{"paused primary without lock", primary(pause, func(s *State) { s.Lock = false }), "/health /liveness"},
		{"paused primary without lock or DCS", primary(pause, noDCS, func(s *State) { s.Lock = false }), isPrimary + " /leader /read-only /health /liveness"},
		{"paused replica without DCS, lock held", replica(pause, noDCS, func(s *State) { s.Lock = true }), "/replica /read-only /health /liveness /readiness"},
		{"paused standby leader without DCS", running("standby_leader", false).with(pause, noDCS, standbyCluster), "/leader " + standby + " /read-only /health /liveness /readiness"},
		// S8, S9: a standby cluster.
		{"standby leader", running("standby_leader", true).with(standbyCluster), "/leader " + standby + " /read-only /health " + roSync + " /read-only-quorum /liveness /readiness"},
		{"standby leader still called replica", replica(standbyCluster, func(s *State) { s.Lock = true }), "/leader " + standby + " /read-only /health " + roSync + " /read-only-quorum /liveness /readiness"},
		{"standby leader whose Postgres crashed", running("standby_leader", true).with(standbyCluster, down("crashed")), "/leader " + standby + " /read-only " + roSync + " /read-only-quorum /liveness /readiness"},
		{"primary becoming standby leader", primary(standbyCluster), "/leader /health /liveness /readiness"},
		{"replica of a standby cluster", replica(standbyCluster), "/replica /read-only /health " + isAsync + " /liveness /readiness"},
		{"sync standby of a standby cluster is none", replica(standbyCluster, func(s *State) { s.SyncStandby = true }), "/replica /read-only /health " + isAsync + " /liveness /readiness"},

		{"noloadbalance replica", replica(func(s *State) { s.Tags = map[string]any{"noloadbalance": true} }), "/health /liveness /readiness"},
		{"noloadbalance primary", primary(func(s *State) { s.Tags = map[string]any{"noloadbalance": true} }), isPrimary + " /leader /read-only /health " + roSync + " /read-only-quorum /liveness /readiness"},
		{"noloadbalance false", replica(func(s *State) { s.Tags = map[string]any{"noloadbalance": false} }), "/replica /read-only /health " + isAsync + " /liveness /readiness"},
		{"noloadbalance as a word", replica(func(s *State) { s.Tags = map[string]any{"noloadbalance": "false"} }), "/health /liveness /readiness"},
		{"lagging beyond maximum_lag_on_failover", replica().with(func(s *State) { s.Optime += 1<<20 + 1 }), "/replica /read-only /health " + isAsync + " /liveness"},
		{"lagging just as far", replica().with(func(s *State) { s.Optime += 1 << 20 }), "/replica /read-only /health " + isAsync + " /liveness /readiness"},
		{"HA loop stuck on a primary", primary(func(s *State) { s.Overdue = 30 * time.Second }), isPrimary + " /leader /read-only /health " + roSync + " /read-only-quorum /readiness"},
		{"HA loop stuck on a replica", replica(func(s *State) { s.Overdue = 30 * time.Second }), "/replica /read-only /health " + isAsync + " /liveness /readiness"},
		{"HA loop stuck on a replica for long", replica(func(s *State) { s.Overdue = time.Minute }), "/replica /read-only /health " + isAsync + " /readiness"},
		{"HA loop stuck in pause", replica(pause, func(s *State) { s.Overdue = time.Hour }), "/replica /read-only /health " + isAsync + " /liveness /readiness"},
		{"nothing at all", State{}, "/liveness"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := map[string]int{}
			for _, e := range endpoints {
				want[e] = 503
			}
			for e := range strings.FieldsSeq(tt.passes + " /patroni") {
				want[e] = 200
			}
			got := map[string]int{}
			for _, e := range endpoints {
				got[e] = status(tt.state, e)
			}
			diff(t, "GET", got, want)

			// HEAD and OPTIONS know health checks only.
			for _, e := range []string{"/liveness", "/readiness", "/patroni"} {
				want[e] = 503
			}
			for _, method := range []string{"HEAD", "OPTIONS"} {
				for _, e := range endpoints {
					got[e] = status(tt.state, method+" "+e)
				}
				diff(t, method, got, want)
			}
		})
	}
}

func (s State) with(edits ...func(*State)) State {
	for _, f := range edits {
		f(&s)
	}
	return s
}

func diff(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("%s %s: status %d, want %d", what, k, got[k], want[k])
		}
	}
}

func TestRouting(t *testing.T) {
	tests := []struct {
		target           string
		primary, replica int
	}{
		{"/xreplicax", 503, 200},
		{"/replica/", 503, 200},
		{"/replica/x", 503, 200},
		{"//replica", 503, 200},
		{"http://pg1:8008/replica", 503, 200},
		{"/replica;x", 503, 200},
		{"/replica#x", 503, 200},
		{"/replica?x", 503, 200},
		{"/Replica", 503, 503},
		{"/%72eplica", 503, 503},
		{"/primary/replica", 200, 503}, // primary comes first
		{"/replica-primary", 200, 503},
		{"/no-leader", 200, 503},
		{"/my-standby-leader", 503, 503},
		{"/healthz", 200, 200},
		{"/read-only-x", 200, 200},
		{"/async/", 503, 503},
		{"/sync/", 503, 503},
		{"/xasync", 503, 503},
		{"/nonexistent", 503, 503},
		{"/x/liveness", 503, 503},
		{"/liveness/x", 200, 200},
		{"/patroni/x", 200, 200},
		{"/patronix", 503, 503},
		{"*", 503, 503},
		{"/metrics", 503, 503},
		{"HEAD /metrics", 503, 503},
		{"HEAD /cluster", 503, 503},
		{"OPTIONS /config", 503, 503},
		{"HEAD /history", 503, 503},
		{"OPTIONS /", 200, 503},
		{"POST /primary", 501, 501},
		{"BREW /primary", 501, 501},
	}
	for _, tt := range tests {
		if got := status(primary(), tt.target); got != tt.primary {
			t.Errorf("%s on a primary: status %d, want %d", tt.target, got, tt.primary)
		}
		if got := status(replica(), tt.target); got != tt.replica {
			t.Errorf("%s on a replica: status %d, want %d", tt.target, got, tt.replica)
		}
	}
}

func TestLag(t *testing.T) {
	behind := func(bytes int64) State {
		return replica(func(s *State) { s.Replayed = new(s.Optime - bytes) })
	}
	tests := []struct {
		name   string
		state  State
		target string
		want   int
	}{
		{"none", behind(0), "/replica?lag=0", 200},
		{"equal", behind(16384), "/replica?lag=16kB", 200},
		{"one byte more", behind(16385), "/replica?lag=16kB", 503},
		{"no such unit", behind(1 << 40), "/replica?lag=16KB", 200},
		{"junk", behind(1 << 40), "/replica?lag=junk", 200},
		{"blank", behind(1), "/replica?lag=", 200},
		{"no value", behind(1), "/replica?lag", 200},
		{"negative", behind(0), "/replica?lag=-1", 503},
		{"the first counts", behind(2), "/replica?lag=1&lag=3", 503},
		{"escaped", behind(1 << 20), "/replica?lag=1%20MB", 200},
		{"plus is a space", behind(1 << 20), "/replica?lag=1+MB", 200},
		{"position unknown", behind(5).with(func(s *State) { s.Optime, s.LatestEnd = 0, 0 }), "/replica?lag=1", 200},
		{"wal receiver ahead of the DCS", behind(0).with(func(s *State) { s.LatestEnd += 2 }), "/replica?lag=1", 503},
		{"which 4.0 does not look at", behind(0).with(version("4.0"), func(s *State) { s.LatestEnd += 2 }), "/replica?lag=1", 200},
		{"no DCS", behind(2).with(func(s *State) { s.DCS = false }), "/replica?lag=1", 503},
		{"no DCS, 4.0", behind(2).with(version("4.0"), func(s *State) { s.DCS = false }), "/replica?lag=1", 200},
		{"1.6 knows no lag", behind(2).with(version("1.6")), "/replica?lag=1", 200},
		{"async", behind(2), "/async?lag=1", 503},
		{"sync", behind(2).with(func(s *State) { s.SyncStandby = true }), "/sync?lag=1", 503},
		{"quorum", behind(2).with(func(s *State) { s.QuorumStandby = true }), "/quorum?lag=1", 503},
		{"read-only on a replica", behind(2), "/read-only?lag=1", 503},
		{"read-only on the primary", primary(), "/read-only?lag=-1", 200},
		{"read-only-sync on the primary", primary(), "/read-only-sync?lag=-1", 200},
		{"read-only-sync on a standby", behind(2).with(func(s *State) { s.SyncStandby = true }), "/read-only-sync?lag=1", 503},
		{"read-only-quorum on a standby", behind(2).with(func(s *State) { s.QuorumStandby = true }), "/read-only-quorum?lag=1", 503},
		{"primary", primary(), "/primary?lag=-1", 200},
		{"leader", primary(), "/leader?lag=-1", 200},
		{"health", behind(2), "/health?lag=1", 200},
		{"readiness", behind(1<<20 + 1), "/readiness?lag=2MB", 200},
		{"readiness over its limit", behind(2), "/readiness?lag=1", 503},
		{"readiness by what was received", behind(2), "/readiness?lag=1&mode=write", 200},
		{"readiness with junk is its default", behind(1<<20 + 1), "/readiness?lag=junk", 503},
		{"readiness before 4.1", behind(2).with(version("4.0")), "/readiness?lag=1", 200},
		{"replayed is null", replica(func(s *State) { s.Replayed = nil }), "/replica", 0},
		{"replayed is null, GET /patroni", replica(func(s *State) { s.Replayed = nil }), "/patroni", 200},
		{"replayed is null, readiness", replica(func(s *State) { s.Replayed = nil }), "/readiness", 0},
		{"replayed is null and nobody knows the leader's position", replica(func(s *State) { s.Replayed, s.Optime, s.LatestEnd = nil, 0, 0 }), "/replica?lag=1", 200},

		{"replication state is in no release", replica(), "/replica?replication_state=x", 200},
		{"but in the master branch", replica(version("master")), "/replica?replication_state=x", 503},
		{"which lets the right one pass", replica(version("master")), "/replica?replication_state=streaming", 200},
		{"async, too", replica(version("master")), "/async?replication_state=x", 503},
		{"not the primary's part of read-only", primary(version("master")), "/read-only?replication_state=x", 200},
		{"blank is none", replica(version("master")), "/replica?replication_state=", 200},
	}
	for _, tt := range tests {
		if got := status(tt.state, tt.target); got != tt.want {
			t.Errorf("%s: %s: status %d, want %d", tt.name, tt.target, got, tt.want)
		}
	}
}

func TestTags(t *testing.T) {
	var decoded tags
	if err := json.Unmarshal([]byte(`{"clonefrom": true, "nofailover": false, "zone": "Az1", "weight": 10, "ratio": 1.4, "none": null}`), &decoded); err != nil {
		t.Fatal(err)
	}
	tagged := func(s *State) { s.Tags = decoded }
	tests := []struct {
		state  State
		target string
		want   int
	}{
		{replica(tagged), "/replica?tag_clonefrom=true", 200},
		{replica(tagged), "/replica?tag_clonefrom=True", 503},
		{replica(tagged), "/replica?tag_zone=Az1", 200},
		{replica(tagged), "/replica?tag_zone=az1", 503},
		{replica(tagged), "/replica?tag_weight=10", 200},
		{replica(tagged), "/replica?tag_weight=10.0", 503},
		{replica(tagged), "/replica?tag_ratio=1.4", 200},
		{replica(tagged), "/replica?tag_nofailover=false", 503}, // filtered out
		{replica(tagged, func(s *State) { s.Tags = map[string]any{"nofailover": false, "failover_priority": 1} }), "/replica?tag_nofailover=false", 200},
		{replica(func(s *State) { s.Tags = map[string]any{"weight": 10, "ten": 10.0} }), "/replica?tag_weight=10&tag_ten=10.0", 200},
		{replica(tagged), "/replica?tag_none=x", 503},
		{replica(tagged), "/replica?tag_unknown=x", 503},
		{replica(tagged), "/replica?tag_zone=Az1&tag_weight=11", 503},
		{replica(tagged), "/replica?tag_zone=", 200}, // a blank value is no parameter
		{replica(tagged), "/async?tag_zone=x", 503},
		{replica(tagged), "/health?tag_zone=x", 503},
		{primary(tagged), "/read-only?tag_zone=x", 503}, // also on the primary
		{primary(tagged), "/read-only-sync?tag_zone=x", 503},
		{primary(tagged), "/primary?tag_zone=x", 200},
		{primary(tagged), "/leader?tag_zone=x", 200},
		{replica(tagged), "/readiness?tag_zone=x", 200},
		{replica(tagged, version("2.0")), "/replica?tag_zone=x", 200}, // since 2.1.0
	}
	for _, tt := range tests {
		if got := status(tt.state, tt.target); got != tt.want {
			t.Errorf("%s on a %s: status %d, want %d", tt.target, tt.state.Role, got, tt.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	// By Patroni's own parse_int(value, 'B'); "" stands for None.
	tests := map[string]string{
		"0": "0", "1": "1", "-1": "-1", "+5": "5", "010": "8", "0x10": "16", "-0x10": "-16", "08": "", " 7 ": "7",
		"16kB": "16384", "1MB": "1048576", "1GB": "1073741824", "1TB": "1099511627776", "3B": "3", "0x10kB": "16384",
		"1.5MB": "1572864", "5 MB": "5242880", "0.5": "0", "1.5": "2", "2.5": "2", ".5kB": "512", "1.5kB": "1536", "0.0001MB": "0", "1.0004kB": "1024",
		"1e3": "1000", "1e3kB": "1024000", "-1.5kB": "-1536", "1.": "", "1e999": "", "99999999999TB": "9223372036854775807",
		"16KB": "", "1k": "", "10mb": "", "junk": "", "1 M B": "", "kB": "", ".": "", "": "", "-": "", "1MB2": "", "1s": "",
	}
	for value, want := range tests {
		got := ""
		if n, ok := parseBytes(value); ok {
			got = fmt.Sprint(n)
		}
		if got != want {
			t.Errorf("parseBytes(%q) = %q, want %q", value, got, want)
		}
	}
}

// TestVersions has what differs between releases.
func TestVersions(t *testing.T) {
	standby := func(s *State) { s.Role, s.StandbyCluster, s.Lock = "standby_leader", true, true }
	sync := func(s *State) { s.SyncStandby = true }
	quorum := func(s *State) { s.QuorumStandby = true }
	tests := []struct {
		name   string
		state  State
		target string
		want   string // a status per version in versions
	}{
		{"HEAD since 2.1.5", primary(), "HEAD /primary", "501 501 200 200 200 200 200 200 200 200"},
		{"OPTIONS always", primary(), "OPTIONS /primary", "200 200 200 200 200 200 200 200 200 200"},
		{"standby leader is no primary since 2.0", replica(standby), "/primary", "200 503 503 503 503 503 503 503 503 503"},
		{"/leader is the lock since 2.1", replica(standby), "/leader", "200 503 200 200 200 200 200 200 200 200"},
		{"/standby-leader", replica(standby), "/standby-leader", "200 200 200 200 200 200 200 200 200 200"},
		{"/standby-leader contained leader in 1.6", primary(), "/standby-leader", "200 503 503 503 503 503 503 503 503 503"},
		{"/read-only-sync was any read-only before 2.1.4", replica(), "/read-only-sync", "200 200 503 503 503 503 503 503 503 503"},
		{"/read-only-quorum was any read-only before 4.0", replica(), "/read-only-quorum", "200 200 200 200 200 200 200 503 503 503"},
		{"/quorum", replica(quorum), "/quorum", "503 503 503 503 503 503 503 200 200 200"},
		{"/sync", replica(sync), "/sync", "200 200 200 200 200 200 200 200 200 200"},
		{"/async of a sync standby", replica(sync), "/async", "503 503 503 503 503 503 503 503 503 503"},
		{"/liveness since 2.0", primary(), "/liveness", "503 200 200 200 200 200 200 200 200 200"},
		{"/liveness looks at the HA loop since 2.1.5", primary(func(s *State) { s.Overdue = time.Hour }), "/liveness", "503 200 503 503 503 503 503 503 503 503"},
		{"/readiness without streaming", replica(func(s *State) { s.ReplicationState = "" }), "/readiness", "503 200 200 200 200 200 200 200 503 503"},
		{"/readiness without DCS", replica(func(s *State) { s.DCS = false }), "/readiness", "503 503 503 503 503 503 503 503 200 200"},
		{"/cluster without DCS", replica(func(s *State) { s.DCS = false }), "/cluster", "0 0 0 0 0 0 0 0 0 0"},
		{"/failsafe is off", replica(), "/failsafe", "503 503 503 502 502 502 502 502 502 502"},
		{"paused primary without lock or DCS", primary(func(s *State) { s.Lock, s.DCS, s.Pause = false, false, true }), "/leader", "200 200 200 200 200 200 200 200 200 200"},
		{"paused standby leader without DCS", replica(standby, func(s *State) { s.Lock, s.DCS, s.Pause = false, false, true }), "/leader", "503 503 200 200 200 200 200 200 200 200"},
	}
	for _, tt := range tests {
		var got []string
		for _, v := range Versions() {
			got = append(got, fmt.Sprint(status(tt.state.with(version(v)), tt.target)))
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: %s in %v:\n got %s\nwant %s", tt.name, tt.target, Versions(), g, tt.want)
		}
	}

	for v, want := range map[string]string{"": "4.1.4", "1.6": "1.6.5", "2.1": "2.1.7", "3.0": "3.0.4", "3.0.2": "3.0.2", "3.3": "3.3.11", "4": "4.1.4", "4.0": "4.0.10", "9.9": "9.9", "master": "master"} {
		if got := fullVersion(v); got != want {
			t.Errorf("version %q means %q, want %q", v, got, want)
		}
	}
}
