package program

import (
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/test/harness"
)

// Everybody is told the same.
func TestLeavingCommand(t *testing.T) {
	p, sim := harness.StartLeaving(t, "")
	// Everybody's answer whether pg1 is primary; the agent's whole.
	agrees := func(status int, agent, page string) bool {
		t.Helper()
		resp, _ := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg1/primary")
		_, shown := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/")
		_, table, _ := p.Command(t, "status")
		return resp.StatusCode == status && harness.AskAgent(t, p.Agents[0], "pg1/primary\n") == agent+"\n" && strings.Contains(shown, page) && strings.Contains(table, strings.ReplaceAll(page, "&#39;", "'"))
	}
	const isPrimary, leaves = "ready up 100% #primary", "maint down #leaving"

	began := time.Now()
	code, stdout, stderr := p.Command(t, "leaving", "pg1", "-for", "60s")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "pg1: about to stop, as announced: leads no more until ") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("leaving pg1: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if took := time.Since(began); took < 400*time.Millisecond { // and open sessions have ended
		t.Errorf("returned after %v, want after -wait", took)
	}
	if !agrees(503, leaves, "about to stop, as announced") {
		t.Error("not everybody is told that pg1 is leaving")
	}

	if code, stdout, stderr = p.Command(t, "leaving", "-cancel", "pg1"); code != 0 || stdout != "pg1: taken back\n" || stderr != "" {
		t.Errorf("leaving -cancel pg1: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if !agrees(200, isPrimary, "holds the leader lock") {
		t.Error("not everybody is told that pg1 is primary again")
	}
	if code, stdout, stderr = p.Command(t, "leaving", "pg1", "-cancel", "-cluster", "main"); code != 0 || stdout != "pg1: it was not leaving\n" || stderr != "" {
		t.Errorf("leaving -cancel pg1 again: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}

	if code, _, stderr = p.Command(t, "leaving", "pg1", "-for", "100ms", "-wait", "0s"); code != 0 {
		t.Errorf("leaving pg1 -for 100ms: exit code %d, stderr %q", code, stderr)
	}
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(agrees(200, isPrimary, "holds the leader lock"), "that everybody is told that the time is over")
	})

	if code, _, stderr = p.Command(t, "leaving", "pg1", "-wait", "0s"); code != 0 {
		t.Errorf("leaving pg1: exit code %d, stderr %q", code, stderr)
	}
	sim.Switchover("pg2")
	harness.Eventually(t, harness.Soon, func() error {
		got := p.LeavingRecords()
		return harness.Want(len(got) == 6, "six records of announcements (got %q)", got)
	})
	got := p.LeavingRecords()
	if last := got[5]; last != "no: it has stopped claiming" && last != "no: pg2 is elected" {
		t.Errorf("ended by a switchover: %q", last)
	}
	want := []string{"yes: about to stop, as announced", "no: taken back", "yes: about to stop, as announced", "no: the announced time is over", "yes: about to stop, as announced"}
	if !slices.Equal(got[:5], want) {
		t.Errorf("recorded %q, want %q", got, want)
	}

	p.AwaitStatus(t, "/node/pg2/primary", 200)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"leaving", "pg1"}, "patroniglue: announcing a stop: pg1: nothing to announce: pg2 leads, not pg1\n"},
		{[]string{"leaving", "pgX"}, "patroniglue: announcing a stop: http://" + p.HTTP + "/node/pgX/leaving?for=10s: status code 404: unknown node \"pgX\", want one of pg1, pg2\n"},
		{[]string{"leaving", "pg1", "-cluster", "x"}, "patroniglue: announcing a stop: http://" + p.HTTP + "/cluster/x/node/pg1/leaving?for=10s: status code 404: unknown cluster \"x\", want one of main\n"},
	} {
		if code, stdout, stderr := p.Command(t, test.args...); code != 1 || stdout != "" || stderr != test.want {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
	if strings.Contains(p.Log.String(), "secret") {
		t.Error("the token is in the log")
	}
}

func TestLeavingCommandTLS(t *testing.T) {
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	p, _ := harness.StartLeaving(t, ca.Pair("server"))
	if code, stdout, stderr := p.Command(t, "leaving", "pg1", "-wait", "0s"); code != 0 || !strings.HasPrefix(stdout, "pg1: about to stop") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// A token that is not the daemon's, and one who is not patroniglue.
func TestLeavingCommandRefused(t *testing.T) {
	p, sim := harness.StartLeaving(t, "")
	other := harness.WriteFile(t, "token", "other")
	text := "[frontend]\nhost = '127.0.0.1'\ntoken-file = '" + other + "'\nport = "
	for port, want := range map[string]string{
		harness.PortOf(p.HTTP):                 "status code 401: want the bearer token of token-file in [frontend]\n",
		harness.PortOf(sim.Node("pg1").Addr()): "does another program answer there, or a patroniglue with another version or configuration?\n",
	} {
		q := &harness.Program{Config: harness.WriteFile(t, "c.toml", text+port+"\n"+harness.NodesOf(sim, ""))}
		if code, stdout, stderr := q.Command(t, "leaving", "pg1"); code != 1 || stdout != "" || !strings.HasSuffix(stderr, want) {
			t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and %q", code, stdout, stderr, want)
		}
	}
	if resp, _ := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("primary: %s after a wrong token", resp.Status)
	}
}
