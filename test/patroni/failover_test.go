package patroni

import (
	"slices"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// switchoverUnderLoad: no write reaches a node that does not take it, none is
// lost, and sessions do not stay on the old primary.
func (e *behindHAProxy) switchoverUnderLoad(t *testing.T) {
	for i := range 2 {
		c := e.well(t)
		to := c.Replicas[i]
		writes, open := e.Writes(t), e.Open(t, e.Lab.Write)
		if err := e.Lab.Switchover(t.Context(), to.Name); err != nil {
			t.Fatal(err)
		}
		switched := time.Now()
		open.IsCut(t, 10*time.Second)
		if a := harness.ServedSince(t, 10*time.Second, writes, switched); a.Node != to.Name {
			t.Errorf("after the switchover from %s to %s %s was written to", c.Primary.Name, to.Name, a.Node)
		}
		w := harness.Tell(writes.Stop(), false)
		harness.MisroutedNone(t, "writes", w)
		if want := []string{c.Primary.Name, to.Name}; !slices.Equal(w.Nodes, want) {
			t.Errorf("written to %v, want %v", w.Nodes, want)
		}
		e.Kept(t, to, w)
	}
}

// postgresKilledUnderLoad: kill -9 of the primary's postmaster, while its
// Patroni goes on to say that it is primary.
func (e *behindHAProxy) postgresKilledUnderLoad(t *testing.T) {
	c := e.well(t)
	// Something to recover, or it is back before anybody has looked.
	if _, err := e.Lab.Query(t.Context(), c.Primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 30000)"); err != nil {
		t.Fatal(err)
	}
	e.well(t)
	writes, open, haproxy := e.Writes(t), e.Open(t, e.Lab.Write), e.observe(t)
	if err := e.Lab.KillPostgres(t.Context(), c.Primary.Name); err != nil {
		t.Fatal(err)
	}
	open.IsCut(t, 10*time.Second)
	back := harness.ServedSince(t, 60*time.Second, writes, open.At)
	after := e.well(t)
	samples := haproxy.Stop()
	server := lab.WriteBackend + "/" + c.Primary.Name
	states := passedThrough(t, samples, server)
	t.Logf("served again %v after the kill, by %s; HAProxy showed %s as %v", back.Ended.Sub(open.At).Round(10*time.Millisecond), back.Node, server, states)
	if len(states) == 1 {
		t.Errorf("HAProxy showed %s as %v, want that it was out of service for a time", server, states)
	}
	w := harness.Tell(writes.Stop(), false)
	harness.MisroutedNone(t, "writes", w)
	if after.Primary.Name == c.Primary.Name {
		e.Kept(t, after.Primary, w) // another one may lack the last rows: replication does not wait
	}
}

// frozen: a primary of which nothing was heard for our ttl goes out of service,
// with its sessions, though its PostgreSQL would still serve them.
func (e *behindHAProxy) frozen(t *testing.T) {
	c := e.well(t)
	server := lab.WriteBackend + "/" + c.Primary.Name
	writes, open, direct, haproxy := e.Writes(t), e.Open(t, e.Lab.Write), e.Open(t, c.Primary.SQL), e.observe(t)
	// Below Patroni's own ttl of 20 s even when its lock was about to be renewed (loop_wait 3 s).
	const freeze = 12 * time.Second
	begun := time.Now()
	if err := e.Lab.Freeze(t.Context(), c.Primary.Name, freeze); err != nil {
		t.Fatal(err)
	}
	open.IsCut(t, freeze)
	t.Logf("sessions were cut %v after the freeze", open.At.Sub(begun).Round(10*time.Millisecond))
	want := e.Normal(c)
	want[server], want[lab.ReadBackend+"/"+c.Primary.Name] = "DOWN", "DOWN"
	e.HAProxyShows(t, want)
	e.haproxySays(t, server, "stale: last answer")
	direct.IsAlive(t)
	if err := e.Lab.Thaw(t.Context(), c.Primary.Name); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	a := harness.ServedSince(t, 20*time.Second, writes, open.At)
	t.Logf("served again %v after the thaw", a.Ended.Sub(thawed).Round(10*time.Millisecond))
	after := e.well(t)
	if after.Primary.Name != c.Primary.Name {
		t.Errorf("primary after a freeze below Patroni's ttl: %s, want still %s", after.Primary.Name, c.Primary.Name)
	}
	if states, want := passedThrough(t, haproxy.Stop(), server), []string{"UP", "DOWN", "UP"}; !slices.Equal(states, want) {
		t.Errorf("HAProxy showed %s as %v, want %v", server, states, want)
	}
	w := harness.Tell(writes.Stop(), false)
	harness.MisroutedNone(t, "writes", w)
	e.Kept(t, c.Primary, w)
}

// frozenForGood: beyond Patroni's ttl there are two PostgreSQLs that take
// writes. Clients reach one of them at most, and nothing that was written is lost.
func (e *behindHAProxy) frozenForGood(t *testing.T) {
	c := e.well(t)
	writes, open := e.Writes(t), e.Open(t, e.Lab.Write)
	begun := time.Now()
	if err := e.Lab.Freeze(t.Context(), c.Primary.Name, 0); err != nil {
		t.Fatal(err)
	}
	open.IsCut(t, 15*time.Second)
	a := harness.ServedSince(t, 60*time.Second, writes, open.At)
	if a.Node == c.Primary.Name {
		t.Errorf("written to %s again, which is frozen", a.Node)
	}
	t.Logf("cut %v and served by %s %v after the freeze of %s", open.At.Sub(begun).Round(10*time.Millisecond),
		a.Node, a.Ended.Sub(begun).Round(10*time.Millisecond), c.Primary.Name)
	// The danger is real: the old one still takes writes.
	if old := e.Try(c.Primary.SQL, "insert into lab (said) values ('astray') returning inet_server_port()"); old.Err != nil || old.Standby {
		t.Errorf("writing to the old primary itself: %v, standby %t; want that it works", old.Err, old.Standby)
	}
	time.Sleep(2 * time.Second)
	w := harness.Tell(writes.Stop(), false)
	harness.MisroutedNone(t, "writes", w)
	if want := []string{c.Primary.Name, a.Node}; !slices.Equal(w.Nodes, want) {
		t.Errorf("written to %v, want %v", w.Nodes, want)
	}
	e.Kept(t, e.Lab.Node(a.Node), w)
	// Not thawed: Debian's Patroni might take the lock back (the lab's README).
	if err := e.Lab.CrashNode(t.Context(), c.Primary.Name); err != nil {
		t.Fatal(err)
	}
}
