package patroni

import (
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// replicaCrashed: a fault shows as DOWN in both backends. MAINT, that is "this
// is as it should be", it is called only as it should be.
func (e *behindHAProxy) replicaCrashed(t *testing.T) {
	c := e.well(t)
	crashed, other := c.Replicas[0], c.Replicas[1]
	write, read := lab.WriteBackend+"/"+crashed.Name, lab.ReadBackend+"/"+crashed.Name
	writes, reads, open, haproxy := e.Writes(t), e.Reads(t), e.OpenOn(t, e.Lab.Read, crashed.Name), e.observe(t)
	if err := e.Lab.CrashNode(t.Context(), crashed.Name); err != nil {
		t.Fatal(err)
	}
	gone := time.Now()
	open.IsCut(t, 10*time.Second)
	want := e.Normal(c)
	want[write], want[read] = "DOWN", "DOWN"
	e.HAProxyShows(t, want)
	t.Logf("DOWN in both backends after %v", time.Since(gone).Round(10*time.Millisecond))
	time.Sleep(3 * time.Second) // and so it stays, at every look
	samples := haproxy.Stop()
	for server, want := range map[string][]string{write: {"MAINT", "DOWN"}, read: {"UP", "DOWN"}} {
		if states := passedThrough(t, samples, server); !slices.Equal(states, want) {
			t.Errorf("HAProxy showed %s as %v, want %v", server, states, want)
		}
		e.haproxySays(t, server, "not answering")
	}
	begun := time.Now()
	if a := harness.ServedSince(t, 10*time.Second, reads, begun); a.Node != other.Name {
		t.Errorf("read from %s, want from %s", a.Node, other.Name)
	}
	if err := e.Lab.StartNode(t.Context(), crashed.Name); err != nil {
		t.Fatal(err)
	}
	e.well(t)
	w := harness.Tell(writes.Stop(), false)
	harness.MisroutedNone(t, "writes", w)
	if len(w.Failed) > 0 {
		t.Errorf("writes failed because of a replica: %v", w.Failed)
	}
	harness.MisroutedNone(t, "reads", harness.Tell(reads.Stop(), true))
}

// replicaLags: a replica that lags gets no new sessions, its open ones go on,
// and it comes back.
func (e *behindHAProxy) replicaLags(t *testing.T) {
	c := e.well(t)
	lags, other := c.Replicas[0], c.Replicas[1]
	server := lab.ReadBackend + "/" + lags.Name
	reads, open, haproxy := e.Reads(t), e.OpenOn(t, e.Lab.Read, lags.Name), e.observe(t)
	resume := e.pauseReplay(t, lags)
	if _, err := e.Lab.Query(t.Context(), c.Primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 80000)"); err != nil {
		t.Fatal(err)
	}
	want := e.Normal(c)
	want[server] = "DRAIN"
	e.HAProxyShows(t, want)
	drained := time.Now()
	time.Sleep(3 * time.Second) // HAProxy's own checks take two seconds to end it
	samples := haproxy.Stop()
	if states, want := passedThrough(t, samples, server), []string{"UP", "DRAIN"}; !slices.Equal(states, want) {
		t.Errorf("HAProxy showed %s as %v, want %v", server, states, want)
	}
	e.haproxySays(t, server, "over 64 MB")
	open.IsAlive(t)
	if nodes := harness.ServedBy(reads.SoFar(), drained); !slices.Equal(nodes, []string{other.Name}) {
		t.Errorf("while %s was drained clients read from %v, want from %s", lags.Name, nodes, other.Name)
	}
	resume()
	e.well(t)
	e.OpenOn(t, e.Lab.Read, lags.Name) // new sessions get there again
	open.IsAlive(t)
	r := harness.Tell(reads.Stop(), true)
	harness.MisroutedNone(t, "reads", r)
	if len(r.Failed) > 0 {
		t.Errorf("reads failed because of a replica's lag: %v", r.Failed)
	}
}

// pauseReplay stops the process that replays what a replica receives, until
// resume or the end of the test. pg_wal_replay_pause would not last: Patroni
// resumes that in its next HA loop.
func (e suite) pauseReplay(t *testing.T, n lab.Node) (resume func()) {
	t.Helper()
	// As a superuser: others are not told of it.
	conn, err := harness.Connect(t.Context(), n.SQL, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	text, err := harness.Value(t.Context(), conn, "select pid from pg_stat_activity where backend_type = 'startup'")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume = sync.OnceFunc(func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(resume)
	return resume
}
