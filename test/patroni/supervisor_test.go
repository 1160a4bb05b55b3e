package patroni

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// supervisorRestarts: kill -9 of the program, twenty times, each followed by its
// start at once, as under systemd. No client notices.
func (e *behindHAProxy) supervisorRestarts(t *testing.T) {
	e.well(t)
	writes, reads := e.Writes(t), e.Reads(t)
	sessions := []*harness.Session{e.Open(t, e.Lab.Write), e.Open(t, e.Lab.Read)}
	haproxy := e.observe(t)
	var ready []time.Duration
	for range 20 {
		e.Program.Kill(t)
		begun := time.Now()
		e.Program.Restart(t)
		ready = append(ready, time.Since(begun))
		// At another moment between two checks of HAProxy each time.
		time.Sleep(500*time.Millisecond + rand.N(300*time.Millisecond))
	}
	slices.Sort(ready)
	t.Logf("ready again after %v (median), at most %v", ready[len(ready)/2].Round(time.Millisecond), ready[len(ready)-1].Round(time.Millisecond))
	for _, s := range sessions {
		s.IsAlive(t)
	}
	samples := haproxy.Stop()
	c := e.well(t)
	for server, want := range e.Normal(c) {
		if states := passedThrough(t, samples, server); !slices.Equal(states, []string{want}) {
			t.Errorf("HAProxy showed %s as %v, want %s throughout", server, states, want)
		}
	}
	for what, s := range map[string]harness.Story{"writes": harness.Tell(writes.Stop(), false), "reads": harness.Tell(reads.Stop(), true)} {
		harness.MisroutedNone(t, what, s)
		if len(s.Failed) > 0 {
			t.Errorf("%s failed: %v", what, s.Failed)
		}
	}
}

// supervisorDown: without the program HAProxy serves nobody rather than the
// wrong one, soon; and everybody soon after it is back.
func (e *behindHAProxy) supervisorDown(t *testing.T) {
	const stopLimit, backLimit = 2 * time.Second, time.Second
	var stopped, back []time.Duration
	for i := range 3 {
		c := e.well(t)
		writes, open := e.Writes(t), e.Open(t, e.Lab.Write)
		harness.ServedSince(t, 10*time.Second, writes, time.Now())
		killed := time.Now()
		e.Program.Kill(t)
		open.IsCut(t, 10*time.Second)
		last := killed
		for _, a := range writes.SoFar() {
			if a.Err == nil && a.Begun.After(last) {
				last = a.Begun
			}
		}
		stopped = append(stopped, max(last.Sub(killed), open.At.Sub(killed)))
		to := c.Primary
		if i == 0 { // the role moves while nobody tells HAProxy
			to = c.Replicas[0]
			if err := e.Lab.Switchover(t.Context(), to.Name); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for _, a := range writes.SoFar() {
			if a.Err == nil && a.Begun.After(open.At) {
				t.Errorf("written to %s %v after the program was killed, when sessions had been cut", a.Node, a.Begun.Sub(killed))
				break
			}
		}
		begun := time.Now()
		e.Program.Restart(t)
		a := harness.ServedSince(t, 15*time.Second, writes, begun)
		back = append(back, a.Ended.Sub(begun))
		if a.Node != to.Name {
			t.Errorf("written to %s, want to %s", a.Node, to.Name)
		}
		w := harness.Tell(writes.Stop(), false)
		harness.MisroutedNone(t, "writes", w)
		e.Kept(t, to, w)
	}
	t.Logf("writes and sessions ended %v after kill -9; served again %v after the start", stopped, back)
	// The median: the machine may be busy once.
	slices.Sort(stopped)
	slices.Sort(back)
	if stopped[1] > stopLimit {
		t.Errorf("writes stopped %v after kill -9 of the program, want at most %v (median)", stopped, stopLimit)
	}
	if back[1] > backLimit {
		t.Errorf("clients were served %v after the start of the program, want at most %v (median)", back, backLimit)
	}
}

// maintenance: what an operator takes out of service stays out, whatever the
// agent would say, until the operator gives it back.
func (e *behindHAProxy) maintenance(t *testing.T) {
	c := e.well(t)
	to := c.Replicas[0]
	server := lab.WriteBackend + "/" + to.Name
	order := func(command string) {
		t.Helper()
		if said, err := e.Lab.HAProxyCommand(t.Context(), command); err != nil || strings.TrimSpace(said) != "" {
			t.Fatalf("%s: %q, %v", command, said, err)
		}
	}
	haproxy, writes := e.observe(t), e.Writes(t)
	order("disable agent " + server)
	order("set server " + server + " state maint")
	if err := e.Lab.Switchover(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	e.Healthy(t)
	want := e.Normal(harness.HealthyCluster{Primary: to})
	want[server] = "MAINT"
	e.HAProxyShows(t, want)
	begun := time.Now()
	time.Sleep(2 * time.Second) // ten questions to the agent, had it not been disabled
	samples := haproxy.Stop()
	if states, want := passedThrough(t, samples, server), []string{"MAINT"}; !slices.Equal(states, want) {
		t.Errorf("HAProxy showed %s as %v, want %v: the operator said so", server, states, want)
	}
	if nodes := harness.ServedBy(writes.SoFar(), begun); len(nodes) > 0 {
		t.Errorf("written to %v, want to nobody: the operator took the primary out", nodes)
	}
	begun = time.Now()
	// No "state ready": that would put any server UP until its agent is heard.
	order("enable agent " + server)
	a := harness.ServedSince(t, 10*time.Second, writes, begun)
	t.Logf("served %v after it was given back", a.Ended.Sub(begun).Round(time.Millisecond))
	e.well(t)
	harness.MisroutedNone(t, "writes", harness.Tell(writes.Stop(), false))
}
