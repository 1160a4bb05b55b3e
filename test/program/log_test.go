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
			harness.Until(t, "health is ok", func() bool { return len(p.Log.Lines("message", "cluster health is ok")) == 1 })

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
			harness.Until(t, "pg3 counts as down", func() bool { return len(p.Log.Lines(down...)) > 0 })
			polls := sim.Node("pg1").Requests("/primary")
			harness.Until(t, "ten polls", func() bool { return sim.Node("pg1").Requests("/primary") > polls+10 })
			if n := len(p.Log.Lines(down...)); n != 1 {
				t.Errorf("a node's end is logged %d times", n)
			}
			failed := p.Log.Values("level", "node", "pg3", "message", "poll failed")
			if !debug && len(failed) != 1 || debug && len(failed) < 3 || failed[0] != "info" || slices.Contains(failed[1:], "info") {
				t.Errorf("failed polls are logged at %q, want info once, then at debug", failed)
			}

			sim.Switchover("pg2")
			harness.Until(t, "a new leader", func() bool { return len(p.Log.Lines("message", "new leader", "after", "pg2")) > 0 })
			harness.Until(t, "pg1 is a replica", func() bool { return len(p.Log.Lines("node", "pg1", "change", "role", "after", "replica")) > 0 })
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
	harness.Until(t, "both are polled", func() bool {
		return sim.Node("pg1").Requests("/primary") > 3 && sim.Node("pg2").Requests("/primary") > 3
	})
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if log.String() != "" {
		t.Errorf("with all well, -quiet logs\n%s", &log)
	}
}
