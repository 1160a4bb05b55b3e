package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/node/nodetest"
)

// TestBehindHAProxy is what applications see of a real cluster through the real
// HAProxy with the configuration that we print, while one part after the other
// fails. The program runs in a process of its own, to be killed. Each subtest
// begins when everything is well; the last one leaves a cluster of two.
func TestBehindHAProxy(t *testing.T) {
	begun := time.Now()
	e := startBehindHAProxy(t)
	t.Logf("cluster, program and HAProxy are up after %v", time.Since(begun).Round(time.Second))
	t.Run("HAProxy starts and reloads", e.haproxyStarts)
	t.Run("switchover", e.switchoverUnderLoad)
	t.Run("page", e.page)
	t.Run("PostgreSQL killed", e.postgresKilledUnderLoad)
	t.Run("replica crashed", e.replicaCrashed)
	t.Run("replica lags", e.replicaLags)
	t.Run("supervisor restarts", e.supervisorRestarts)
	t.Run("supervisor down", e.supervisorDown)
	t.Run("maintenance", e.maintenance)
	t.Run("Patroni frozen beyond our ttl", e.frozen)
	t.Run("Patroni frozen beyond its own ttl", e.frozenForGood)
}

// behindHAProxy is an endToEnd whose program can be killed.
type behindHAProxy struct {
	suite
	program *process
}

func startBehindHAProxy(t *testing.T) *behindHAProxy {
	t.Helper()
	program := builtBinary(t)
	l := startLab(t, lab.Options{Parts: []string{lab.ETCD, lab.Patroni}, Program: program})
	config, err := os.OpenFile(l.Config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.WriteString("\n[checks]\nmax-lag = \"64MB\"\nlag-hold = \"1s\"\n")
	if err := errors.Join(err, config.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		text, err := os.ReadFile(filepath.Join(l.Dir, "log", "haproxy.log"))
		t.Logf("HAProxy's log (%v):\n%s", err, text)
	})
	e := &behindHAProxy{suite: suite{&endToEnd{lab: l, log: new(logLines)}}}
	e.program = startProcess(t, e.log, program, "-config", l.Config)
	eventually(t, 15*time.Second, e.ready)
	if err := l.Run(t.Context(), "haproxy", "start"); err != nil {
		t.Fatal(err)
	}
	return e
}

// well waits until the cluster is healthy and HAProxy shows it.
func (e *behindHAProxy) well(t *testing.T) healthyCluster {
	t.Helper()
	c := e.healthy(t)
	e.haproxyShows(t, e.normal(c))
	return c
}

// shown is what HAProxy shows at a moment.
type shown struct {
	at      time.Time
	servers map[string]lab.Server // by backend/name
	err     error
}

// observe looks at HAProxy all the time.
func (e *behindHAProxy) observe(t *testing.T) *recorder[shown] {
	return record(t, 1, 20*time.Millisecond, func() shown {
		s := shown{at: time.Now(), servers: make(map[string]lab.Server)}
		var servers []lab.Server
		servers, s.err = e.lab.HAProxyStat(context.Background())
		for _, server := range servers {
			s.servers[server.Backend+"/"+server.Name] = server
		}
		return s
	})
}

// passedThrough gives the states of a server, each once in a row.
func passedThrough(t *testing.T, samples []shown, server string) (states []string) {
	t.Helper()
	for _, s := range samples {
		if s.err != nil {
			t.Errorf("at %s: %v", s.at.Format(clock), s.err)
			continue
		}
		word, _, _ := strings.Cut(s.servers[server].Status, " ")
		if len(states) == 0 || states[len(states)-1] != word {
			states = append(states, word)
		}
	}
	return states
}

// haproxySays waits until HAProxy has heard a reason from the agent: while it
// asks again it shows none.
func (e *behindHAProxy) haproxySays(t *testing.T, server, reason string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		servers, err := e.lab.HAProxyStat(t.Context())
		if err != nil {
			return err
		}
		for _, s := range servers {
			if s.Backend+"/"+s.Name == server && !strings.Contains(s.Last, reason) {
				return fmt.Errorf("HAProxy says of %s %q, want %q", server, s.Last, reason)
			}
		}
		return nil
	})
}

// haproxyStarts: cold starts and reloads, while clients knock all the time.
func (e *behindHAProxy) haproxyStarts(t *testing.T) {
	c := e.well(t)
	if c.primary.Name == "pg1" {
		// A wrong configuration that sends everything to the first server must not be right by chance.
		if err := e.lab.Switchover(t.Context(), "pg3"); err != nil {
			t.Fatal(err)
		}
		c = e.well(t)
	}
	writes, reads := e.writes(t), e.reads(t)
	for range 3 {
		if err := e.lab.Run(t.Context(), "haproxy", "stop"); err != nil {
			t.Fatal(err)
		}
		e.begin(t, c, writes, reads, "start")
	}
	for range 3 {
		e.begin(t, c, writes, reads, "reload")
	}
	w := tell(writes.stop(), false)
	misroutedNone(t, "writes", w)
	misroutedNone(t, "reads", tell(reads.stop(), true))
	e.kept(t, c.primary, w)
}

// begin starts or reloads HAProxy, waits until clients are served and looks
// whom that HAProxy has sent any to.
func (e *behindHAProxy) begin(t *testing.T, c healthyCluster, writes, reads *recorder[attempt], command string) {
	t.Helper()
	// What is wrong at the beginning is wrong for some milliseconds only.
	crowd := []*recorder[error]{
		record(t, 4, 4*time.Millisecond, func() error { return knock(e.lab.Write) }),
		record(t, 4, 4*time.Millisecond, func() error { return knock(e.lab.Read) }),
	}
	begun := time.Now()
	if err := e.lab.Run(t.Context(), "haproxy", command); err != nil {
		t.Fatal(err)
	}
	up := time.Now() // until then a reload may leave clients to the old process
	w, r := servedSince(t, 10*time.Second, writes, up), servedSince(t, 10*time.Second, reads, up)
	for _, c := range crowd {
		c.stop()
	}
	t.Logf("%s took %v, then writes were served within %v, reads within %v", command,
		up.Sub(begun).Round(time.Millisecond), w.ended.Sub(up).Round(time.Millisecond), r.ended.Sub(up).Round(time.Millisecond))
	e.haproxyShows(t, e.normal(c))
	servers, err := e.lab.HAProxyStat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		right := s.Backend == lab.WriteBackend && s.Name == c.primary.Name || s.Backend == lab.ReadBackend && s.Name != c.primary.Name
		if right != (s.Total > 0) {
			t.Errorf("after %s HAProxy has sent %d connections to %s/%s, while %s was the primary", command, s.Total, s.Backend, s.Name, c.primary.Name)
		}
	}
}

// switchoverUnderLoad: no write reaches a node that does not take it, none is
// lost, and sessions do not stay on the old primary.
func (e *behindHAProxy) switchoverUnderLoad(t *testing.T) {
	for i := range 2 {
		c := e.well(t)
		to := c.replicas[i]
		writes, open := e.writes(t), e.open(t, e.lab.Write)
		if err := e.lab.Switchover(t.Context(), to.Name); err != nil {
			t.Fatal(err)
		}
		switched := time.Now()
		open.isCut(t, 10*time.Second)
		if a := servedSince(t, 10*time.Second, writes, switched); a.node != to.Name {
			t.Errorf("after the switchover from %s to %s %s was written to", c.primary.Name, to.Name, a.node)
		}
		w := tell(writes.stop(), false)
		misroutedNone(t, "writes", w)
		if want := []string{c.primary.Name, to.Name}; !slices.Equal(w.nodes, want) {
			t.Errorf("written to %v, want %v", w.nodes, want)
		}
		e.kept(t, to, w)
	}
}

// postgresKilledUnderLoad: kill -9 of the primary's postmaster, while its
// Patroni goes on to say that it is primary.
func (e *behindHAProxy) postgresKilledUnderLoad(t *testing.T) {
	c := e.well(t)
	// Something to recover, or it is back before anybody has looked.
	if _, err := e.lab.Query(t.Context(), c.primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 30000)"); err != nil {
		t.Fatal(err)
	}
	e.well(t)
	writes, open, haproxy := e.writes(t), e.open(t, e.lab.Write), e.observe(t)
	if err := e.lab.KillPostgres(t.Context(), c.primary.Name); err != nil {
		t.Fatal(err)
	}
	open.isCut(t, 10*time.Second)
	back := servedSince(t, 60*time.Second, writes, open.at)
	after := e.well(t)
	samples := haproxy.stop()
	server := lab.WriteBackend + "/" + c.primary.Name
	states := passedThrough(t, samples, server)
	t.Logf("served again %v after the kill, by %s; HAProxy showed %s as %v", back.ended.Sub(open.at).Round(10*time.Millisecond), back.node, server, states)
	if len(states) == 1 {
		t.Errorf("HAProxy showed %s as %v, want that it was out of service for a time", server, states)
	}
	w := tell(writes.stop(), false)
	misroutedNone(t, "writes", w)
	if after.primary.Name == c.primary.Name {
		e.kept(t, after.primary, w) // another one may lack the last rows: replication does not wait
	}
}

// replicaCrashed: a fault shows as DOWN in both backends. MAINT, that is "this
// is as it should be", it is called only as it should be.
func (e *behindHAProxy) replicaCrashed(t *testing.T) {
	c := e.well(t)
	crashed, other := c.replicas[0], c.replicas[1]
	write, read := lab.WriteBackend+"/"+crashed.Name, lab.ReadBackend+"/"+crashed.Name
	writes, reads, open, haproxy := e.writes(t), e.reads(t), e.openOn(t, e.lab.Read, crashed.Name), e.observe(t)
	if err := e.lab.CrashNode(t.Context(), crashed.Name); err != nil {
		t.Fatal(err)
	}
	gone := time.Now()
	open.isCut(t, 10*time.Second)
	want := e.normal(c)
	want[write], want[read] = "DOWN", "DOWN"
	e.haproxyShows(t, want)
	t.Logf("DOWN in both backends after %v", time.Since(gone).Round(10*time.Millisecond))
	time.Sleep(3 * time.Second) // and so it stays, at every look
	samples := haproxy.stop()
	for server, want := range map[string][]string{write: {"MAINT", "DOWN"}, read: {"UP", "DOWN"}} {
		if states := passedThrough(t, samples, server); !slices.Equal(states, want) {
			t.Errorf("HAProxy showed %s as %v, want %v", server, states, want)
		}
		e.haproxySays(t, server, "not answering")
	}
	begun := time.Now()
	if a := servedSince(t, 10*time.Second, reads, begun); a.node != other.Name {
		t.Errorf("read from %s, want from %s", a.node, other.Name)
	}
	if err := e.lab.StartNode(t.Context(), crashed.Name); err != nil {
		t.Fatal(err)
	}
	e.well(t)
	w := tell(writes.stop(), false)
	misroutedNone(t, "writes", w)
	if len(w.failed) > 0 {
		t.Errorf("writes failed because of a replica: %v", w.failed)
	}
	misroutedNone(t, "reads", tell(reads.stop(), true))
}

// replicaLags: a replica that lags gets no new sessions, its open ones go on,
// and it comes back.
func (e *behindHAProxy) replicaLags(t *testing.T) {
	c := e.well(t)
	lags, other := c.replicas[0], c.replicas[1]
	server := lab.ReadBackend + "/" + lags.Name
	reads, open, haproxy := e.reads(t), e.openOn(t, e.lab.Read, lags.Name), e.observe(t)
	resume := e.pauseReplay(t, lags)
	if _, err := e.lab.Query(t.Context(), c.primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 80000)"); err != nil {
		t.Fatal(err)
	}
	want := e.normal(c)
	want[server] = "DRAIN"
	e.haproxyShows(t, want)
	drained := time.Now()
	time.Sleep(3 * time.Second) // HAProxy's own checks take two seconds to end it
	samples := haproxy.stop()
	if states, want := passedThrough(t, samples, server), []string{"UP", "DRAIN"}; !slices.Equal(states, want) {
		t.Errorf("HAProxy showed %s as %v, want %v", server, states, want)
	}
	e.haproxySays(t, server, "over 64 MB")
	open.isAlive(t)
	if nodes := servedBy(reads.soFar(), drained); !slices.Equal(nodes, []string{other.Name}) {
		t.Errorf("while %s was drained clients read from %v, want from %s", lags.Name, nodes, other.Name)
	}
	resume()
	e.well(t)
	e.openOn(t, e.lab.Read, lags.Name) // new sessions get there again
	open.isAlive(t)
	r := tell(reads.stop(), true)
	misroutedNone(t, "reads", r)
	if len(r.failed) > 0 {
		t.Errorf("reads failed because of a replica's lag: %v", r.failed)
	}
}

// pauseReplay stops the process that replays what a replica receives, until
// resume or the end of the test. pg_wal_replay_pause would not last: Patroni
// resumes that in its next HA loop.
func (e suite) pauseReplay(t *testing.T, n lab.Node) (resume func()) {
	t.Helper()
	// As a superuser: others are not told of it.
	conn, err := connect(t.Context(), n.SQL, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	text, err := value(t.Context(), conn, "select pid from pg_stat_activity where backend_type = 'startup'")
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

// supervisorRestarts: kill -9 of the program, twenty times, each followed by its
// start at once, as under systemd. No client notices.
func (e *behindHAProxy) supervisorRestarts(t *testing.T) {
	e.well(t)
	writes, reads := e.writes(t), e.reads(t)
	sessions := []*session{e.open(t, e.lab.Write), e.open(t, e.lab.Read)}
	haproxy := e.observe(t)
	var ready []time.Duration
	for range 20 {
		e.program.kill(t)
		begun := time.Now()
		e.program.start(t)
		eventually(t, 10*time.Second, e.ready)
		ready = append(ready, time.Since(begun))
		// At another moment between two checks of HAProxy each time.
		time.Sleep(500*time.Millisecond + rand.N(300*time.Millisecond))
	}
	slices.Sort(ready)
	t.Logf("ready again after %v (median), at most %v", ready[len(ready)/2].Round(time.Millisecond), ready[len(ready)-1].Round(time.Millisecond))
	for _, s := range sessions {
		s.isAlive(t)
	}
	samples := haproxy.stop()
	c := e.well(t)
	for server, want := range e.normal(c) {
		if states := passedThrough(t, samples, server); !slices.Equal(states, []string{want}) {
			t.Errorf("HAProxy showed %s as %v, want %s throughout", server, states, want)
		}
	}
	for what, s := range map[string]story{"writes": tell(writes.stop(), false), "reads": tell(reads.stop(), true)} {
		misroutedNone(t, what, s)
		if len(s.failed) > 0 {
			t.Errorf("%s failed: %v", what, s.failed)
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
		writes, open := e.writes(t), e.open(t, e.lab.Write)
		servedSince(t, 10*time.Second, writes, time.Now())
		killed := time.Now()
		e.program.kill(t)
		open.isCut(t, 10*time.Second)
		last := killed
		for _, a := range writes.soFar() {
			if a.err == nil && a.begun.After(last) {
				last = a.begun
			}
		}
		stopped = append(stopped, max(last.Sub(killed), open.at.Sub(killed)))
		to := c.primary
		if i == 0 { // the role moves while nobody tells HAProxy
			to = c.replicas[0]
			if err := e.lab.Switchover(t.Context(), to.Name); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for _, a := range writes.soFar() {
			if a.err == nil && a.begun.After(open.at) {
				t.Errorf("written to %s %v after the program was killed, when sessions had been cut", a.node, a.begun.Sub(killed))
				break
			}
		}
		begun := time.Now()
		e.program.start(t)
		a := servedSince(t, 15*time.Second, writes, begun)
		back = append(back, a.ended.Sub(begun))
		if a.node != to.Name {
			t.Errorf("written to %s, want to %s", a.node, to.Name)
		}
		w := tell(writes.stop(), false)
		misroutedNone(t, "writes", w)
		e.kept(t, to, w)
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
	to := c.replicas[0]
	server := lab.WriteBackend + "/" + to.Name
	order := func(command string) {
		t.Helper()
		if said, err := e.lab.HAProxyCommand(t.Context(), command); err != nil || strings.TrimSpace(said) != "" {
			t.Fatalf("%s: %q, %v", command, said, err)
		}
	}
	haproxy, writes := e.observe(t), e.writes(t)
	order("disable agent " + server)
	order("set server " + server + " state maint")
	if err := e.lab.Switchover(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	e.healthy(t)
	want := e.normal(healthyCluster{primary: to})
	want[server] = "MAINT"
	e.haproxyShows(t, want)
	begun := time.Now()
	time.Sleep(2 * time.Second) // ten questions to the agent, had it not been disabled
	samples := haproxy.stop()
	if states, want := passedThrough(t, samples, server), []string{"MAINT"}; !slices.Equal(states, want) {
		t.Errorf("HAProxy showed %s as %v, want %v: the operator said so", server, states, want)
	}
	if nodes := servedBy(writes.soFar(), begun); len(nodes) > 0 {
		t.Errorf("written to %v, want to nobody: the operator took the primary out", nodes)
	}
	begun = time.Now()
	// No "state ready": that would put any server UP until its agent is heard.
	order("enable agent " + server)
	a := servedSince(t, 10*time.Second, writes, begun)
	t.Logf("served %v after it was given back", a.ended.Sub(begun).Round(time.Millisecond))
	e.well(t)
	misroutedNone(t, "writes", tell(writes.stop(), false))
}

// frozen: a primary of which nothing was heard for our ttl goes out of service,
// with its sessions, though its PostgreSQL would still serve them.
func (e *behindHAProxy) frozen(t *testing.T) {
	c := e.well(t)
	server := lab.WriteBackend + "/" + c.primary.Name
	writes, open, direct, haproxy := e.writes(t), e.open(t, e.lab.Write), e.open(t, c.primary.SQL), e.observe(t)
	// Below Patroni's own ttl of 20 s even when its lock was about to be renewed (loop_wait 3 s).
	const freeze = 12 * time.Second
	begun := time.Now()
	if err := e.lab.Freeze(t.Context(), c.primary.Name, freeze); err != nil {
		t.Fatal(err)
	}
	open.isCut(t, freeze)
	t.Logf("sessions were cut %v after the freeze", open.at.Sub(begun).Round(10*time.Millisecond))
	want := e.normal(c)
	want[server], want[lab.ReadBackend+"/"+c.primary.Name] = "DOWN", "DOWN"
	e.haproxyShows(t, want)
	e.haproxySays(t, server, "stale: last answer")
	direct.isAlive(t)
	if err := e.lab.Thaw(t.Context(), c.primary.Name); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	a := servedSince(t, 20*time.Second, writes, open.at)
	t.Logf("served again %v after the thaw", a.ended.Sub(thawed).Round(10*time.Millisecond))
	after := e.well(t)
	if after.primary.Name != c.primary.Name {
		t.Errorf("primary after a freeze below Patroni's ttl: %s, want still %s", after.primary.Name, c.primary.Name)
	}
	if states, want := passedThrough(t, haproxy.stop(), server), []string{"UP", "DOWN", "UP"}; !slices.Equal(states, want) {
		t.Errorf("HAProxy showed %s as %v, want %v", server, states, want)
	}
	w := tell(writes.stop(), false)
	misroutedNone(t, "writes", w)
	e.kept(t, c.primary, w)
}

// frozenForGood: beyond Patroni's ttl there are two PostgreSQLs that take
// writes. Clients reach one of them at most, and nothing that was written is lost.
func (e *behindHAProxy) frozenForGood(t *testing.T) {
	c := e.well(t)
	writes, open := e.writes(t), e.open(t, e.lab.Write)
	begun := time.Now()
	if err := e.lab.Freeze(t.Context(), c.primary.Name, 0); err != nil {
		t.Fatal(err)
	}
	open.isCut(t, 15*time.Second)
	a := servedSince(t, 60*time.Second, writes, open.at)
	if a.node == c.primary.Name {
		t.Errorf("written to %s again, which is frozen", a.node)
	}
	t.Logf("cut %v and served by %s %v after the freeze of %s", open.at.Sub(begun).Round(10*time.Millisecond),
		a.node, a.ended.Sub(begun).Round(10*time.Millisecond), c.primary.Name)
	// The danger is real: the old one still takes writes.
	if old := e.try(c.primary.SQL, "insert into lab (said) values ('astray') returning inet_server_port()"); old.err != nil || old.standby {
		t.Errorf("writing to the old primary itself: %v, standby %t; want that it works", old.err, old.standby)
	}
	time.Sleep(2 * time.Second)
	w := tell(writes.stop(), false)
	misroutedNone(t, "writes", w)
	if want := []string{c.primary.Name, a.node}; !slices.Equal(w.nodes, want) {
		t.Errorf("written to %v, want %v", w.nodes, want)
	}
	e.kept(t, e.lab.Node(a.node), w)
	// Not thawed: Debian's Patroni might take the lock back (the lab's README).
	if err := e.lab.CrashNode(t.Context(), c.primary.Name); err != nil {
		t.Fatal(err)
	}
}

// TestTwoClaims puts simulated members, who can do what no Patroni
// should, and databases that only greet behind the real HAProxy.
func TestTwoClaims(t *testing.T) {
	program := builtBinary(t)
	l := startLab(t, lab.Options{Parts: []string{lab.HAProxy}, Program: program})
	sim := nodetest.Options{Addr: func(name string) string { return l.Node(name).REST }}.NewCluster(l.Scope, "pg1", "pg2", "pg3")
	t.Cleanup(sim.Close)
	db := new(databases)
	for _, n := range l.Nodes {
		db.listen(t, n)
	}
	e := suite{&endToEnd{lab: l, log: new(logLines)}}
	startProcess(t, e.log, program, "-config", l.Config)

	record(t, 2, 10*time.Millisecond, func() error {
		conn, err := greet(l.Write)
		if err == nil {
			conn.Close()
		}
		return err
	})
	claim := func(unlocked bool, names ...string) func() { return func() { sim.SplitBrain(unlocked, names...) } }
	serving := ""
	for _, tt := range []struct {
		name    string
		do      func()
		want    string   // who is in service then; "" is nobody
		reached []string // by clients meanwhile, one after another
	}{
		{"one claims", func() {}, "pg1", []string{"pg1"}},
		{"another one on the same timeline", claim(false, "pg1", "pg2"), "", []string{"pg1"}},
		{"it has won", func() { sim.Switchover("pg2") }, "pg2", []string{"pg2"}},
		{"the old one on a newer timeline", func() {
			sim.Node("pg1").Set(func(s *nodetest.State) { s.Timeline = new(int64(9)) })
			sim.SplitBrain(false, "pg1", "pg2")
		}, "pg1", []string{"pg2", "pg1"}},
		{"it does not see the DCS", claim(true, "pg2"), "pg1", []string{"pg1"}},
		{"neither sees the DCS", claim(true, "pg1", "pg2"), "pg1", []string{"pg1"}},
		{"the one in service hangs", sim.Node("pg1").Freeze, "pg2", []string{"pg1", "pg2"}},
		{"and is back", sim.Node("pg1").Thaw, "pg2", []string{"pg2"}},
		{"and sees the DCS, the other does not", func() {
			sim.Node("pg1").Set(func(s *nodetest.State) { s.Unlocked = false })
		}, "pg1", []string{"pg2", "pg1"}},
		{"all three", claim(false, "pg1", "pg2", "pg3"), "pg1", []string{"pg1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var session net.Conn
			if serving != "" {
				var err error
				if session, err = greet(l.Write); err != nil {
					t.Fatal(err)
				}
				defer session.Close()
			}
			db.forget()
			begun := time.Now()
			tt.do()
			e.haproxyWrites(t, tt.want)
			took := time.Since(begun)
			time.Sleep(1500 * time.Millisecond) // and so it stays: every node is polled meanwhile
			e.haproxyWrites(t, tt.want)
			if got := db.reached(); !slices.Equal(got, tt.reached) {
				t.Errorf("clients reached %v, want %v", got, tt.reached)
			}
			if session != nil && tt.want != serving {
				session.SetDeadline(time.Now().Add(time.Second))
				if _, err := session.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("a session on %s is still alive (%v)", serving, err)
				}
			}
			t.Logf("in service %q, %v later", tt.want, took.Round(10*time.Millisecond))
			serving = tt.want
		})
	}
}

// haproxyWrites waits until HAProxy writes to this node only, or to nobody.
func (e suite) haproxyWrites(t *testing.T, node string) {
	t.Helper()
	var want []string
	if node != "" {
		want = []string{node}
	}
	eventually(t, 10*time.Second, func() error {
		servers, err := e.lab.HAProxyStat(t.Context())
		if err != nil {
			return err
		}
		var up []string
		for _, s := range servers {
			if s.Backend == lab.WriteBackend && s.Up() {
				up = append(up, s.Name)
			}
		}
		if !slices.Equal(up, want) {
			return fmt.Errorf("HAProxy writes to %v, want %v", up, want)
		}
		return nil
	})
}

// databases listen in place of PostgreSQL, greet and then say nothing.
type databases struct {
	mu    sync.Mutex
	nodes []string // guarded by mu: who was reached, one after another
}

func (db *databases) listen(t *testing.T, n lab.Node) {
	t.Helper()
	ln, err := net.Listen("tcp", n.SQL)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			db.mu.Lock()
			db.nodes = append(db.nodes, n.Name)
			db.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				io.WriteString(conn, "!")
				io.Copy(io.Discard, conn) // until the client, or HAProxy, goes
			})
		}
	})
}

func (db *databases) forget() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.nodes = nil
}

// reached gives who was reached, each once in a row, and no more than ten.
func (db *databases) reached() []string {
	db.mu.Lock()
	defer db.mu.Unlock()
	nodes := slices.Compact(slices.Clone(db.nodes))
	return nodes[:min(10, len(nodes))]
}

// greet connects and waits until a database greets.
func greet(addr string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
