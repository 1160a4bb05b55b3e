package patroni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
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
type behindHAProxy struct{ suite }

func startBehindHAProxy(t *testing.T, s lab.Suite) *behindHAProxy {
	t.Helper()
	o := lab.Options{Suite: s, Program: harness.BuiltBinary(t)}
	e := &behindHAProxy{suite{harness.StartCluster(t, o, "\n[checks]\nmax-lag = \"64MB\"\nlag-hold = \"1s\"\n")}}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		text, err := os.ReadFile(filepath.Join(e.Lab.Dir, "log", "haproxy.log"))
		t.Logf("HAProxy's log (%v):\n%s", err, text)
	})
	e.StartHAProxy(t)
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
