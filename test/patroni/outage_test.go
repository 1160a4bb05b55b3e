package patroni

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

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
