package program

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

func TestDaemonLog(t *testing.T) {
	for _, debug := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "debug"}[debug], func(t *testing.T) {
			sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
			var flags []string
			if debug {
				flags = append(flags, "-debug")
			}
			p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""), flags...)
			p.Log.Await(t, 1, "message", "cluster health is ok")

			before := p.Log.Lines()
			for i := range 200 {
				name := "pg" + strconv.Itoa(1+i%3)
				if i%2 == 0 {
					harness.Ask(t, nil, "OPTIONS", "http://"+p.HTTP+"/node/"+name+"/primary")
				} else {
					harness.AskAgent(t, p.Agents[0], name+"/replica\n")
				}
			}
			if added := p.Log.Lines()[len(before):]; !debug && len(added) > 0 {
				t.Errorf("200 checks made %d lines:\n%s", len(added), strings.Join(added, "\n"))
			}

			sim.Kill("pg3")
			down := []string{"node", "pg3", "change", "known", "after", "out", "level", "warn", "message", "node counts as down"}
			p.Log.Await(t, 1, down...)
			polls := sim.Node("pg1").Requests("/primary")
			harness.Eventually(t, harness.Soon, func() error {
				got := sim.Node("pg1").Requests("/primary") - polls
				return harness.Want(got > 10, "ten more polls (got %d)", got)
			})
			if n := len(p.Log.Lines(down...)); n != 1 {
				t.Errorf("a node's end is logged %d times", n)
			}
			failed := p.Log.Values("level", "node", "pg3", "message", "poll failed")
			if !debug && len(failed) != 1 || debug && len(failed) < 3 || failed[0] != "info" || slices.Contains(failed[1:], "info") {
				t.Errorf("failed polls are logged at %q, want info once, then at debug", failed)
			}

			sim.Switchover("pg2")
			p.Log.Await(t, 1, "message", "new leader", "after", "pg2")
			p.Log.Await(t, 1, "node", "pg1", "change", "role", "after", "replica")
			for _, fields := range [][]string{
				{"change", "leader", "after", "pg1"}, {"change", "leader", "after", "pg2"}, {"change", "role", "node", "pg2", "after", "primary"},
				{"change", "role", "node", "pg1", "after", "replica"}, {"change", "timeline", "node", "pg2", "after", "2"},
			} {
				if n := len(p.Log.Lines(fields...)); n != 1 {
					t.Errorf("%q is logged %d times, want once", fields, n)
				}
			}
		})
	}
}

// What was wrong before the start is no change; the log tells it all the same.
func TestDaemonLogBadStart(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	sim.Kill("pg1")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	if n := len(p.Log.Lines("message", "ready: every node was polled", "level", "error", "leader", "none", "health", "critical")); n != 1 {
		t.Errorf("no primary at start is logged %d times at error, want once", n)
	}
}

func TestDaemonQuiet(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	path := harness.WriteFile(t, "c.toml", fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n", harness.PortOf(harness.FreePort(t)))+harness.FastPolls+harness.NodesOf(sim, ""))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log harness.Log
	ended := make(chan int, 1)
	go func() { ended <- harness.Command(ctx, []string{"-quiet", "-config", path}, io.Discard, &log) }()
	harness.Eventually(t, harness.Soon, func() error {
		pg1, pg2 := sim.Node("pg1").Requests("/primary"), sim.Node("pg2").Requests("/primary")
		return harness.Want(pg1 > 3 && pg2 > 3, "some polls of both nodes (got %d, %d)", pg1, pg2)
	})
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if log.String() != "" {
		t.Errorf("with all well, -quiet logs\n%s", &log)
	}
}
