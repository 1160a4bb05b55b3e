package patroni

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
	"patroniglue/test/harness"
)

// TestBehindHAProxy is what applications see of a real cluster through the real
// HAProxy with the configuration that we print, while one part after the other
// fails. The program runs in a process of its own, to be killed. Each subtest
// begins when everything is well; the last one leaves a cluster of two.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testBehindHAProxy)
}

func testBehindHAProxy(t *testing.T, s lab.Suite) {
	begun := time.Now()
	e := startBehindHAProxy(t, s)
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
	program *harness.Process
}

func startBehindHAProxy(t *testing.T, s lab.Suite) *behindHAProxy {
	t.Helper()
	program := harness.BuiltBinary(t)
	l := harness.StartLab(t, lab.Options{Suite: s, Parts: []string{lab.ETCD, lab.Patroni}, Program: program})
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
	e := &behindHAProxy{suite: suite{&harness.Cluster{Lab: l, Log: new(harness.LogLines)}}}
	e.program = harness.StartProcess(t, e.Log, program, "-config", l.Config)
	harness.Eventually(t, 15*time.Second, e.Ready)
	if err := l.Run(t.Context(), "haproxy", "start"); err != nil {
		t.Fatal(err)
	}
	return e
}

// well waits until the cluster is healthy and HAProxy shows it.
func (e *behindHAProxy) well(t *testing.T) harness.HealthyCluster {
	t.Helper()
	c := e.Healthy(t)
	e.HAProxyShows(t, e.Normal(c))
	return c
}

// shown is what HAProxy shows at a moment.
type shown struct {
	at      time.Time
	servers map[string]lab.Server // by backend/name
	err     error
}

// observe looks at HAProxy all the time.
func (e *behindHAProxy) observe(t *testing.T) *harness.Recorder[shown] {
	return harness.Record(t, 1, 20*time.Millisecond, func() shown {
		s := shown{at: time.Now(), servers: make(map[string]lab.Server)}
		var servers []lab.Server
		servers, s.err = e.Lab.HAProxyStat(context.Background())
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
			t.Errorf("at %s: %v", s.at.Format(harness.Clock), s.err)
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
	harness.Eventually(t, 5*time.Second, func() error {
		servers, err := e.Lab.HAProxyStat(t.Context())
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
	if c.Primary.Name == "pg1" {
		// A wrong configuration that sends everything to the first server must not be right by chance.
		if err := e.Lab.Switchover(t.Context(), "pg3"); err != nil {
			t.Fatal(err)
		}
		c = e.well(t)
	}
	writes, reads := e.Writes(t), e.Reads(t)
	for range 3 {
		if err := e.Lab.Run(t.Context(), "haproxy", "stop"); err != nil {
			t.Fatal(err)
		}
		e.begin(t, c, writes, reads, "start")
	}
	for range 3 {
		e.begin(t, c, writes, reads, "reload")
	}
	w := harness.Tell(writes.Stop(), false)
	harness.MisroutedNone(t, "writes", w)
	harness.MisroutedNone(t, "reads", harness.Tell(reads.Stop(), true))
	e.Kept(t, c.Primary, w)
}

// begin starts or reloads HAProxy, waits until clients are served and looks
// whom that HAProxy has sent any to.
func (e *behindHAProxy) begin(t *testing.T, c harness.HealthyCluster, writes, reads *harness.Recorder[harness.Attempt], command string) {
	t.Helper()
	// What is wrong at the beginning is wrong for some milliseconds only.
	crowd := []*harness.Recorder[error]{
		harness.Record(t, 4, 4*time.Millisecond, func() error { return harness.Knock(e.Lab.Write) }),
		harness.Record(t, 4, 4*time.Millisecond, func() error { return harness.Knock(e.Lab.Read) }),
	}
	begun := time.Now()
	if err := e.Lab.Run(t.Context(), "haproxy", command); err != nil {
		t.Fatal(err)
	}
	up := time.Now() // until then a reload may leave clients to the old process
	w, r := harness.ServedSince(t, 10*time.Second, writes, up), harness.ServedSince(t, 10*time.Second, reads, up)
	for _, c := range crowd {
		c.Stop()
	}
	t.Logf("%s took %v, then writes were served within %v, reads within %v", command,
		up.Sub(begun).Round(time.Millisecond), w.Ended.Sub(up).Round(time.Millisecond), r.Ended.Sub(up).Round(time.Millisecond))
	e.HAProxyShows(t, e.Normal(c))
	servers, err := e.Lab.HAProxyStat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		right := s.Backend == lab.WriteBackend && s.Name == c.Primary.Name || s.Backend == lab.ReadBackend && s.Name != c.Primary.Name
		if right != (s.Total > 0) {
			t.Errorf("after %s HAProxy has sent %d connections to %s/%s, while %s was the primary", command, s.Total, s.Backend, s.Name, c.Primary.Name)
		}
	}
}

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

// supervisorRestarts: kill -9 of the program, twenty times, each followed by its
// start at once, as under systemd. No client notices.
func (e *behindHAProxy) supervisorRestarts(t *testing.T) {
	e.well(t)
	writes, reads := e.Writes(t), e.Reads(t)
	sessions := []*harness.Session{e.Open(t, e.Lab.Write), e.Open(t, e.Lab.Read)}
	haproxy := e.observe(t)
	var ready []time.Duration
	for range 20 {
		e.program.Kill(t)
		begun := time.Now()
		e.program.Start(t)
		harness.Eventually(t, 10*time.Second, e.Ready)
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
		e.program.Kill(t)
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
		e.program.Start(t)
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

// TestTwoClaims puts simulated members, who can do what no Patroni
// should, and databases that only greet behind the real HAProxy.
func TestTwoClaims(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testTwoClaims)
}

func testTwoClaims(t *testing.T, s lab.Suite) {
	program := harness.BuiltBinary(t)
	l := harness.StartLab(t, lab.Options{Suite: s, Parts: []string{lab.HAProxy}, Program: program})
	sim := nodetest.Options{Addr: func(name string) string { return l.Node(name).REST }}.NewCluster(l.Scope, "pg1", "pg2", "pg3")
	t.Cleanup(sim.Close)
	db := new(databases)
	for _, n := range l.Nodes {
		db.listen(t, n)
	}
	e := suite{&harness.Cluster{Lab: l, Log: new(harness.LogLines)}}
	harness.StartProcess(t, e.Log, program, "-config", l.Config)

	harness.Record(t, 2, 10*time.Millisecond, func() error {
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
	harness.Eventually(t, 10*time.Second, func() error {
		servers, err := e.Lab.HAProxyStat(t.Context())
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
