package page

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/cluster/clustertest"
)

// supervise runs a supervisor of nodes until the test ends; only within a bubble. One of
// them is the primary.
func supervise(t testing.TB, primary string, names ...string) (*cluster.Supervisor, map[string]*clustertest.Poller) {
	c := cluster.ClusterConfig{Name: "main"}
	nodes := map[string]*clustertest.Poller{}
	for _, name := range names {
		script := clustertest.Replica(1)
		if name == primary {
			script = clustertest.Primary(1)
		}
		n := clustertest.New(t, name, script.WithDelay(0)) // the tests name moments to the millisecond
		nodes[name] = n
		c.Nodes = append(c.Nodes, cluster.NodeConfig{Name: name, Client: n, Fall: 3, Interval: time.Second, PrimaryInterval: 250 * time.Millisecond, FastInterval: 100 * time.Millisecond})
	}
	sup := cluster.New(cluster.Config{TTL: 5 * time.Second, Clusters: []cluster.ClusterConfig{c}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sup.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	time.Sleep(3 * time.Second)
	synctest.Wait()
	return sup, nodes
}

// present returns a view in which that node is primary; "" = none.
func present(t testing.TB, primary string) *cluster.View {
	sup, _ := supervise(t, primary, "pg1", "pg2", "pg3")
	return sup.Views()[0]
}

// at makes changes from lines: how long ago, before, after, as in "-20h pg1 none". The
// first word may be "restart" for the first change of a run, "split" or "watching" for a
// change of that kind, or "other" for a change of another cluster.
func at(t testing.TB, now time.Time, lines ...string) []cluster.Change {
	t.Helper()
	var changes []cluster.Change
	id := uint64(1000)
	var lost time.Time
	for _, line := range lines {
		c := cluster.Change{Cluster: "main", Kind: cluster.KindPrimary}
		f := strings.Fields(line)
		switch f[0] {
		case "restart":
			id, lost = id+1e6, time.Time{}
			f = f[1:]
		}
		switch f[0] {
		case "split":
			c.Kind = cluster.KindSplit
			f = f[1:]
		case "watching":
			c.Kind = cluster.KindWatching
			f = f[1:]
		case "other":
			c.Cluster = "other"
			f = f[1:]
		}
		ago, err := time.ParseDuration(f[0])
		if err != nil || len(f) < 3 {
			t.Fatalf("%q: %v", line, err)
		}
		id++
		c.ID, c.At, c.Before, c.After, c.Reason = id, now.Add(ago), f[1], f[2], strings.Join(f[3:], " ")
		if c.Kind == cluster.KindPrimary && c.Cluster == "main" {
			if !lost.IsZero() {
				c.Gap = c.At.Sub(lost).Seconds()
				if d, err := time.ParseDuration(c.Reason); err == nil { // the clock says something else
					c.Gap = d.Seconds()
				}
			}
			lost = time.Time{}
			if c.After == "none" {
				lost = c.At
			}
		}
		changes = append(changes, c)
	}
	return changes
}

// texts writes intervals, the oldest first.
func texts(intervals []interval, now time.Time) []string {
	var out []string
	for _, i := range slices.Backward(intervals) {
		ago := func(t time.Time) string { return "-" + now.Sub(t).Round(time.Millisecond).String() }
		text := fmt.Sprintf("%s %s %s: %s", ago(i.From), ago(i.To), strings.TrimSpace(i.Kind+" "+i.Node), i.Length())
		if i.Reason != "" {
			text += ", " + i.Reason
		}
		out = append(out, text)
	}
	return out
}

func TestTimelineIntervals(t *testing.T) {
	for _, tt := range []struct {
		name, primary string
		changes, want []string
		summary       string
	}{
		{"nothing is kept", "", nil, []string{"-24h0m0s -2.997s unknown: 23 h 59 min", "-2.997s -0s none: 2.9 s so far"}, // since all were polled
			"Primary of main in the last 24 h: now none, for 2.9 s so far; 0 changes; 2.9 s without a primary; not watched for 23 h 59 min"},
		{"a failover", "pg2", []string{"-30h none pg1", "-20h pg1 none pg1: stopping", "-19h59m55.8s none pg2"},
			[]string{"-30h0m0s -20h0m0s primary pg1: 10 h", "-20h0m0s -19h59m55.8s none: 4.2 s, pg1: stopping", "-19h59m55.8s -0s primary pg2: 19 h 59 min so far"},
			"Primary of main in the last 24 h: now pg2, for 19 h 59 min so far; 1 change; 4.2 s without a primary"},
		{"at once", "pg2", []string{"-3h none pg1", "-2h pg1 pg2"},
			[]string{"-24h0m0s -3h0m0s unknown: 21 h", "-3h0m0s -2h0m0s primary pg1: 1 h", "-2h0m0s -0s primary pg2: 2 h so far"},
			"Primary of main in the last 24 h: now pg2, for 2 h so far; 1 change; not watched for 21 h"},
		{"it comes back: no other primary", "pg1", []string{"-25h none pg1", "-2h pg1 none", "-1h58m none pg1", "-10m pg1 none", "-9m50s none pg1"},
			[]string{"-25h0m0s -2h0m0s primary pg1: 23 h", "-2h0m0s -1h58m0s none: 2 min", "-1h58m0s -10m0s primary pg1: 1 h 48 min", "-10m0s -9m50s none: 10 s", "-9m50s -0s primary pg1: 9 min 50 s so far"},
			"Primary of main in the last 24 h: now pg1, for 9 min 50 s so far; 0 changes; 2 times without a primary, longest 2 min, together 2 min 10 s"},

		// While the supervisor did not run there is neither a primary nor a gap.
		{"a restart", "pg1", []string{"-25h none pg1", "other -5h none x", "restart -1h none pg1"},
			[]string{"-25h0m0s -5h0m0s primary pg1: at least 20 h", "-5h0m0s -1h0m0s unknown: 4 h", "-1h0m0s -0s primary pg1: 1 h so far"},
			"Primary of main in the last 24 h: now pg1, for 1 h so far; 0 changes; not watched for 4 h"},
		{"a restart while there is none", "pg2", []string{"-25h none pg1", "-5h pg1 none", "other -4h none x", "restart -1h none pg2"},
			[]string{"-25h0m0s -5h0m0s primary pg1: 20 h", "-5h0m0s -4h0m0s none: at least 1 h", "-4h0m0s -1h0m0s unknown: 3 h", "-1h0m0s -0s primary pg2: 1 h so far"},
			"Primary of main in the last 24 h: now pg2, for 1 h so far; 1 change; 1 h without a primary; not watched for 3 h"},
		{"a restart right after a change", "pg2", []string{"-25h none pg1", "restart -1h none pg2"},
			[]string{"-25h0m0s -1h0m0s unknown: 24 h", "-1h0m0s -0s primary pg2: 1 h so far"},
			"Primary of main in the last 24 h: now pg2, for 1 h so far; 0 changes; not watched for 23 h"},
		{"a restart, and none since", "", []string{"-5h none pg1", "other -4h none x", "restart other -1h none x"},
			[]string{"-24h0m0s -5h0m0s unknown: 19 h", "-5h0m0s -4h0m0s primary pg1: at least 1 h", "-4h0m0s -2.997s unknown: 3 h 59 min", "-2.997s -0s none: 2.9 s so far"},
			"Primary of main in the last 24 h: now none, for 2.9 s so far; 0 changes; 2.9 s without a primary; not watched for 22 h 59 min"},
		{"a restart of a supervisor whose clock had been set back", "pg1", []string{"-25h none pg1", "other -5h none x", "-1h none pg1"},
			[]string{"-25h0m0s -5h0m0s primary pg1: at least 20 h", "-5h0m0s -1h0m0s unknown: 4 h", "-1h0m0s -0s primary pg1: 1 h so far"},
			"Primary of main in the last 24 h: now pg1, for 1 h so far; 0 changes; not watched for 4 h"},

		{"a configuration that had not the cluster for an hour", "pg1", []string{"-25h none pg1", "watching -3h yes no", "other -150m none x", "-2h none pg1"},
			[]string{"-25h0m0s -3h0m0s primary pg1: at least 22 h", "-3h0m0s -2h0m0s unknown: 1 h", "-2h0m0s -0s primary pg1: 2 h so far"},
			"Primary of main in the last 24 h: now pg1, for 2 h so far; 0 changes; not watched for 1 h"},

		// When older changes are dropped, later ones say how it was before.
		{"the first change is not kept", "pg2", []string{"other -9h none x", "-5h pg1 pg2"},
			[]string{"-24h0m0s -9h0m0s unknown: 15 h", "-9h0m0s -5h0m0s primary pg1: at least 4 h", "-5h0m0s -0s primary pg2: 5 h so far"},
			"Primary of main in the last 24 h: now pg2, for 5 h so far; 1 change; not watched for 15 h"},
		{"no change is kept", "pg2", []string{"other -9h none x"},
			[]string{"-24h0m0s -3s unknown: 23 h 59 min", "-3s -0s primary pg2: at least 3.0 s so far"},
			"Primary of main in the last 24 h: now pg2, for at least 3.0 s so far; 0 changes; not watched for 23 h 59 min"},

		{"split brain", "pg1", []string{"-25h none pg1", "split -3h no yes both claim", "split -2h59m yes no", "split -2h no yes", "restart -1h none pg1"},
			[]string{"-25h0m0s -2h0m0s primary pg1: at least 23 h", "-3h0m0s -2h59m0s split: 1 min, both claim", "-2h0m0s -1h0m0s unknown: 1 h", "-2h0m0s -2h0m0s split: length unknown", "-1h0m0s -0s primary pg1: 1 h so far"},
			"Primary of main in the last 24 h: now pg1, for 1 h so far; 0 changes; not watched for 1 h; 2 split brains"},
		{"a clock that was set back during a gap", "pg1", []string{"-25h none pg1", "-3h pg1 none", "-4h none pg2 5s", "-2h pg2 pg1"},
			[]string{"-25h0m0s -3h0m0s primary pg1: 22 h", "-3h0m0s -2h59m55s none: 5.0 s", "-2h59m55s -2h0m0s primary pg2: 59 min 55 s, 5s", "-2h0m0s -0s primary pg1: 2 h so far"},
			"Primary of main in the last 24 h: now pg1, for 2 h so far; 2 changes; 5.0 s without a primary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := present(t, tt.primary)
				now := time.Now()
				got := timelineOf(at(t, now, tt.changes...), v, now.Add(-24*time.Hour), now)
				if texts := texts(got.Intervals, now); !slices.Equal(texts, tt.want) {
					t.Errorf("intervals\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(tt.want, "\n"))
				}
				if got.Summary != tt.summary {
					t.Errorf("summary %q\nwant    %q", got.Summary, tt.summary)
				}
			})
		})
	}
}

// The timeline agrees with what happened to a real supervisor.
func TestTimelineOfASupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sup, nodes := supervise(t, "pg1", "pg1", "pg2")
		time.Sleep(time.Minute)
		nodes["pg1"].Set(clustertest.Replica(1).WithDelay(0))
		time.Sleep(7 * time.Second)
		nodes["pg2"].Set(clustertest.Primary(1).WithDelay(0))
		time.Sleep(time.Minute)
		current := func() (timeline, []cluster.Change) {
			changes, _, _ := sup.After(0)
			return timelineOf(changes, sup.Views()[0], time.Now().Add(-time.Hour), time.Now()), changes
		}
		kinds := func(tl timeline) string {
			var all []string
			for _, i := range slices.Backward(tl.Intervals) {
				all = append(all, strings.TrimSpace(i.Kind+" "+i.Node))
			}
			return strings.Join(all, ", ")
		}
		got, changes := current()
		if want := "unknown, primary pg1, none, primary pg2"; kinds(got) != want {
			t.Fatalf("%s, want %s", kinds(got), want)
		}
		gap := got.Intervals[1]
		last := changes[slices.IndexFunc(changes, func(c cluster.Change) bool { return c.Kind == cluster.KindPrimary && c.After == "pg2" })]
		if d := gap.To.Sub(gap.From).Round(time.Millisecond); d.Seconds() != last.Gap || d < 6*time.Second || gap.Reason == "" {
			t.Errorf("the gap %+v is %s, want %g s and why", gap, d, last.Gap)
		}
		nodes["pg2"].Set(clustertest.Refuses())
		time.Sleep(8 * time.Second)
		got, _ = current()
		if want := "unknown, primary pg1, none, primary pg2, none"; kinds(got) != want || !got.Intervals[0].Open {
			t.Errorf("when it is down: %s, want %s", kinds(got), want)
		}
	})
}

// No poll ended for longer than the TTL, so there is no change that says that no node passes.
func TestTimelineOfAPrimaryThatIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := present(t, "pg1")
		m := v.Member("pg1")
		time.Sleep(time.Until(m.Entry.Began.Add(8 * time.Second)))
		now := time.Now()
		got := timelineOf(at(t, now, "-2h none pg1"), v, now.Add(-time.Hour), now)
		want := []string{"-2h0m0s -3s primary pg1: 1 h 59 min", "-3s -0s none: 3.0 s so far, stale: last answer 8.0s ago, ttl 5s"}
		if texts := texts(got.Intervals, now); !slices.Equal(texts, want) {
			t.Errorf("%q, want %q", texts, want)
		}
	})
}

func TestTimelineListIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, now := present(t, "pg1"), time.Now()
		var lines []string
		for i := range 500 {
			lines = append(lines, fmt.Sprintf("-%ds pg%d pg%d", 2*(500-i), 1+i%2, 1+(i+1)%2))
		}
		got := timelineOf(at(t, now, lines...), v, now.Add(-time.Hour), now)
		if n := len(got.Intervals); n != maxIntervals || got.More != 402 || !got.Intervals[0].Open {
			t.Errorf("%d intervals, the newest %+v, and %d more; want 100 and 402", n, got.Intervals[0], got.More)
		}
		if want := "500 changes"; !strings.Contains(got.Summary, want) {
			t.Errorf("summary %q, want %q", got.Summary, want)
		}
	})
}
