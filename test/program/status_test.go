package program

import (
	"strings"
	"testing"
	"unicode"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

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
		harness.Until(t, "status -cluster "+name+" says "+want.line, func() bool {
			code, stdout, _ := p.Command(t, "status", "-nagios", "-cluster", name)
			return code == want.code && strings.HasPrefix(stdout, want.line) && strings.Contains(stdout, "main_") == (name != "west")
		})
	}
}
