package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/node"
)

// TestEndToEnd runs the whole program against Debian's Patroni, PostgreSQL,
// etcd and HAProxy. Its subtests share one cluster, one daemon and one HAProxy;
// each begins when one primary leads two streaming replicas and everybody knows.
func TestEndToEnd(t *testing.T) {
	e := startEndToEnd(t)
	t.Run("steady state", e.steadyState)
	t.Run("quiet", e.quiet)
	t.Run("status", e.status)
	t.Run("clients of Patroni", e.clients)
	t.Run("HAProxy", e.haproxy)
	t.Run("switchover", e.switchover)
	t.Run("leaving", e.leaving)
	t.Run("short freeze", e.shortFreeze)
	t.Run("long freeze", e.longFreeze)
	t.Run("PostgreSQL killed", e.postgresKilled)
	t.Run("stop", e.stops)
}

// steadyState: every check of every node answers as Patroni itself does.
func (e *endToEnd) steadyState(t *testing.T) {
	c := e.healthy(t)
	for _, n := range e.lab.Nodes {
		for _, check := range node.CheckNames() {
			for _, query := range []string{"", "?lag=1MB", "?tag_x=y", "?tag_x=", "?lag=1MB&tag_x=y"} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					patroni := e.must(t, n.REST, method, "/"+check+query).status
					ours := e.must(t, e.lab.HTTP, method, "/node/"+n.Name+"/"+check+query)
					want, why := patroni, "as Patroni"
					switch {
					case (check == "liveness" || check == "readiness") && method != "GET":
						// Patroni has no such HEAD or OPTIONS: 503, always (#2035).
						want, why = e.must(t, n.REST, "GET", "/"+check+query).status, "as Patroni's GET"
						if patroni != http.StatusServiceUnavailable {
							t.Errorf("%s %s /%s%s of Patroni: status %d, want 503", n.Name, method, check, query, patroni)
						}
					case check == "read-only-quorum" && c.major < 4 && n.Name != c.primary.Name:
						// Before 4.0 the name is unknown, and its path has "read-only" in it.
						want, why = http.StatusServiceUnavailable, "nobody is a quorum standby"
					case query == "?tag_x=" && patroni == http.StatusOK && refusesTags(check):
						// Patroni drops parameters without a value; we take it as the value that is wanted.
						want, why = http.StatusServiceUnavailable, "an empty tag is a value"
					}
					if ours.status != want {
						t.Errorf("%s %s /%s%s: status %d, want %d, %s", n.Name, method, check, query, ours.status, want, why)
					}
					if hasBody := len(ours.body) > 0; hasBody != (method == "GET") {
						t.Errorf("%s %s /%s%s: body of %d bytes", n.Name, method, check, query, len(ours.body))
					}
				}
			}
		}
	}
}

// refusesTags reports whether the check looks at tag_ parameters at all.
func refusesTags(check string) bool {
	c, _ := node.ParseCheck(check, "")
	return !c.Writes() && c.Ask != node.AskLiveness && c.Ask != node.AskReadiness
}

// quiet: no check makes a line in the log.
func (e *endToEnd) quiet(t *testing.T) {
	c := e.healthy(t)
	before := e.log.lines()
	for i := range 100 {
		n := e.lab.Nodes[i%3]
		check := node.CheckNames()[i%len(node.CheckNames())]
		e.must(t, e.lab.HTTP, "GET", "/node/"+n.Name+"/"+check)
		if _, err := e.askAgent(n.Name + "/" + check); err != nil {
			t.Error(err)
		}
	}
	e.healthy(t) // nothing happened meanwhile that is worth a line
	if added := e.log.lines()[len(before):]; len(added) != 0 {
		t.Errorf("200 checks while %s leads made %d log lines, want none:\n%s", c.primary.Name, len(added), strings.Join(added, "\n"))
	}
}

// status: what people read.
func (e *endToEnd) status(t *testing.T) {
	c := e.healthy(t)
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"-config", e.lab.Config, "status"}, &stdout, &stderr); err != nil {
		t.Errorf("status: %v, want exit code 0\n%s%s", err, &stdout, &stderr)
	}
	for _, n := range e.lab.Nodes {
		want := []string{n.Name, n.SQL, "replica", "running", "no yes"}
		if n.Name == c.primary.Name {
			want = []string{n.Name, n.SQL, "Leader", "running", "yes no"}
		}
		var row string
		for line := range strings.Lines(stdout.String()) {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] == n.Name {
				row = strings.Join(fields, " ")
			}
		}
		for _, w := range want {
			if !strings.Contains(row, w) {
				t.Errorf("status: no %q in the row of %s: %q\n%s", w, n.Name, row, &stdout)
			}
		}
	}

	stdout.Reset()
	if err := run(t.Context(), []string{"-config", e.lab.Config, "status", "-json"}, &stdout, &stderr); err != nil {
		t.Errorf("status -json: %v\n%s%s", err, &stdout, &stderr)
	}
	var report statusReport
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || len(report.Nodes) != 3 || !report.Health.Healthy {
		t.Errorf("status -json: error %v, want 3 nodes of a healthy cluster:\n%s", err, &stdout)
	}

	if got := e.must(t, e.lab.HTTP, "GET", "/health?strict"); got.status != http.StatusOK {
		t.Errorf("/health: status %d: %s", got.status, got.body)
	}
	if got := e.must(t, e.lab.HTTP, "GET", "/readyz"); got.status != http.StatusOK {
		t.Errorf("/readyz: status %d: %s", got.status, got.body)
	}
}

// haproxy: what HAProxy itself makes of it.
func (e *endToEnd) haproxy(t *testing.T) {
	c := e.healthy(t)
	e.haproxyShows(t, e.normal(c))

	if got, err := e.lab.Query(t.Context(), e.lab.Write, "select pg_is_in_recovery()"); err != nil || got != "f" {
		t.Errorf("pg_is_in_recovery() through the write port: %q, %v, want f", got, err)
	}
	if got, err := e.lab.Query(t.Context(), e.lab.Read, "select pg_is_in_recovery()"); err != nil || got != "t" {
		t.Errorf("pg_is_in_recovery() through the read port: %q, %v, want t", got, err)
	}
	if _, err := e.lab.Query(t.Context(), e.lab.Write, "insert into lab (said) values ('end to end')"); err != nil {
		t.Errorf("writing through the write port: %v", err)
	}
	if got, err := e.lab.Query(t.Context(), c.primary.SQL, "select count(*) from lab where said = 'end to end'"); err != nil || got != "1" {
		t.Errorf("rows on %s: %q, %v, want 1", c.primary.Name, got, err)
	}

	crashed := c.replicas[0].Name
	if err := e.lab.CrashNode(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	want := e.normal(c)
	want[lab.WriteBackend+"/"+crashed] = "DOWN"
	want[lab.ReadBackend+"/"+crashed] = "DOWN"
	e.haproxyShows(t, want)
	for _, check := range []string{"primary", "replica", "health", "liveness"} {
		got := e.must(t, e.lab.HTTP, "GET", "/node/"+crashed+"/"+check)
		if reason := got.reason(t); got.status != http.StatusServiceUnavailable || !strings.HasPrefix(reason, "not answering: ") {
			t.Errorf("/node/%s/%s of a crashed node: status %d, reason %q", crashed, check, got.status, reason)
		}
	}
	if err := e.lab.StartNode(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	e.haproxyShows(t, e.normal(e.healthy(t)))
}

// switchover: never two primaries, and the new one is ours at most 300 ms after
// it is Patroni's.
func (e *endToEnd) switchover(t *testing.T) {
	const rounds, limit = 3, 300 * time.Millisecond
	var delays []time.Duration
	for i := range rounds {
		c := e.healthy(t)
		to := c.replicas[i%len(c.replicas)]
		w := e.watch(t)
		delay, err := e.timeSwitchover(t.Context(), to)
		e.healthy(t)
		samples := w.stop()
		if err != nil {
			t.Fatalf("from %s to %s: %v", c.primary.Name, to.Name, err)
		}
		neverTwo(t, samples)
		t.Logf("from %s to %s: primary here %v after Patroni's own answer; %s", c.primary.Name, to.Name, delay.Round(time.Millisecond), gap(samples))
		delays = append(delays, delay)
		e.haproxyShows(t, e.normal(e.healthy(t)))
	}
	slices.Sort(delays)
	t.Logf("median %v of %v", delays[rounds/2], delays)
	if delays[rounds/2] > limit {
		t.Errorf("the new primary passed %v after Patroni's own answer (median of %v), want at most %v", delays[rounds/2], delays, limit)
	}
}

// timeSwitchover gives the time from Patroni's first answer that to is primary,
// with a role that says so too, to ours.
func (e *endToEnd) timeSwitchover(ctx context.Context, to lab.Node) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	var patroni, ours time.Time
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		patroni = firstTime(ctx, 20*time.Millisecond, func() bool {
			a, err := e.ask(to.REST, "GET", "/primary")
			if err != nil || a.status != http.StatusOK {
				return false
			}
			var doc struct{ Role string }
			return json.Unmarshal(a.body, &doc) == nil && (doc.Role == "primary" || doc.Role == "master")
		})
	})
	wg.Go(func() {
		ours = firstTime(ctx, 5*time.Millisecond, func() bool {
			a, err := e.ask(e.lab.HTTP, "HEAD", "/node/"+to.Name+"/primary")
			failed = cmp.Or(failed, err)
			return a.status == http.StatusOK
		})
	})
	err := e.lab.Switchover(ctx, to.Name)
	if err != nil {
		cancel()
	}
	wg.Wait()
	switch {
	case cmp.Or(err, failed) != nil:
		return 0, cmp.Or(err, failed)
	case patroni.IsZero() || ours.IsZero():
		return 0, fmt.Errorf("seen as primary: by Patroni %t, here %t", !patroni.IsZero(), !ours.IsZero())
	}
	return ours.Sub(patroni), nil
}

// shortFreeze: a Patroni that hangs for less than the TTL changes no answer.
func (e *endToEnd) shortFreeze(t *testing.T) {
	c := e.healthy(t)
	w := e.watch(t)
	if err := e.lab.Freeze(t.Context(), c.primary.Name, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ask(c.primary.REST, "GET", "/primary"); err != nil {
		t.Fatal(err) // answered when it goes on
	}
	time.Sleep(time.Second)
	samples := w.stop()
	neverTwo(t, samples)
	for _, s := range samples {
		if !slices.Equal(s.http, []string{c.primary.Name}) || !slices.Equal(s.agent, s.http) {
			t.Errorf("%s: primary by HTTP %v, by agent %v, want %s throughout", s, s.http, s.agent, c.primary.Name)
		}
		if len(s.replicas) != 2 {
			t.Errorf("%s: replicas %v, want two throughout", s, s.replicas)
		}
	}
}

// longFreeze: what was known ends with the TTL, and comes back.
func (e *endToEnd) longFreeze(t *testing.T) {
	c := e.healthy(t)
	w := e.watch(t)
	name := c.primary.Name
	// Above our TTL of 5 s, and below Patroni's of 20 s even when its lock was about to be renewed (loop_wait 3 s).
	// All that is to be seen is seen earlier, and then it goes on.
	const freeze = 12 * time.Second
	began := time.Now()
	if err := e.lab.Freeze(t.Context(), name, freeze); err != nil {
		t.Fatal(err)
	}
	var said string
	eventually(t, freeze, func() error {
		a, err := e.ask(e.lab.HTTP, "GET", "/node/"+name+"/primary")
		if err != nil {
			t.Fatal(err)
		}
		if a.status == http.StatusOK {
			return fmt.Errorf("%s is still primary", name)
		}
		said = a.reason(t)
		return nil
	})
	t.Logf("out %v after the freeze: %q", time.Since(began).Round(10*time.Millisecond), said)
	if !strings.HasPrefix(said, "stale: last answer ") || !strings.Contains(said, "ttl 5s") {
		t.Errorf("reason %q, want that the answer is stale and how old it is", said)
	}
	if line, err := e.askAgent(name + "/primary"); err != nil || !strings.HasPrefix(line, "ready down #stale: last answer ") {
		t.Errorf("agent: %q, %v, want ready down #stale...", line, err)
	}
	if line, err := e.askAgent(name + "/replica"); err != nil || !strings.HasPrefix(line, "ready down #stale: last answer ") {
		t.Errorf("agent about replica: %q, %v, want ready down #stale...", line, err)
	}
	want := e.normal(c)
	want[lab.WriteBackend+"/"+name], want[lab.ReadBackend+"/"+name] = "DOWN", "DOWN"
	e.haproxyShows(t, want)
	if err := e.lab.Thaw(t.Context(), name); err != nil {
		t.Fatal(err)
	}

	after := e.healthy(t)
	if after.primary.Name != name {
		t.Errorf("primary after a freeze below Patroni's ttl: %s, want still %s", after.primary.Name, name)
	}
	if line, err := e.askAgent(name + "/primary"); err != nil || line != "ready up 100% #primary" {
		t.Errorf("agent after the thaw: %q, %v", line, err)
	}
	samples := w.stop()
	neverTwo(t, samples)
	for _, s := range samples {
		if len(s.replicas) != 2 {
			t.Errorf("%s: replicas %v, want two throughout", s, s.replicas)
		}
	}
}

// postgresKilled: Patroni goes on saying that a node is primary whose PostgreSQL
// is gone (#2756); we do not.
func (e *endToEnd) postgresKilled(t *testing.T) {
	c := e.healthy(t)
	name := c.primary.Name
	// Something to recover, or it is back before anybody has looked.
	if _, err := e.lab.Query(t.Context(), c.primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 100000)"); err != nil {
		t.Fatal(err)
	}
	w := e.watch(t)
	if err := e.lab.KillPostgres(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	var noticed time.Duration
	reasons := make(map[string]bool)
	eventually(t, 60*time.Second, func() error {
		ours, err := e.ask(e.lab.HTTP, "GET", "/node/"+name+"/primary")
		if err != nil {
			t.Fatal(err)
		}
		patroni, err := e.ask(c.primary.REST, "GET", "/primary")
		if ours.status == http.StatusServiceUnavailable && err == nil && patroni.status == http.StatusOK {
			if len(reasons) == 0 {
				noticed = time.Since(killed)
			}
			reasons[ours.reason(t)] = true
		}
		switch {
		case len(reasons) == 0:
			return fmt.Errorf("%s was never seen out of service (%d) while Patroni answers 200 (%d, %v)", name, ours.status, patroni.status, err)
		case ours.status != http.StatusOK && patroni.status == http.StatusOK:
			return fmt.Errorf("%s is not primary again: %s", name, ours.reason(t))
		}
		return nil // it came back, or another one leads
	})
	after := e.healthy(t)
	samples := w.stop()
	neverTwo(t, samples)
	t.Logf("primary %s, afterwards %s; out of service %v after the kill; %s; said meanwhile: %q",
		name, after.primary.Name, noticed.Round(10*time.Millisecond), gap(samples), slices.Sorted(maps.Keys(reasons)))
	for reason := range reasons {
		if !strings.Contains(reason, "PostgreSQL") && !strings.Contains(reason, "not promoted yet") {
			t.Errorf("reason %q, want one that tells of PostgreSQL", reason)
		}
	}
	e.haproxyShows(t, e.normal(after))
}

// stops: the end of its context ends the program in good order.
func (e *endToEnd) stops(t *testing.T) {
	e.healthy(t)
	begun := time.Now()
	e.cancel()
	select {
	case err := <-e.ended:
		if err != nil {
			t.Errorf("run: %v, want nil", err)
		}
		t.Logf("stopped after %v", time.Since(begun).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Fatal("the program still runs 10 s after its context ended")
	}
	for _, addr := range []string{e.lab.HTTP, e.lab.Agent} {
		if _, err := e.ask(addr, "GET", "/livez"); err == nil {
			t.Errorf("%s still answers", addr)
		}
	}
}
