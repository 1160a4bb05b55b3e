package node

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/verdicts.txt; read it before you commit it")

// situation is a node as one column of Patroni's truth table sees it.
type situation struct {
	name    string
	report  Report
	stands  Standing
	inState time.Duration
	passes  string // the checks that pass, by their first names
}

func situations() []situation {
	at := time.Unix(1795351861, 0)
	primary := func() (Report, Standing) {
		d := Document{State: StateRunning, Role: RolePrimary, Timeline: 5, Location: new(int64(1000)), DCSLastSeen: at.Unix(), Version: "4.1.4"}
		return Report{Status: http.StatusOK, Clock: at, Document: d}, Standing{Elected: true, DCS: true}
	}
	replica := func() (Report, Standing) {
		d := Document{State: StateRunning, Role: RoleReplica, Timeline: 5, Replayed: new(int64(1000)), DCSLastSeen: at.Unix(), ReplicationState: "streaming", Version: "4.1.4"}
		return Report{Status: http.StatusServiceUnavailable, Clock: at, Document: d}, Standing{DCS: true}
	}
	standby := func() (Report, Standing) {
		r, s := replica()
		r.Document.Role, r.Leader, s.Elected = RoleStandbyLeader, true, true
		return r, s
	}
	var all []situation
	add := func(name string, of func() (Report, Standing), edit func(*Report, *Standing), inState time.Duration, passes string) {
		r, s := of()
		if edit != nil {
			edit(&r, &s)
		}
		all = append(all, situation{name, r, s, inState, passes})
	}
	state := func(to State) func(*Report, *Standing) {
		return func(r *Report, _ *Standing) { r.Document.State, r.Document.ReplicationState = to, "" }
	}
	lock := func(edit func(*Report, *Standing)) func(*Report, *Standing) {
		return func(r *Report, s *Standing) { edit(r, s); s.Lock = true }
	}
	const (
		leads    = "primary leader read-only read-only-sync read-only-quorum health liveness readiness"
		reads    = "replica read-only async health liveness readiness"
		standbys = "leader standby-leader read-only read-only-sync read-only-quorum health liveness readiness"
	)

	// A leader of a primary cluster: L, not SC.
	add("primary", primary, nil, 0, leads)
	add("primary, SQL failed", primary, state(StateUnknown), 0, "primary leader read-only read-only-sync read-only-quorum liveness readiness")
	add("primary stopping", primary, state(StateStopping), 0, "liveness readiness")
	add("primary stopping for 60 s", primary, state(StateStopping), 60*time.Second, "liveness readiness")
	add("primary stopping for 61 s", primary, state(StateStopping), 61*time.Second, "liveness readiness")
	add("primary stopping, lock mode", primary, lock(state(StateStopping)), 0, "primary leader read-only read-only-sync read-only-quorum liveness readiness")
	add("primary starting", primary, state(StateStarting), 0, "liveness readiness")
	add("primary restarting", primary, state(StateRestarting), 0, "liveness readiness")
	add("primary stopped", primary, state(StateStopped), 0, "liveness readiness")
	add("primary starting after custom bootstrap", primary, state("starting after custom bootstrap"), 0, "liveness readiness")
	add("primary crashed", primary, state(StateCrashed), 0, "liveness readiness")
	add("primary crashed, lock mode", primary, lock(state(StateCrashed)), 0, "primary leader read-only read-only-sync read-only-quorum liveness readiness")
	promoting := func(r *Report, _ *Standing) { r.Document.Role = RoleReplica }
	add("promoting", primary, promoting, 0, "replica read-only async health liveness readiness")
	add("promoting for 61 s", primary, promoting, 61*time.Second, "replica read-only async health liveness readiness")
	add("promoting, lock mode", primary, lock(promoting), 0, "primary leader replica read-only async read-only-sync read-only-quorum health liveness readiness")
	add("primary in failsafe mode, DCS unseen", primary, func(r *Report, s *Standing) {
		r.Document.ClusterUnlocked, r.Document.Failsafe, s.DCS = true, true, false
	}, 0,
		"primary leader read-only health liveness readiness")
	add("primary held through a failsafe blip", primary, func(r *Report, _ *Standing) { r.Status, r.Document.ClusterUnlocked = 503, true }, 0, leads)
	add("primary with noloadbalance", primary, func(r *Report, _ *Standing) { r.Document.Tags = map[string]any{"noloadbalance": true} }, 0, leads)
	add("primary as fallback", primary, func(_ *Report, s *Standing) { s.Fallback = true }, 0, "replica "+leads)
	add("primary stopping as fallback", primary, func(r *Report, s *Standing) { r.Document.State, s.Fallback = StateStopping, true }, 0, "liveness readiness")

	// A primary that is not the one.
	add("primary without lock", primary, func(r *Report, s *Standing) { r.Status, s.Elected = 503, false }, 0, "health liveness")
	add("primary without lock for 61 s", primary, func(r *Report, s *Standing) { r.Status, s.Elected = 503, false }, 61*time.Second, "health liveness")
	add("primary being judged", primary, func(_ *Report, s *Standing) { s.Elected, s.Judging = false, true }, 0, "health liveness")
	add("primary in dispute", primary, func(_ *Report, s *Standing) {
		s.Elected, s.Dispute = false, "not elected: pg2 holds timeline 8, pg1 claims timeline 7"
	}, 0, "health liveness")
	add("primary not elected", primary, func(_ *Report, s *Standing) { s.Elected = false }, 0, "health liveness")
	add("demoted and stopped", primary, func(r *Report, s *Standing) {
		r.Status, s.Elected, r.Document.State, r.Document.Role = 503, false, StateStopped, RoleDemoted
	}, 0, "liveness")

	// A replica: not L.
	add("replica", replica, nil, 0, reads)
	add("replica, while others are judged", replica, func(_ *Report, s *Standing) { s.Judging = true }, 0, reads)
	add("synchronous replica", replica, func(r *Report, _ *Standing) { r.Document.SyncStandby = true }, 0, "replica read-only sync read-only-sync health liveness readiness")
	add("quorum replica", replica, func(r *Report, _ *Standing) { r.Document.QuorumStandby = true }, 0, "replica read-only quorum read-only-quorum health liveness readiness")
	add("synchronous replica, DCS unseen", replica, func(r *Report, s *Standing) { r.Document.SyncStandby, s.DCS = true, false }, 0, "replica read-only health liveness readiness")
	add("replica, DCS unseen", replica, func(_ *Report, s *Standing) { s.DCS = false }, 0, "replica read-only health liveness readiness")
	add("replica with noloadbalance", replica, func(r *Report, _ *Standing) { r.Document.Tags = map[string]any{"noloadbalance": "yes"} }, 0, "health liveness readiness")
	add("replica in archive recovery", replica, func(r *Report, _ *Standing) { r.Document.ReplicationState = "in archive recovery" }, 0, "replica read-only async health liveness")
	add("replica that receives nothing", replica, func(r *Report, _ *Standing) { r.Document.ReplicationState = "" }, 0, "replica read-only async health liveness")
	add("replica 1 MiB behind", replica, func(_ *Report, s *Standing) { s.Lag = 1 << 20 }, 0, reads)
	add("replica over 1 MiB behind", replica, func(_ *Report, s *Standing) { s.Lag = 1<<20 + 1 }, 0, "replica read-only async health liveness")
	add("replica of unknown lag", replica, func(_ *Report, s *Standing) { s.Lag, s.ReceiveLag = -1, -1 }, 0, reads)
	add("replica over max-lag", replica, func(_ *Report, s *Standing) {
		s.Lag, s.Excluded, s.Label, s.Why = 212<<20, Lagging, "lag 212 MB over 100 MB", "lag 212 MB over 100 MB for 14s"
	}, 0, "health liveness")
	add("replica on an old timeline", replica, func(_ *Report, s *Standing) {
		s.Excluded, s.Label, s.Why = Excluded, "timeline 4", "on timeline 4, the primary on 5"
	}, 0, "health liveness readiness")
	add("replica, SQL failed", replica, state(StateUnknown), 0, "liveness")
	add("replica starting", replica, state(StateStarting), 0, "liveness")
	add("replica starting for 61 s", replica, state(StateStarting), 61*time.Second, "liveness")
	add("replica being created", replica, state("creating replica"), 0, "liveness")
	add("replica with start failed", replica, state("start failed"), 0, "liveness")
	add("replica of 3.0.2", replica, func(r *Report, _ *Standing) { r.Document.ReplicationState, r.Document.Version = "", "3.0.2" }, 0, reads)
	add("replica of 3.0.2, DCS unseen", replica, func(r *Report, s *Standing) {
		r.Document.ReplicationState, r.Document.Version, s.DCS = "", "3.0.2", false
	}, 0, "replica read-only health liveness")
	add("uninitialized", replica, func(r *Report, _ *Standing) { r.Document.Role, r.Document.State = RoleUninitialized, StateStopped }, 0, "liveness")

	// A standby cluster: SC.
	add("standby leader", standby, nil, 0, standbys)
	add("standby leader, SQL failed", standby, state(StateUnknown), 0, "leader standby-leader read-only read-only-sync read-only-quorum liveness readiness")
	add("standby leader crashed", standby, state(StateCrashed), 0, "liveness readiness")
	add("standby leader crashed, lock mode", standby, lock(state(StateCrashed)), 0, "leader standby-leader read-only read-only-sync read-only-quorum liveness readiness")
	add("standby leader not yet following", standby, func(r *Report, _ *Standing) { r.Document.Role = RoleReplica }, 0, standbys)
	add("standby leader without lock", standby, func(r *Report, s *Standing) { r.Leader, s.Elected = false, false }, 0, "health liveness readiness")
	add("replica with a standby cluster's lock, not elected", standby, func(r *Report, s *Standing) { r.Document.Role, s.Elected = RoleReplica, false }, 0, "health liveness readiness")
	return all
}

func TestJudge(t *testing.T) {
	var got strings.Builder
	for _, s := range situations() {
		var passes []string
		for q := range Questions {
			c := PlainCheck(Question(q))
			v := Judge(&s.report, &s.stands, s.inState, &c)
			fmt.Fprintf(&got, "%s | %s | %s | %s | %s\n", s.name, c.Name, v.Outcome, v.Label, v.Reason)
			if v.Passes() {
				passes = append(passes, c.Name)
			}
			for _, name := range CheckNames() { // every name of the question has the same answer
				if other := checksByName[name]; other.Ask == c.Ask {
					if o := Judge(&s.report, &s.stands, s.inState, &other); o != v {
						t.Errorf("%s: %s is %v, %s is %v", s.name, c.Name, v, name, o)
					}
				}
			}
		}
		var want []string // in the order of the questions
		for q := range Questions {
			if name := PlainCheck(Question(q)).Name; strings.Contains(" "+s.passes+" ", " "+name+" ") {
				want = append(want, name)
			}
		}
		if diff := cmp.Diff(want, passes); diff != "" {
			t.Errorf("%s passes (-want +got)\n%s", s.name, diff)
		}
	}
	const file = "testdata/verdicts.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Error(file + " (-want +got)\n" + diff)
	}
}

func TestJudgeWithParameters(t *testing.T) {
	pass := func(label, reason string) Verdict { return Verdict{Pass, label, reason} }
	replica := pass("replica", "running replica")
	ready := pass("replica", "ready")
	leader := pass("primary", "holds the leader lock")
	lagging := func(text string) Verdict { return Verdict{Lagging, text, text} }
	tags := func(r *Report, _ *Standing) { r.Document.Tags = documents["4.1-primary"].Tags }
	behind := func(replay, receive int64) func(*Report, *Standing) {
		return func(_ *Report, s *Standing) { s.Lag, s.ReceiveLag = replay, receive }
	}
	for _, tt := range []struct {
		of, check string
		edit      func(*Report, *Standing)
		want      Verdict
	}{
		{"replica", "replica?lag=1kB", behind(1024, 0), replica},
		{"replica", "replica?lag=1kB", behind(1025, 0), lagging("lag 1.0 kB over 1.0 kB")},
		{"replica", "replica?lag=100MB", behind(212<<20, 0), lagging("lag 212 MB over 100 MB")},
		{"replica", "replica?lag=0", behind(0, 9), replica},
		{"replica", "replica?lag=0", behind(-1, -1), replica},
		{"replica", "async?lag=0", behind(1, 0), lagging("lag 1 B over 0 B")},
		{"replica", "read-only?lag=0", behind(1, 0), lagging("lag 1 B over 0 B")},
		{"synchronous replica", "sync?lag=0", behind(1, 0), lagging("lag 1 B over 0 B")},
		{"quorum replica", "read-only-quorum?lag=0", behind(1, 0), lagging("lag 1 B over 0 B")},
		{"primary", "primary?lag=0", behind(9, 9), leader},
		{"primary", "read-only?lag=0&replication_state=streaming", behind(9, 9), leader},
		{"replica", "health?lag=0", behind(9, 9), pass("replica", "PostgreSQL is running")},
		{"replica", "liveness?lag=0&tag_zone=b", behind(9, 9), pass("alive", "Patroni answers")},

		{"replica", "readiness?lag=1kB", behind(1024, 9999), ready},
		{"replica", "readiness?lag=1kB", behind(1025, 0), lagging("lag 1.0 kB over 1.0 kB")},
		{"replica", "readiness?lag=1kB&mode=apply", behind(2048, 0), lagging("lag 2.0 kB over 1.0 kB")},
		{"replica", "readiness?lag=1kB&mode=write", behind(2048, 1024), ready},
		{"replica", "readiness?lag=1kB&mode=write", behind(0, 3072), lagging("lag 3.0 kB over 1.0 kB")},
		{"replica", "readiness?mode=write", behind(0, 2<<20), lagging("lag 2.0 MB over 1.0 MB")},
		{"replica", "readiness?lag=3MB", behind(2<<20, 0), ready},
		{"primary", "readiness?lag=0", behind(9, 9), leader},
		{"replica", "readiness?tag_zone=b", nil, ready},

		{"replica", "replica?replication_state=streaming", nil, replica},
		{"replica in archive recovery", "replica?replication_state=streaming", nil, Verdict{Excluded, "not streaming", `replication state is "in archive recovery", want "streaming"`}},
		{"replica in archive recovery", "read-only?replication_state=in+archive+recovery", nil, replica},
		{"replica that receives nothing", "async?replication_state=streaming", nil, Verdict{Excluded, "not streaming", `no replication state, want "streaming"`}},
		{"replica of 3.0.2", "replica?replication_state=streaming", nil,
			Verdict{Excluded, "not streaming", `replication state unknown, want "streaming": Patroni 3.0.2 does not report it, 3.0.4 and newer do`}},
		{"replica", "replica?replication_state=a%0Ab", nil, Verdict{Excluded, "not a�b", `replication state is "streaming", want "a\nb"`}},

		{"replica", "replica?tag_zone=az1&tag_weight=10&tag_share=1.4&tag_clonefrom=true", tags, replica},
		{"replica", "replica?tag_zone=AZ1", tags, Verdict{Excluded, "tag zone", `tag zone is "az1", want "AZ1"`}},
		{"replica", "replica?tag_clonefrom=True", tags, Verdict{Excluded, "tag clonefrom", `tag clonefrom is "true", want "True"`}},
		{"replica", "replica?tag_weight=10.0", tags, Verdict{Excluded, "tag weight", `tag weight is "10", want "10.0"`}},
		{"replica", "replica?tag_nofailover=false", tags, Verdict{Excluded, "no tag nofailover", `tag nofailover is not set, want "false"`}},
		{"replica", "replica?tag_empty=none", tags, Verdict{Excluded, "no tag empty", `tag empty is not set, want "none"`}},
		{"replica", "replica?tag_a%0A=1", tags, Verdict{Excluded, "no tag a�", `tag a� is not set, want "1"`}},
		{"replica", "health?tag_zone=b", tags, Verdict{Excluded, "tag zone", `tag zone is "az1", want "b"`}},
		{"primary", "primary?tag_zone=b", tags, leader},
		{"primary", "leader?tag_zone=b", tags, leader},
		{"primary", "read-only?tag_zone=b", tags, Verdict{Excluded, "tag zone", `tag zone is "az1", want "b"`}},
		{"primary", "read-only?tag_zone=az1", tags, leader},
		{"replica starting", "replica?tag_zone=b", tags, Verdict{Transient, "starting", "PostgreSQL is starting"}}, // the cause, not the tag
	} {
		t.Run(tt.of+" "+tt.check, func(t *testing.T) {
			s := situationOf(t, tt.of)
			if tt.edit != nil {
				tt.edit(&s.report, &s.stands)
			}
			name, query, _ := strings.Cut(tt.check, "?")
			c, err := ParseCheck(name, query)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, Judge(&s.report, &s.stands, s.inState, &c)); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
		})
	}
}

func situationOf(t testing.TB, name string) situation {
	t.Helper()
	for _, s := range situations() {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("no situation %q", name)
	return situation{}
}

func TestFaultFor(t *testing.T) {
	if got, want := FaultFor("unknown: not polled yet"), (Verdict{Fault, "unknown: not polled yet", "unknown: not polled yet"}); got != want || got.Passes() {
		t.Errorf("got %+v", got)
	}
}

func TestTellsReplicationState(t *testing.T) {
	for version, want := range map[string]bool{
		"": true, "1.6.5": false, "2.1.9": false, "3.0": true, "3.0.3": false, "3.0.4": true, "3.0.10": true, "3.1.0": true, "4.1.4": true, "10.0.0": true, "devel": true,
	} {
		if got := (&Document{Version: version}).TellsReplicationState(); got != want {
			t.Errorf("Patroni %q: %t", version, got)
		}
	}
	if d := (&Document{Version: "3.0.2", ReplicationState: "streaming"}); !d.TellsReplicationState() { // a patched package
		t.Error("a replication state that is told counts as not told")
	}
}

func TestSeesDCS(t *testing.T) {
	at := time.Unix(1795351861, 0)
	for _, tt := range []struct {
		name     string
		unlocked bool
		seen     int64
		clock    time.Time
		want     bool
	}{
		{"a leader key", false, 0, time.Time{}, true},
		{"no leader key, seen just now", true, at.Unix(), at, true},
		{"no leader key, seen a loop and a second ago", true, at.Unix() - 11, at, true},
		{"no leader key, seen a loop and two seconds ago", true, at.Unix() - 12, at, false},
		{"never seen", true, 0, at, false},
		{"no Date", true, at.Unix(), time.Time{}, false},
	} {
		r := Report{Clock: tt.clock, Document: Document{ClusterUnlocked: tt.unlocked, DCSLastSeen: tt.seen}}
		if got := r.SeesDCS(10 * time.Second); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestJudgeAllocations(t *testing.T) {
	for _, name := range []string{"primary", "replica", "synchronous replica", "replica with noloadbalance", "primary without lock"} {
		s := situationOf(t, name)
		for q := range Questions {
			c := PlainCheck(Question(q))
			if name == "primary without lock" && c.Ask == AskReadiness {
				continue // names the wanted state
			}
			if n := testing.AllocsPerRun(100, func() { Judge(&s.report, &s.stands, s.inState, &c) }); n != 0 {
				t.Errorf("%s of a %s: %v allocations", c.Name, name, n)
			}
		}
	}
}

func BenchmarkVerdict(b *testing.B) {
	for _, query := range []string{"", "lag=16MB", "lag=16MB&tag_zone=az1"} {
		c, err := ParseCheck("read-only", query)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("read-only?"+query, func(b *testing.B) {
			s := situationOf(b, "replica")
			s.report.Document.Tags = map[string]any{"zone": "az1"}
			b.ReportAllocs()
			for b.Loop() {
				if !Judge(&s.report, &s.stands, s.inState, &c).Passes() {
					b.Fatal("does not pass")
				}
			}
		})
	}
}
