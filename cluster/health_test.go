package cluster

import (
	"errors"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// clock is what a reason's text says of the time.
var clock = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}|2000-01-01 00:00:0[1-9]|[\d.]+s ago|for [\d.]+s`)

// A code that is never given, or another one than before, makes an alert that
// never fires.
func TestHealth(t *testing.T) {
	unread := func(c *Config) {
		for _, n := range c.Clusters[0].Nodes {
			n.Client.(*clustertest.Poller).SetSettings(func() (node.Settings, error) {
				return node.Settings{}, &node.Failure{Kind: node.KindDocument, Err: errors.New("ttl: want a number")}
			})
		}
	}
	unsafe := func(c *Config) {
		for _, n := range c.Clusters[0].Nodes {
			n.Client.(*clustertest.Poller).SetSettings(func() (node.Settings, error) {
				return node.Settings{TTL: 20 * time.Second, LoopWait: 15 * time.Second}, nil
			})
		}
	}
	behind := func(c *Config) { c.Rules.LagHold = time.Second }
	stale := "stale: last answer N, ttl 5s: connection dns"
	tests := []struct {
		name   string
		change func(*Config) // nil = none
		set    map[string]clustertest.Script
		act    func(*world) // nil = nothing
		after  time.Duration
		want   []Reason
	}{
		{name: "all is well", want: []Reason{}},
		{name: "no primary", set: map[string]clustertest.Script{"pg1": follows(1)},
			want: []Reason{{"no_primary", Critical, "", "no node claims to be primary"}}},
		{name: "stopping primary", set: map[string]clustertest.Script{"pg1": leads(1).WithState(node.StateStopping)},
			want: []Reason{{"no_primary", Critical, "pg1", "elected last, but: PostgreSQL is stopping"}}},
		{name: "the primary's SQL fails for long", set: map[string]clustertest.Script{"pg1": leads(1).WithState(node.StateUnknown)}, after: 15 * time.Second,
			want: []Reason{{"sql_fails", Warning, "pg1", "PostgreSQL has not answered Patroni's SQL N: it passes because it holds the leader lock"}}},
		{name: "another identity", set: map[string]clustertest.Script{"pg1": leads(1).WithField("database_system_identifier", "8888")},
			want: []Reason{
				{"identity_changed", Warning, "", "the system identifier changed from 7001 to 8888: pg1 leads with it, since N UTC; not followed by pg2, pg3 yet: reload the configuration to acknowledge it"},
				{"wrong_cluster", Warning, "pg2", "system identifier is 7001, want 8888"}, {"wrong_cluster", Warning, "pg3", "system identifier is 7001, want 8888"},
			}},
		{name: "two scopes", set: map[string]clustertest.Script{"pg2": follows(1).WithField("patroni", map[string]any{"version": "4.1.4", "scope": "dr", "name": "pg2"})},
			want: []Reason{{"mixed_scopes", Warning, "", `the nodes have several scopes: "dr" (pg2) and "main" (pg1, pg3); no scope is configured, so it is not checked`}}},
		{name: "two primaries", set: map[string]clustertest.Script{"pg2": leads(1)},
			want: []Reason{
				{"split_brain", Critical, "", "claims by pg1 (timeline 1) and pg2 (timeline 1): their timelines are equal: no node is elected"},
				{"no_primary", Critical, "", "none of the nodes that claim to be primary is elected"},
			}},
		{name: "one is down", set: map[string]clustertest.Script{"pg3": refuses},
			want: []Reason{{"node_down", Warning, "pg3", "not answering: connection refused (5 times in a row)"}}},
		{name: "a replica's PostgreSQL crashed", set: map[string]clustertest.Script{"pg2": follows(1).WithState(node.StateCrashed)},
			want: []Reason{{"replica_missing", Warning, "pg2", "PostgreSQL: crashed"}}},
		{name: "a replica of an old timeline", change: behind, set: map[string]clustertest.Script{"pg1": leads(2), "pg2": follows(1).WithField("replication_state", ""), "pg3": follows(2)}, after: 15 * time.Second,
			want: []Reason{{"wrong_timeline", Warning, "pg2", "timeline 1, the primary is on 2"}}},
		{name: "lag", change: lagRules, set: map[string]clustertest.Script{"pg2": follows(1).WithReplayed(1<<30 - 212*mb)}, after: 15 * time.Second,
			want: []Reason{{"lag", Warning, "pg2", "lag 212 MB over 100 MB N"}}},
		{name: "another cluster's node", set: map[string]clustertest.Script{"pg2": follows(1).WithField("database_system_identifier", "6666")},
			want: []Reason{{"wrong_cluster", Warning, "pg2", "system identifier is 6666, want 7001"}}},
		{name: "pause", set: map[string]clustertest.Script{"pg1": leads(1).WithField("pause", true), "pg2": follows(1).WithField("pause", true)},
			want: []Reason{{"paused", Warning, "", "Patroni is paused: there is no automatic failover"}}},
		{name: "failsafe without a DCS", set: map[string]clustertest.Script{"pg1": leads(1).WithField("cluster_unlocked", true).WithField("failsafe_mode_is_active", true)},
			want: []Reason{
				{"dcs_unseen", Warning, "pg1", "pg1 does not see its DCS"},
				{"failsafe", Warning, "", "failsafe mode is active: the DCS is out of reach"},
			}},
		{name: "a TTL that is too long", change: unsafe,
			want: []Reason{{"ttl_unsafe", Warning, "", "cache ttl 5s is not below 5s (Patroni's ttl 20s - loop_wait 15s): a frozen old primary could be believed after a new one is elected"}}},
		{name: "a TTL that is no number", change: unread,
			want: []Reason{{"ttl_unknown", Warning, "", "cache ttl 5s cannot be compared with Patroni's: /config of pg2: ttl: want a number"}}},
		{name: "an announced stop", act: func(w *world) {
			if _, err := w.sup.Leave("main", "pg1", time.Minute); err != nil {
				w.t.Fatal(err)
			}
		}, want: []Reason{{"leaving", Warning, "pg1", "about to stop, as announced: leads no more until N UTC at most"}}},
		{name: "two are not listed any more, one of which answers", change: func(c *Config) {
			for i := range c.Clusters[0].Nodes[1:] {
				c.Clusters[0].Nodes[1+i].Unlisted = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
			}
		}, set: map[string]clustertest.Script{"pg3": refuses}, want: []Reason{
			{"unlisted", Warning, "pg2", "unlisted: the DCS does not list it since 2000-01-01 00:00:00 UTC, but it answers"},
			{"unlisted", Warning, "pg3", "unlisted: the DCS does not list it since 2000-01-01 00:00:00 UTC; not answering: connection refused (5 times in a row)"},
		}},
		{name: "certificates", // a bubble begins with the year 2000
			set: map[string]clustertest.Script{
				"pg1": leads(1).WithCertificateEnd(time.Date(2000, 1, 14, 12, 0, 0, 0, time.UTC)),
				"pg2": follows(1).WithCertificateEnd(time.Date(1999, 12, 31, 23, 59, 0, 0, time.UTC)),
				"pg3": follows(1).WithCertificateEnd(time.Date(2000, 1, 16, 0, 0, 0, 0, time.UTC)),
			},
			want: []Reason{
				{"certificate_expiring", Warning, "pg1", "the certificate of its REST API ends at 2000-01-14 12:00 UTC"},
				{"certificate_expired", Warning, "pg2", "the certificate of its REST API ended at 1999-12-31 23:59 UTC"},
			}},
		{name: "another cluster's certificate", set: map[string]clustertest.Script{"pg2": follows(1).WithField("database_system_identifier", "6666").WithCertificateEnd(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))},
			want: []Reason{{"wrong_cluster", Warning, "pg2", "system identifier is 6666, want 7001"}}},
		{name: "all are silent, one of which is leaving", set: map[string]clustertest.Script{"pg1": fails(node.KindDNS), "pg2": fails(node.KindDNS), "pg3": fails(node.KindDNS)}, act: func(w *world) {
			if _, err := w.sup.Leave("main", "pg1", time.Minute); err != nil {
				w.t.Fatal(err)
			}
		}, after: 10 * time.Second,
			want: []Reason{ // the worst first
				{"no_primary", Critical, "", "no node claims to be primary"},
				{"node_down", Critical, "pg1", stale}, {"node_down", Critical, "pg2", stale}, {"node_down", Critical, "pg3", stale},
				{"leaving", Warning, "pg1", "about to stop, as announced: leads no more until N UTC at most"},
			}},
	}
	var given []string
	for _, test := range tests {
		inBubble(t, test.name, func(t *testing.T) {
			w := three(t, func(c *Config) {
				if test.change != nil {
					test.change(c)
				}
			})
			for name, s := range test.set {
				w.change(name, s)
			}
			if test.act != nil {
				test.act(w)
			}
			w.until(time.Second, "pg3 is idle", w.fakes["pg3"].Idle)
			n := w.fakes["pg3"].Count()
			w.until(10*time.Second, "5 polls", func() bool { return w.fakes["pg3"].Count() == n+5 })
			time.Sleep(test.after)
			synctest.Wait()
			got, level := w.view().Health(time.Now()), OK
			for i := range got.Reasons {
				r := &got.Reasons[i]
				r.Text = clock.ReplaceAllString(r.Text, "N")
				level = max(level, r.Level)
				given = append(given, r.Code)
			}
			if got.Level != level || !slices.Equal(got.Reasons, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
	for _, code := range Codes {
		ofNone := []string{CodeReloadFailed, CodeDiscoveryStale, CodeDiscoveryProblem} // main's TestReloadRefused and TestDiscovery give them
		if !slices.Contains(given, code) && !slices.Contains(ofNone, code) {
			t.Errorf("nothing here gives %q", code)
		}
	}
	for _, code := range given {
		if !slices.Contains(Codes, code) {
			t.Errorf("%q is not in Codes", code)
		}
	}
}

// The last moment of a certificate is still good, as for crypto/x509.
func TestCertificateReason(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		ends time.Time
		want Reason
		ok   bool
	}{
		{time.Time{}, Reason{}, false},
		{now.Add(ExpiryWarning + time.Second), Reason{}, false},
		{now.Add(ExpiryWarning), Reason{"certificate_expiring", Warning, "", "it ends at 2026-12-07 12:00 UTC"}, true},
		{now, Reason{"certificate_expiring", Warning, "", "it ends at 2026-11-23 12:00 UTC"}, true},
		{now.Add(-time.Second), Reason{"certificate_expired", Critical, "", "it ended at 2026-11-23 11:59 UTC"}, true},
	} {
		if got, ok := CertificateReason("it", tt.ends, now, Critical); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %+v, %t; want %+v, %t", tt.ends, got, ok, tt.want, tt.ok)
		}
	}
}
