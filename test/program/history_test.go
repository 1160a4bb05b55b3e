package program

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"patroniglue/cluster"
	"patroniglue/test/harness"
)

func TestHistoryCommand(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	print := func(args ...string) []string {
		t.Helper()
		code, stdout, stderr := p.Command(t, append([]string{"history"}, args...)...)
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
	harness.Eventually(t, harness.Soon, func() error {
		lines := print()
		return harness.Want(has(lines, "- leader pg1 none .*"), "that there is no leader (got %q)", lines)
	})
	sim.Promote("pg2")
	harness.Eventually(t, harness.Soon, func() error {
		lines := print()
		return harness.Want(has(lines, `- leader none pg2 after [0-9.]+m?s without one`) && has(lines, `- primary none pg2 after [0-9.]+m?s without one`),
			"that pg2 leads and is primary (got %q)", lines)
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
		code, stdout, stderr := p.Command(t, "history", tt.flag, tt.value)
		if want := "patroniglue: asking for the history: " + tt.want + "\n"; code != 1 || stdout != "" || stderr != want {
			t.Errorf("%s %s: exit code %d, stdout %q, stderr %q, want 1 and %q", tt.flag, tt.value, code, stdout, stderr, want)
		}
	}
}

// A Patroni has a /history of its own, and no patroniglue's.
func TestHistoryOfAnother(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1")
	config := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", harness.PortOf(sim.Node("pg1").Addr())) + harness.NodesOf(sim, "")
	p := &harness.Program{Config: harness.WriteFile(t, "c.toml", config)}
	code, stdout, stderr := p.Command(t, "history")
	if code != 3 || stdout != "" || !regexp.MustCompile(`^patroniglue: asking the running daemon: .*/history\?limit=50: status code \d+: does another program answer there.*\n$`).MatchString(stderr) {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// The real daemon: over a restart, and over a rotation with SIGHUP.
func TestDaemonHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	sim := harness.NewSimulated(t, "pg1", "pg2")
	config := "[frontend]\n" + harness.AnyPort + harness.FastPolls + "[history]\nfile = '" + path + "'\n" + harness.NodesOf(sim, "")
	known := func(p *harness.Program) (h cluster.History) {
		t.Helper()
		_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/history")
		if err := json.Unmarshal([]byte(body), &h); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return h
	}
	end := func(p *harness.Program) {
		t.Helper()
		p.Signal(t, syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}

	p := harness.StartProcess(t, config, nil)
	before := known(p).Changes
	end(p)
	if got := harness.LinesOf(t, path); len(got) < len(before) {
		t.Errorf("the file has %d lines, /history had %d", len(got), len(before))
	}

	p = harness.StartProcess(t, config, nil)
	after := known(p).Changes
	if len(after) <= len(before) {
		t.Fatalf("%d changes after a restart, %d before", len(after), len(before))
	}
	harness.Same(t, after[:len(before)], before)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	p.Signal(t, syscall.SIGHUP)
	sim.Kill("pg2")
	harness.AwaitFile(t, path, `"node":"pg2","kind":"answering","before":"yes","after":"no"`)
	end(p)
	all := append(harness.LinesOf(t, path+".1"), harness.LinesOf(t, path)...)
	var last uint64
	for _, line := range all {
		var c cluster.Change
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.ID <= last {
			t.Errorf("after id %d: %s", last, fmt.Sprint(line, err))
		}
		last = c.ID
	}
}
