package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/cluster"
)

func TestHistoryCommand(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2")
	p := startProgram(t, "c.toml", "[frontend]\n"+anyPort+fastPolls+nodesOf(sim, ""))
	print := func(args ...string) []string {
		t.Helper()
		code, stdout, stderr := p.run(t, append([]string{"history"}, args...)...)
		if code != 0 || stderr != "" {
			t.Fatalf("history %q: exit code %d, stderr %q", args, code, stderr)
		}
		return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	}
	fields := func(line string) string { return strings.Join(strings.Fields(line), " ") }
	const stamp = `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) main `
	has := func(lines []string, row string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return regexp.MustCompile(stamp + row + "$").MatchString(fields(line)) })
	}

	sim.Kill("pg1")
	until(t, "there is no leader", func() bool { return has(print(), "- leader pg1 none .*") })
	sim.Promote("pg2")
	until(t, "there is a leader again", func() bool {
		return has(print(), `- leader none pg2 after [0-9.]+m?s without one`) &&
			has(print(), `- primary none pg2 after [0-9.]+m?s without one`)
	})
	lines := print()
	if fields(lines[0]) != "TIME CLUSTER NODE CHANGE BEFORE AFTER WHY" {
		t.Errorf("the first line is %q", lines[0])
	}
	if !has(lines, "pg1 answering yes no polling .*") || !has(lines, "- leader none pg1 -") {
		t.Errorf("what happened is not in\n%s", strings.Join(lines, "\n"))
	}
	for _, line := range print("-node", "pg2")[1:] {
		if !regexp.MustCompile(stamp + "pg2 ").MatchString(fields(line)) {
			t.Errorf("-node pg2 gives %q", line)
		}
	}
	if got := print("-limit", "2"); len(got) != 4 || got[0] != "... there were more before" {
		t.Errorf("-limit 2 gives %q", got)
	}
	if got := print("-since", "2999-01-02T15:04:05+01:00"); len(got) != 1 || got[0] != "nothing changed" {
		t.Errorf("-since the future gives %q", got)
	}
	first, _, _ := strings.Cut(lines[1], " ")
	if got := print("-since", first, "-cluster", "main", "-limit", "1000"); len(got) < len(lines) {
		t.Errorf("since the first change's time there are %d lines, all are %d", len(got), len(lines))
	}
	var h cluster.History
	if err := json.Unmarshal([]byte(strings.Join(print("-json", "-since", "1h"), "\n")), &h); err != nil || len(h.Changes) < len(lines)-1 {
		t.Errorf("-json: %d changes, %v", len(h.Changes), err)
	}
	for _, tt := range []struct{ flag, value, want string }{
		{"-node", "pg3", `unknown node "pg3", want one of pg1, pg2`},
		{"-limit", "0", `parameter limit: want a whole number, at least 1 (got "0")`},
		{"-since", "noon", `parameter since: want a duration back from now such as 1h, or a time such as 2026-01-02T15:04:05Z (got "noon")`},
	} {
		code, stdout, stderr := p.run(t, "history", tt.flag, tt.value)
		if want := "patroniglue: asking for the history: " + tt.want + "\n"; code != 1 || stdout != "" || stderr != want {
			t.Errorf("%s %s: exit code %d, stdout %q, stderr %q, want 1 and %q", tt.flag, tt.value, code, stdout, stderr, want)
		}
	}
}

// A program on our port that says what it likes.
func TestHistoryIsPrintable(t *testing.T) {
	var out strings.Builder
	if err := printHistory(&out, cluster.History{Changes: []cluster.Change{{Cluster: "ma\tin", Kind: "state", Before: "\x1b[2J", After: "a\nb", Reason: "\u009b1m"}}}); err != nil {
		t.Fatal(err)
	}
	row := strings.Split(out.String(), "\n")[1]
	if want := "ma\ufffdin - state \ufffd[2J a\ufffdb \ufffd1m"; !strings.HasSuffix(strings.Join(strings.Fields(row), " "), want) {
		t.Errorf("the row is %q, want %q at its end", row, want)
	}
}

// A Patroni has a /history of its own, and no patroniglue's.
func TestHistoryOfAnother(t *testing.T) {
	sim := newSimulated(t, "pg1")
	config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", portOf(sim.Node("pg1").Addr())) + nodesOf(sim, "")
	p := &program{config: writeFile(t, "c.toml", config)}
	code, stdout, stderr := p.run(t, "history")
	if code != 3 || stdout != "" || !regexp.MustCompile(`^patroniglue: asking the running daemon: .*/history\?limit=50: status code \d+: does another program answer there.*\n$`).MatchString(stderr) {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
