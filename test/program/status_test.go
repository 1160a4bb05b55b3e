package program

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

func TestStatus(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	check := func(wantCode int, level cluster.Level, wantRows ...string) {
		t.Helper()
		code, stdout, stderr := p.Command(t, "status")
		if code != wantCode || stderr != "" {
			t.Errorf("status: exit code %d, want %d; stderr %q", code, wantCode, stderr)
		}
		var rows []string
		for line := range strings.Lines(stdout) {
			fields := strings.Fields(line)
			if len(fields) > 6 && strings.HasPrefix(fields[0], "pg") && !strings.HasSuffix(fields[0], ":") {
				fields = slices.DeleteFunc(fields, func(s string) bool { return strings.HasSuffix(s, "s") && strings.Contains(s, ".") }) // ages
			}
			rows = append(rows, strings.Join(fields, " "))
		}
		for _, want := range wantRows {
			if !slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, want) }) {
				t.Errorf("status: no line begins with %q:\n%s", want, stdout)
			}
		}

		code, stdout, stderr = p.Command(t, "status", "-json")
		var report client.Status
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("status -json: %v: %s%s", err, stdout, stderr)
		}
		if code != wantCode || report.Health.Level != level || len(report.Nodes) != 3 {
			t.Errorf("status -json: exit code %d, level %s and %d nodes, want %d, %s and 3", code, report.Health.Level, len(report.Nodes), wantCode, level)
		}
	}
	level := func(want string) {
		t.Helper()
		p.AwaitBody(t, "/health", `"level":"`+want+`","supervisor"`)
	}

	level("ok")
	p.AwaitBody(t, "/node/pg2", `"lag_bytes":0`) // its first poll may have come before the primary's
	check(0, cluster.OK,
		"Cluster main: ok",
		"NODE POSTGRES ROLE STATE TL LAG AGE PRIMARY REPLICA WHY",
		"pg1 10.0.0.11:5432 Leader (primary) running 1 - yes no holds the leader lock",
		"pg2 10.0.0.12:5432 replica running 1 0 B no yes running replica")
	sim.Kill("pg3")
	level("warning")
	check(1, cluster.Warning, "Cluster main: warning", "warning ", "pg3 10.0.0.13:5432 was replica was running 1")
	sim.Kill("pg1")
	level("critical")
	check(2, cluster.Critical, "Cluster main: critical", "critical ", "pg1 10.0.0.11:5432 was primary was running")
}

// Another program that answers every path with some JSON is not all well.
func TestStatusOfAnother(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1")
	config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", harness.PortOf(sim.Node("pg1").Addr())) + harness.NodesOf(sim, "")
	p := &harness.Program{Config: harness.WriteFile(t, "c.toml", config)}
	code, stdout, stderr := p.Command(t, "status")
	want := "patroniglue: asking the running daemon: " + sim.Node("pg1").URL() +
		"/health: status code 200: does another program answer there, or a patroniglue with another version or configuration?\n"
	if code != 3 || stdout != "" || stderr != want {
		t.Errorf("status of a Patroni: exit code %d, stdout %q, stderr %q, want 3 and %q", code, stdout, stderr, want)
	}
}

// Certificates from before names counted (they had a common name only) will do
// for status: it wants the very certificate.
func TestStatusTLSWithoutNames(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1")
	self := &harness.Authority{Dir: t.TempDir()}
	self.Make(t, "self", &x509.Certificate{})
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+self.Pair("self")+harness.FastPolls+harness.NodesOf(sim, ""))
	if code, _, stderr := p.Command(t, "status"); code != 0 {
		t.Errorf("status: exit code %d: %s", code, stderr)
	}
}

// What a node says of itself reaches neither Nagios's syntax nor a terminal.
func TestStatusOfHostileNode(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	sim.Node("pg2").Set(func(s *nodetest.State) { s.State, s.SQL = "crashed\x1b[2J\u009b1m\r\nOK | main_pg1_lag=0B", false })
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	code, stdout, stderr := p.Command(t, "status", "-nagios")
	if code != 1 || stderr != "" || strings.Count(stdout, "\n") != 1 || strings.Count(stdout, "|") != 1 ||
		!strings.HasPrefix(stdout, "PATRONIGLUE WARNING - main: primary pg1, 0 replicas, replica_missing pg2: ") {
		t.Errorf("status -nagios: exit code %d, %q, stderr %q: want 1, one line and one |", code, stdout, stderr)
	}
	for _, flag := range []string{"-nagios", "-json", "-cluster=main"} {
		_, stdout, _ := p.Command(t, "status", flag)
		if !strings.Contains(stdout, "crashed") {
			t.Errorf("status %s tells nothing of the node:\n%s", flag, stdout)
		}
		if i := strings.IndexFunc(stdout, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
			t.Errorf("status %s: control character at %q", flag, stdout[i:])
		}
	}
}

func TestStatusOfOneCluster(t *testing.T) {
	main, west := harness.NewSimulated(t, "pg1", "pg2"), nodetest.NewCluster("west", "w1", "w2")
	t.Cleanup(west.Close)
	west.Kill("w2")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(main, "")+strings.ReplaceAll(harness.NodesOf(west, ""), "'main'", "'west'"))
	for name, want := range map[string]struct {
		code int
		line string
	}{
		"main": {0, "PATRONIGLUE OK - main: primary pg1, 1 replica | "},
		"west": {1, "PATRONIGLUE WARNING - west: primary w1, 0 replicas, node_down w2: "},
		"":     {1, "PATRONIGLUE WARNING - west: primary w1, 0 replicas, node_down w2: "},
	} {
		harness.Eventually(t, harness.Soon, func() error {
			code, stdout, _ := p.Command(t, "status", "-nagios", "-cluster", name)
			return harness.Want(code == want.code && strings.HasPrefix(stdout, want.line) && strings.Contains(stdout, "main_") == (name != "west"), "%d and %s of status -cluster %s (got %d and %s)", want.code, want.line, name, code, stdout)
		})
	}
}
