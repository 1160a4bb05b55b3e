package cli

import (
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/client"
	"patroniglue/node"
)

// statusOf is that of a cluster with a primary pg1 and two replicas, at level.
func statusOf(name string, level cluster.Level, reasons ...cluster.Reason) client.Status {
	leads := httpapi.CheckVerdict{Pass: true, Label: "primary", Reason: "holds the leader lock"}
	follows := httpapi.CheckVerdict{Pass: true, Label: "replica", Reason: "running replica"}
	no := httpapi.CheckVerdict{Outcome: node.OtherRole, Label: "primary", Reason: "role is primary"}
	r := client.Status{Health: httpapi.Health{Level: level, Clusters: []httpapi.ClusterHealth{
		{Cluster: name, Leader: "pg1", Health: cluster.Health{Level: level, Reasons: reasons}},
	}}}
	for i, n := range []string{"pg1", "pg2", "pg3"} {
		role, checks := "replica", map[string]httpapi.CheckVerdict{"primary": no, "replica": follows}
		if i == 0 {
			role, checks = "primary", map[string]httpapi.CheckVerdict{"primary": leads, "replica": no}
		}
		r.Nodes = append(r.Nodes, httpapi.NodeState{
			Node: n, Cluster: name, Postgres: fmt.Sprintf("10.0.0.1%d:5432", i+1), Leader: i == 0, Fresh: true, Role: &role, State: new("running"),
			Timeline: new(int64(7)), Lag: new(int64(i) << 20), Age: new(0.25), TTL: 5, Checks: checks,
		})
	}
	return r
}

// both is one daemon's status of two clusters.
func both(a, b client.Status) client.Status {
	a.Health.Level = max(a.Health.Level, b.Health.Level)
	a.Health.Clusters = append(a.Health.Clusters, b.Health.Clusters...)
	a.Nodes = append(a.Nodes, b.Nodes...)
	return a
}

// dead makes a node one that no longer answers or, for good, one that never did.
func dead(r client.Status, i int, forGood bool) client.Status {
	n, fault := &r.Nodes[i], httpapi.CheckVerdict{Outcome: node.Fault, Reason: "no answer for 6s: connection refused"}
	n.Fresh, n.Leader, n.Lag, n.Checks = false, false, nil, map[string]httpapi.CheckVerdict{"primary": fault, "replica": fault}
	if n.Age = new(6.0); forGood {
		n.Role, n.State, n.Timeline, n.Age = nil, nil, nil, nil
	}
	return r
}

func TestNagiosLine(t *testing.T) {
	down := cluster.Reason{Code: "node_down", Level: cluster.Warning, Node: "pg3", Text: "no answer for 6s: connection refused"}
	split := cluster.Reason{Code: "split_brain", Level: cluster.Critical, Text: "pg1 and pg2 claim to be primary"}
	ends := func(r client.Status) client.Status {
		r.Health.Supervisor.Add(cluster.Reason{Code: "certificate_expiring", Level: cluster.Warning, Text: "the certificate of [frontend] ends at 2026-12-01 10:00 UTC"})
		return r
	}
	tests := []struct {
		name, want string
		report     client.Status
	}{
		{"ok", "PATRONIGLUE OK - main: primary pg1, 2 replicas | main_primary=1;;;0;1 main_replicas=2;;;0;3 main_nodes=3;;;0;3 " +
			"main_pg1_age=0.250s;5;;0 main_pg2_age=0.250s;5;;0 main_pg2_lag=1048576B;;;0 main_pg3_age=0.250s;5;;0 main_pg3_lag=2097152B;;;0",
			statusOf("main", cluster.OK)},
		{"what is not known is not 0", "PATRONIGLUE WARNING - main: primary pg1, 1 replica, node_down pg3: no answer for 6s: connection refused | " +
			"main_primary=1;;;0;1 main_replicas=1;;;0;3 main_nodes=2;;;0;3 main_pg1_age=0.250s;5;;0 main_pg2_age=0.250s;5;;0 main_pg2_lag=1048576B;;;0",
			dead(statusOf("main", cluster.Warning, down), 2, true)},
		{"the worst first", "PATRONIGLUE CRITICAL - west: no primary, 2 replicas, split_brain: pg1 and pg2 claim to be primary; east: primary pg1, 2 replicas | " +
			"west_primary=0;;;0;1 west_replicas=2;;;0;3 west_nodes=2;;;0;3 east_primary=1;;;0;1 east_replicas=2;;;0;3 east_nodes=3;;;0;3 " +
			"west_pg1_age=6.000s;5;;0 west_pg2_age=0.250s;5;;0 west_pg2_lag=1048576B;;;0 west_pg3_age=0.250s;5;;0 west_pg3_lag=2097152B;;;0 " +
			"east_pg1_age=0.250s;5;;0 east_pg2_age=0.250s;5;;0 east_pg2_lag=1048576B;;;0 east_pg3_age=0.250s;5;;0 east_pg3_lag=2097152B;;;0",
			both(statusOf("east", cluster.OK), dead(statusOf("west", cluster.Critical, split), 0, false))},
		{"the supervisor itself, worse than one cluster", "PATRONIGLUE CRITICAL - west: no primary, 2 replicas, split_brain: pg1 and pg2 claim to be primary; " +
			"certificate_expiring: the certificate of [frontend] ends at 2026-12-01 10:00 UTC; east: primary pg1, 2 replicas | " +
			"west_primary=0;;;0;1 west_replicas=2;;;0;3 west_nodes=2;;;0;3 east_primary=1;;;0;1 east_replicas=2;;;0;3 east_nodes=3;;;0;3 " +
			"west_pg1_age=6.000s;5;;0 west_pg2_age=0.250s;5;;0 west_pg2_lag=1048576B;;;0 west_pg3_age=0.250s;5;;0 west_pg3_lag=2097152B;;;0 " +
			"east_pg1_age=0.250s;5;;0 east_pg2_age=0.250s;5;;0 east_pg2_lag=1048576B;;;0 east_pg3_age=0.250s;5;;0 east_pg3_lag=2097152B;;;0",
			ends(both(statusOf("east", cluster.OK), dead(statusOf("west", cluster.Critical, split), 0, false)))},
		{"hostile", "PATRONIGLUE WARNING - a/b: primary pg1, 2 replicas, lag p/g: (script)\ufffd[2J; OK / x=1 /n | " +
			"a_b_primary=1;;;0;1 a_b_replicas=2;;;0;3 a_b_nodes=3;;;0;3 " +
			"a_b_pg1_age=0.250s;5;;0 a_b_pg2_age=0.250s;5;;0 a_b_pg2_lag=1048576B;;;0 a_b_pg3_age=0.250s;5;;0 a_b_pg3_lag=2097152B;;;0",
			statusOf("a|b", cluster.Warning, cluster.Reason{Code: "lag", Level: cluster.Warning, Node: "p|g", Text: "<script>\x1b[2J\nOK | x=1 \\n"})},
	}
	for _, test := range tests {
		if got := nagiosLine(test.report); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// Nagios cuts what is too long, and would then graph half a number.
func TestNagiosLineIsBounded(t *testing.T) {
	long := statusOf("c0", cluster.Critical, cluster.Reason{Code: "no_primary", Level: cluster.Critical, Text: strings.Repeat("ü|", 5000)})
	for i := range 200 {
		long = both(long, statusOf(fmt.Sprintf("cluster%d", i), cluster.OK))
	}
	line := nagiosLine(long)
	text, perf, _ := strings.Cut(line, "|")
	values := strings.Fields(perf)
	if len(line) > nagiosAll || len(text) > nagiosText+30 || !strings.HasPrefix(values[len(values)-1], "cluster") || strings.Count(values[len(values)-1], ";") < 3 {
		t.Errorf("%d bytes, %d of them text, the last value %q: want at most %d and %d, and a whole value", len(line), len(text), values[len(values)-1], nagiosAll, nagiosText)
	}
	if want := "PATRONIGLUE CRITICAL - c0: primary pg1, 2 replicas, no_primary: ü/"; !strings.HasPrefix(line, want) {
		t.Errorf("the line is %.80q..., want %q first", line, want)
	}
}

// Another program on our port may answer anything.
func TestStatusIsPrintable(t *testing.T) {
	r := statusOf("main", cluster.Warning, cluster.Reason{Code: "\x1b[2J", Level: cluster.Warning, Node: "\tpg\n", Text: "\u009b1m"})
	r.Health.Clusters[0].Cluster, r.Nodes[0].Cluster = "\x1bc", "\x1bc"
	*r.Nodes[0].State, r.Nodes[0].Postgres = "running\x1b]0;title\a", "\r\n"
	var out strings.Builder
	if err := printStatus(&out, r, style{}); err != nil {
		t.Fatal(err)
	}
	want := `Cluster ` + "\ufffd" + `c: warning
  warning  ` + "\ufffd[2J  \ufffdpg\ufffd: \ufffd1m" + `
  NODE  POSTGRES  ROLE              STATE              TL  LAG  AGE   PRIMARY  REPLICA  WHY
  pg1   ` + "\ufffd\ufffd        Leader (primary)  running\ufffd]0;title\ufffd" + `  7   -    0.2s  yes      no       holds the leader lock
`
	if d := gocmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
