package patroni

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
	"patroniglue/internal/client"
	"patroniglue/node"
	"patroniglue/test/harness"
)

// suite is a real cluster with the tests that it goes through.
type suite struct{ *harness.Cluster }

// TestEndToEnd runs the whole program against Debian's Patroni, PostgreSQL,
// etcd and HAProxy. Its subtests share one cluster, one daemon and one HAProxy;
// each begins when one primary leads two streaming replicas and everybody knows.
func TestEndToEnd(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Core(t, testEndToEnd)
}

func testEndToEnd(t *testing.T, s lab.Suite) {
	e := suite{harness.StartEndToEnd(t, s)}
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
func (e suite) steadyState(t *testing.T) {
	c := e.Healthy(t)
	for _, n := range e.Lab.Nodes {
		for _, check := range node.CheckNames() {
			for _, query := range []string{"", "?lag=1MB", "?tag_x=y", "?tag_x=", "?lag=1MB&tag_x=y"} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					patroni := e.Must(t, n.REST, method, "/"+check+query).Status
					ours := e.Must(t, e.Lab.HTTP, method, "/node/"+n.Name+"/"+check+query)
					want, why := patroni, "as Patroni"
					switch {
					case (check == "liveness" || check == "readiness") && method != "GET":
						// Patroni has no such HEAD or OPTIONS: 503, always (#2035).
						want, why = e.Must(t, n.REST, "GET", "/"+check+query).Status, "as Patroni's GET"
						if patroni != http.StatusServiceUnavailable {
							t.Errorf("%s %s /%s%s of Patroni: status %d, want 503", n.Name, method, check, query, patroni)
						}
					case check == "read-only-quorum" && c.Major < 4 && n.Name != c.Primary.Name:
						// Before 4.0 the name is unknown, and its path has "read-only" in it.
						want, why = http.StatusServiceUnavailable, "nobody is a quorum standby"
					case query == "?tag_x=" && patroni == http.StatusOK && refusesTags(check):
						// Patroni drops parameters without a value; we take it as the value that is wanted.
						want, why = http.StatusServiceUnavailable, "an empty tag is a value"
					}
					if ours.Status != want {
						t.Errorf("%s %s /%s%s: status %d, want %d, %s", n.Name, method, check, query, ours.Status, want, why)
					}
					if hasBody := len(ours.Body) > 0; hasBody != (method == "GET") {
						t.Errorf("%s %s /%s%s: body of %d bytes", n.Name, method, check, query, len(ours.Body))
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
func (e suite) quiet(t *testing.T) {
	c := e.Healthy(t)
	before := e.Log.Lines()
	for i := range 100 {
		n := e.Lab.Nodes[i%3]
		check := node.CheckNames()[i%len(node.CheckNames())]
		e.Must(t, e.Lab.HTTP, "GET", "/node/"+n.Name+"/"+check)
		if _, err := e.AskAgent(n.Name + "/" + check); err != nil {
			t.Error(err)
		}
	}
	e.Healthy(t) // nothing happened meanwhile that is worth a line
	if added := e.Log.Lines()[len(before):]; len(added) != 0 {
		t.Errorf("200 checks while %s leads made %d log lines, want none:\n%s", c.Primary.Name, len(added), strings.Join(added, "\n"))
	}
}

// status: what people read.
func (e suite) status(t *testing.T) {
	c := e.Healthy(t)
	var stdout, stderr bytes.Buffer
	if code := harness.Command(t.Context(), []string{"-config", e.Lab.Config, "status"}, &stdout, &stderr); code != 0 {
		t.Errorf("status: exit code %d, want 0\n%s%s", code, &stdout, &stderr)
	}
	for _, n := range e.Lab.Nodes {
		want := []string{n.Name, n.SQL, "replica", "running", "no yes"}
		if n.Name == c.Primary.Name {
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
	if code := harness.Command(t.Context(), []string{"-config", e.Lab.Config, "status", "-json"}, &stdout, &stderr); code != 0 {
		t.Errorf("status -json: exit code %d\n%s%s", code, &stdout, &stderr)
	}
	var report client.Status
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || len(report.Nodes) != 3 || !report.Health.Healthy {
		t.Errorf("status -json: error %v, want 3 nodes of a healthy cluster:\n%s", err, &stdout)
	}

	if got := e.Must(t, e.Lab.HTTP, "GET", "/health?strict"); got.Status != http.StatusOK {
		t.Errorf("/health: status %d: %s", got.Status, got.Body)
	}
	if got := e.Must(t, e.Lab.HTTP, "GET", "/readyz"); got.Status != http.StatusOK {
		t.Errorf("/readyz: status %d: %s", got.Status, got.Body)
	}
}

// haproxy: what HAProxy itself makes of it.
func (e suite) haproxy(t *testing.T) {
	c := e.Healthy(t)
	e.HAProxyShows(t, e.Normal(c))

	if got, err := e.Lab.Query(t.Context(), e.Lab.Write, "select pg_is_in_recovery()"); err != nil || got != "f" {
		t.Errorf("pg_is_in_recovery() through the write port: %q, %v, want f", got, err)
	}
	if got, err := e.Lab.Query(t.Context(), e.Lab.Read, "select pg_is_in_recovery()"); err != nil || got != "t" {
		t.Errorf("pg_is_in_recovery() through the read port: %q, %v, want t", got, err)
	}
	if _, err := e.Lab.Query(t.Context(), e.Lab.Write, "insert into lab (said) values ('end to end')"); err != nil {
		t.Errorf("writing through the write port: %v", err)
	}
	if got, err := e.Lab.Query(t.Context(), c.Primary.SQL, "select count(*) from lab where said = 'end to end'"); err != nil || got != "1" {
		t.Errorf("rows on %s: %q, %v, want 1", c.Primary.Name, got, err)
	}

	crashed := c.Replicas[0].Name
	if err := e.Lab.CrashNode(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	want := e.Normal(c)
	want[lab.WriteBackend+"/"+crashed] = "DOWN"
	want[lab.ReadBackend+"/"+crashed] = "DOWN"
	e.HAProxyShows(t, want)
	for _, check := range []string{"primary", "replica", "health", "liveness"} {
		got := e.Must(t, e.Lab.HTTP, "GET", "/node/"+crashed+"/"+check)
		if reason := got.Reason(t); got.Status != http.StatusServiceUnavailable || !strings.HasPrefix(reason, "not answering: ") {
			t.Errorf("/node/%s/%s of a crashed node: status %d, reason %q", crashed, check, got.Status, reason)
		}
	}
	if err := e.Lab.StartNode(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	e.HAProxyShows(t, e.Normal(e.Healthy(t)))
}

// switchover: never two primaries, and the new one is ours at most 300 ms after
// it is Patroni's.
func (e suite) switchover(t *testing.T) {
	const rounds, limit = 3, 300 * time.Millisecond
	var delays []time.Duration
	for i := range rounds {
		c := e.Healthy(t)
		to := c.Replicas[i%len(c.Replicas)]
		w := e.Watch(t)
		delay, err := e.timeSwitchover(t.Context(), to)
		e.Healthy(t)
		samples := w.Stop()
		if err != nil {
			t.Fatalf("from %s to %s: %v", c.Primary.Name, to.Name, err)
		}
		harness.NeverTwo(t, samples)
		t.Logf("from %s to %s: primary here %v after Patroni's own answer; %s", c.Primary.Name, to.Name, delay.Round(time.Millisecond), harness.Gap(samples))
		delays = append(delays, delay)
		e.HAProxyShows(t, e.Normal(e.Healthy(t)))
	}
	slices.Sort(delays)
	t.Logf("median %v of %v", delays[rounds/2], delays)
	if delays[rounds/2] > limit {
		t.Errorf("the new primary passed %v after Patroni's own answer (median of %v), want at most %v", delays[rounds/2], delays, limit)
	}
}

// timeSwitchover gives the time from Patroni's first answer that to is primary,
// with a role that says so too, to ours.
func (e suite) timeSwitchover(ctx context.Context, to lab.Node) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	var patroni, ours time.Time
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		patroni = harness.FirstTime(ctx, 20*time.Millisecond, func() bool {
			a, err := e.Ask(to.REST, "GET", "/primary")
			if err != nil || a.Status != http.StatusOK {
				return false
			}
			var doc struct{ Role string }
			return json.Unmarshal(a.Body, &doc) == nil && (doc.Role == "primary" || doc.Role == "master")
		})
	})
	wg.Go(func() {
		ours = harness.FirstTime(ctx, 5*time.Millisecond, func() bool {
			a, err := e.Ask(e.Lab.HTTP, "HEAD", "/node/"+to.Name+"/primary")
			failed = cmp.Or(failed, err)
			return a.Status == http.StatusOK
		})
	})
	err := e.Lab.Switchover(ctx, to.Name)
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
func (e suite) shortFreeze(t *testing.T) {
	c := e.Healthy(t)
	w := e.Watch(t)
	if err := e.Lab.Freeze(t.Context(), c.Primary.Name, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Ask(c.Primary.REST, "GET", "/primary"); err != nil {
		t.Fatal(err) // answered when it goes on
	}
	time.Sleep(time.Second)
	samples := w.Stop()
	harness.NeverTwo(t, samples)
	for _, s := range samples {
		if !slices.Equal(s.HTTP, []string{c.Primary.Name}) || !slices.Equal(s.Agent, s.HTTP) {
			t.Errorf("%s: primary by HTTP %v, by agent %v, want %s throughout", s, s.HTTP, s.Agent, c.Primary.Name)
		}
		if len(s.Replicas) != 2 {
			t.Errorf("%s: replicas %v, want two throughout", s, s.Replicas)
		}
	}
}

// longFreeze: what was known ends with the TTL, and comes back.
func (e suite) longFreeze(t *testing.T) {
	c := e.Healthy(t)
	w := e.Watch(t)
	name := c.Primary.Name
	// Above our TTL of 5 s, and below Patroni's of 20 s even when its lock was about to be renewed (loop_wait 3 s).
	// All that is to be seen is seen earlier, and then it goes on.
	const freeze = 12 * time.Second
	began := time.Now()
	if err := e.Lab.Freeze(t.Context(), name, freeze); err != nil {
		t.Fatal(err)
	}
	var said string
	harness.Eventually(t, freeze, func() error {
		a, err := e.Ask(e.Lab.HTTP, "GET", "/node/"+name+"/primary")
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == http.StatusOK {
			return fmt.Errorf("%s is still primary", name)
		}
		said = a.Reason(t)
		return nil
	})
	t.Logf("out %v after the freeze: %q", time.Since(began).Round(10*time.Millisecond), said)
	if !strings.HasPrefix(said, "stale: last answer ") || !strings.Contains(said, "ttl 5s") {
		t.Errorf("reason %q, want that the answer is stale and how old it is", said)
	}
	if line, err := e.AskAgent(name + "/primary"); err != nil || !strings.HasPrefix(line, "ready down #stale: last answer ") {
		t.Errorf("agent: %q, %v, want ready down #stale...", line, err)
	}
	if line, err := e.AskAgent(name + "/replica"); err != nil || !strings.HasPrefix(line, "ready down #stale: last answer ") {
		t.Errorf("agent about replica: %q, %v, want ready down #stale...", line, err)
	}
	want := e.Normal(c)
	want[lab.WriteBackend+"/"+name], want[lab.ReadBackend+"/"+name] = "DOWN", "DOWN"
	e.HAProxyShows(t, want)
	if err := e.Lab.Thaw(t.Context(), name); err != nil {
		t.Fatal(err)
	}

	after := e.Healthy(t)
	if after.Primary.Name != name {
		t.Errorf("primary after a freeze below Patroni's ttl: %s, want still %s", after.Primary.Name, name)
	}
	if line, err := e.AskAgent(name + "/primary"); err != nil || line != "ready up 100% #primary" {
		t.Errorf("agent after the thaw: %q, %v", line, err)
	}
	samples := w.Stop()
	harness.NeverTwo(t, samples)
	for _, s := range samples {
		if len(s.Replicas) != 2 {
			t.Errorf("%s: replicas %v, want two throughout", s, s.Replicas)
		}
	}
}

// postgresKilled: Patroni goes on saying that a node is primary whose PostgreSQL
// is gone (#2756); we do not.
func (e suite) postgresKilled(t *testing.T) {
	c := e.Healthy(t)
	name := c.Primary.Name
	// Something to recover, or it is back before anybody has looked.
	if _, err := e.Lab.Query(t.Context(), c.Primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 100000)"); err != nil {
		t.Fatal(err)
	}
	w := e.Watch(t)
	if err := e.Lab.KillPostgres(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	var noticed time.Duration
	reasons := make(map[string]bool)
	harness.Eventually(t, 60*time.Second, func() error {
		ours, err := e.Ask(e.Lab.HTTP, "GET", "/node/"+name+"/primary")
		if err != nil {
			t.Fatal(err)
		}
		patroni, err := e.Ask(c.Primary.REST, "GET", "/primary")
		if ours.Status == http.StatusServiceUnavailable && err == nil && patroni.Status == http.StatusOK {
			if len(reasons) == 0 {
				noticed = time.Since(killed)
			}
			reasons[ours.Reason(t)] = true
		}
		switch {
		case len(reasons) == 0:
			return fmt.Errorf("%s was never seen out of service (%d) while Patroni answers 200 (%d, %v)", name, ours.Status, patroni.Status, err)
		case ours.Status != http.StatusOK && patroni.Status == http.StatusOK:
			return fmt.Errorf("%s is not primary again: %s", name, ours.Reason(t))
		}
		return nil // it came back, or another one leads
	})
	after := e.Healthy(t)
	samples := w.Stop()
	harness.NeverTwo(t, samples)
	t.Logf("primary %s, afterwards %s; out of service %v after the kill; %s; said meanwhile: %q",
		name, after.Primary.Name, noticed.Round(10*time.Millisecond), harness.Gap(samples), slices.Sorted(maps.Keys(reasons)))
	for reason := range reasons {
		if !strings.Contains(reason, "PostgreSQL") && !strings.Contains(reason, "not promoted yet") {
			t.Errorf("reason %q, want one that tells of PostgreSQL", reason)
		}
	}
	e.HAProxyShows(t, e.Normal(after))
}

// stops: the end of its context ends the program in good order.
func (e suite) stops(t *testing.T) {
	e.Healthy(t)
	begun := time.Now()
	e.Cancel()
	select {
	case code := <-e.Ended:
		if code != 0 {
			t.Errorf("run: exit code %d, want 0", code)
		}
		t.Logf("stopped after %v", time.Since(begun).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Fatal("the program still runs 10 s after its context ended")
	}
	for _, addr := range []string{e.Lab.HTTP, e.Lab.Agent} {
		if _, err := e.Ask(addr, "GET", "/livez"); err == nil {
			t.Errorf("%s still answers", addr)
		}
	}
}
