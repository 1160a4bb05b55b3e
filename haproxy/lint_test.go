package haproxy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patroniglue/internal/config"
	"patroniglue/test/harness"
)

// TestHAProxyLint: want are the warnings without their reasons.
func TestHAProxyLint(t *testing.T) {
	const global = "global\n  hard-stop-after 10s\n"
	// The shortest section without a warning; lines 3 to 10.
	const clean = `listen rw
  tcp-request connection reject if { nbsrv gt 1 }
  option httpchk
  http-check send meth GET uri-lf /node/%[srv_name]/primary
  http-check expect status 200
  default-server disabled check agent-check agent-port 1 weight 100 on-marked-down shutdown-sessions
  server pg1 10.0.0.1:5432 agent-send "pg1/primary\n"
  server pg2 10.0.0.2:5432 agent-send "default/pg2/primary?lag=1MB\n"
`
	edit := func(oldNew ...string) string { return harness.Replace(t, global+clean, oldNew...) }
	tests := []struct {
		name, file string
		want       []string
	}{
		{"clean", global + clean, nil},
		{"comments and quotes", edit("default-server disabled", "default-server \"disabled\"# not agent-send 'x\n  default-server", "listen rw", "listen rw # \\"), nil},
		{"hard-stop-after", "\n# nothing\n" + clean, []string{"1: no hard-stop-after in global"}},
		{"hard-stop-after in a later global", clean + "global\n  daemon\n" + global, nil},
		{"check", edit("check agent-check", "agent-check"), []string{"8: pg1, pg2: agent-check without check"}},
		{"check is only an argument", edit("check agent-check", "cookie check agent-check"), []string{"8: pg1, pg2: agent-check without check"}},
		{"no-check on one server", edit("10.0.0.2:5432", "10.0.0.2:5432 no-check"), []string{"8: pg2: agent-check without check"}},
		{"agent-send without newline", edit(`"pg1/primary\n"`, `"pg1/primary"`), []string{"9: pg1: agent-send without a newline at its end"}},
		{"agent-send in single quotes", edit(`"pg1/primary\n"`, `'pg1/primary\n'`), []string{"9: pg1: agent-send in single quotes"}},
		{"agent-send without quotes", edit(`"pg1/primary\n"`, `pg1/primary\n`), nil},
		{"agent-send escaped twice", edit(`"pg1/primary\n"`, `"pg1/primary\\n"`), []string{"9: pg1: agent-send with an escaped backslash"}},
		{"agent-send of another node", edit(`"pg1/primary\n"`, `"pg2/primary\n"`), []string{`9: pg1: agent-send asks about node "pg2"`}},
		{"sessions", edit(" on-marked-down shutdown-sessions", ""), []string{"8: pg1, pg2: no on-marked-down shutdown-sessions"}},
		{"sessions without an agent", global + "listen ro\n  option httpchk GET /replica\n  http-check expect status 200\n  server pg1 10.0.0.1:5432 check\n", []string{"6: pg1: no on-marked-down shutdown-sessions"}},
		{"expect", edit("http-check expect status 200", "http-check expect status 200-399"), []string{"5: option httpchk without http-check expect status 200"}},
		{"expect not", edit("expect status 200", "expect ! status 200"), []string{"5: option httpchk without http-check expect status 200"}},
		{"expect twice", edit("http-check expect status 200", "http-check expect comment \"a b\" status 200\n  http-check expect ! string no"), nil},
		{"no weight", edit(" weight 100", ""), []string{"8: pg1, pg2: agent-check without weight 100"}},
		{"small weight", edit("weight 100", "weight 1"), []string{"8: pg1, pg2: agent-check with weight 1"}},
		{"large weight", edit("weight 100", "weight 200"), nil},
		{"names", edit("server pg2", "server pg22"), []string{`10: pg22: no node of the configuration has this name, did you mean "pg2"?`}},
		{"agent-port", edit("agent-port 1 ", ""), []string{"8: pg1, pg2: agent-check without agent-port"}},
		{"disabled", edit("disabled ", ""), []string{"8: pg1, pg2: agent-check without disabled"}},
		{"enabled", edit("10.0.0.2:5432", "10.0.0.2:5432 enabled"), []string{"8: pg2: agent-check without disabled"}},
		{"timeout check", edit("option httpchk", "option httpchk\n  timeout check 3s"), []string{"6: timeout check over inter"}},
		{"timeout check as long as inter", edit("option httpchk", "option httpchk\n  timeout check 2s"), nil},
		{"timeout check over the shortest inter", edit("option httpchk", "option httpchk\n  timeout check 2s", "10.0.0.2:5432", "10.0.0.2:5432 inter 1500"), []string{"6: timeout check over inter"}},
		{"timeout check of days", edit("option httpchk", "option httpchk\n  timeout check 1d"), []string{"6: timeout check over inter"}},
		{"guard", edit("  tcp-request connection reject if { nbsrv gt 1 }\n", ""), []string{"3: rw: no tcp-request connection reject if { nbsrv gt 1 }"}},
		{"guard in a frontend", "frontend f\n  tcp-request connection reject if { nbsrv(rw) gt 1 }\n  default_backend rw\n" +
			edit("  tcp-request connection reject if { nbsrv gt 1 }\n", "", "listen", "backend"), nil},
		{"reads need no guard", edit("  tcp-request connection reject if { nbsrv gt 1 }\n", "", "/primary", "/replica"), nil},
		{"balance static-rr", edit("option httpchk", "balance static-rr\n  option httpchk"), []string{"5: balance static-rr with agent-check"}},
		{"balance source", edit("option httpchk", "balance source\n  option httpchk"), []string{"5: balance source with agent-check"}},
		{"balance source, consistent", edit("option httpchk", "balance source\n  hash-type consistent\n  option httpchk"), nil},
		{"server-template", edit("server pg2 10.0.0.2:5432", "server-template pg 3 db.example:5432"), []string{"10: pg: server-template for writes"}},
		{"server-template for reads", edit("server pg2 10.0.0.2:5432", "server-template pg 3 db.example:5432", "/primary", "/replica"), nil},
		{"writes by the agent alone", edit("  option httpchk\n", "", "  http-check send meth GET uri-lf /node/%[srv_name]/primary\n", "", "  http-check expect status 200\n", "", "  tcp-request connection reject if { nbsrv gt 1 }\n", ""),
			[]string{"3: rw: no tcp-request connection reject if { nbsrv gt 1 }"}},
		{"defaults", "defaults\n  timeout check 5s\n  balance source\n  default-server weight 1\n  option httpchk\n" +
			edit("  option httpchk\n", "", " weight 100", ""), []string{
			"2: timeout check over inter", "3: balance source with agent-check", "4: pg1, pg2: agent-check with weight 1"}},
		{"defaults that another one ends", "defaults\n  timeout check 5s\ndefaults\n" + edit(), nil},
		{"defaults by name", "defaults a\n  timeout check 5s\ndefaults b from a\ndefaults\n" + edit("listen rw", "listen rw from b"), []string{"2: timeout check over inter"}},
		{"inherited rules end with a section's first", "defaults\n  http-check expect status 200\n" + edit("  http-check expect status 200\n", ""), []string{"7: option httpchk without http-check expect status 200"}},
		{"lines that go on", edit("check agent-check", "check \\\n  agent-check"), []string{"8: a backslash at the end of the line"}},
		{"other sections", edit() + "peers p\n  server x 1.1.1.1:1 agent-check\nbackend web\n  mode http\n  option httpchk\n  server w 1.1.1.1:80 check\nbackend plain\n  server x 1.1.1.1:1 check\nlisten off\n  disabled\n  option httpchk\n  server x 1.1.1.1:1 check\n", nil},
		{"switched off", "defaults\n  option httpchk\n" + edit("  option httpchk\n", "  no option httpchk\n", "check agent-check", "check"), nil},
		{"everything on one server", "listen rw\n  server pg1 10.0.0.1:5432 agent-check agent-send x\n", []string{
			"1: no hard-stop-after in global", "2: pg1: no on-marked-down shutdown-sessions", "2: pg1: agent-check without check", "2: pg1: agent-check without agent-port",
			"2: pg1: agent-check without disabled", "2: pg1: agent-check without weight 100", "2: pg1: agent-send without a newline at its end"}},
	}
	cfg, err := config.Parse("c.toml", []byte(harness.OneCluster), os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			warnings, _ := Lint(tt.file, cfg)
			var got []string
			for _, w := range warnings {
				line, _, _ := strings.Cut(fmt.Sprintf("%d: %s", w.Line, w), " (")
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings differ (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzLintHAProxy: whatever people have in their files, the linter ends and does not panic.
func FuzzLintHAProxy(f *testing.F) {
	f.Add("global\nlisten a\n option httpchk\n server x 1:1 check agent-check agent-send 'x\\n' \\\n")
	f.Add("defaults x from y\nlisten from z\n\"\\")
	f.Fuzz(func(t *testing.T, text string) { Lint(text, nil) })
}
