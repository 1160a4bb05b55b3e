package patroni

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// TestFaultsOfTheCluster and TestFaultsOfPostgreSQL play the faults that need a real Patroni;
// test/faults/table_test.go has the others. TestEndToEnd and TestBehindHAProxy have more of
// them: switchover, Patroni frozen, PostgreSQL killed, nodes crashed. Each subtest begins and
// ends with a healthy cluster; at no moment are two nodes primary.
func TestFaultsOfTheCluster(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testFaultsOfTheCluster)
}

func testFaultsOfTheCluster(t *testing.T, s lab.Suite) {
	e := suite{harness.StartCluster(t, lab.Options{Suite: s}, "")}
	e.StartHAProxy(t)
	t.Run("Patroni restarted under it", e.patroniRestarted)
	t.Run("pause", e.paused)
	t.Run("DCS frozen without failsafe mode", e.dcsFrozen)
	t.Run("DCS frozen with failsafe mode", e.dcsFrozenFailsafe) // which Patroni remembers for a while
}

func TestFaultsOfPostgreSQL(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testFaultsOfPostgreSQL)
}

func testFaultsOfPostgreSQL(t *testing.T, s lab.Suite) {
	e := suite{harness.StartCluster(t, lab.Options{Suite: s}, "")}
	e.StartHAProxy(t)
	t.Run("PostgreSQL crash loop", e.crashLoop)
	t.Run("failed promotion", e.failedPromotion)
	t.Run("all nodes gone at once", e.allGone)
}

// configure changes Patroni's dynamic configuration.
func (e suite) configure(t *testing.T, n lab.Node, patch string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, n.URL+"/config", strings.NewReader(patch))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("PATCH /config %s: %s", patch, resp.Status)
	}
}

// healthSays waits until a reason is, or is not, in the cluster's health.
func (e suite) healthSays(t *testing.T, code string, is bool) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		a, err := e.Ask(e.Lab.HTTP, "GET", "/health")
		if err != nil {
			return err
		}
		if strings.Contains(string(a.Body), `"code":"`+code+`"`) != is {
			return fmt.Errorf("/health has %s: %t, want %t: %s", code, !is, is, a.Body)
		}
		return nil
	})
}

// watched stops a recording after one more sample.
func (e suite) watched(t *testing.T, w *harness.Recorder[harness.Sample]) []harness.Sample {
	t.Helper()
	time.Sleep(500 * time.Millisecond)
	harness.Eventually(t, harness.Soon, func() error { // a busy machine takes few
		n := len(w.SoFar())
		return harness.Want(n >= 10, "ten samples (got %d)", n)
	})
	samples := w.Stop()
	harness.NeverTwoPrimaries(t, samples)
	return samples
}

// whoPassed returns the nodes that passed primary by HTTP, one after another. In each sample the
// agent is asked after HTTP, so a disagreement counts only if both say the same twice in a row.
func whoPassed(t *testing.T, samples []harness.Sample) (names []string) {
	t.Helper()
	for i, s := range samples {
		name := strings.Join(s.HTTP, " and ")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		if i > 0 && !slices.Equal(s.HTTP, s.Agent) && slices.Equal(s.HTTP, samples[i-1].HTTP) && slices.Equal(s.Agent, samples[i-1].Agent) {
			t.Errorf("%s: HTTP passes %v, the agent %v", s, s.HTTP, s.Agent)
		}
	}
	return names
}

// says waits until HTTP and the agent answer a node's primary check so.
func (e suite) says(t *testing.T, name string, reason, agent string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		a, err := e.Ask(e.Lab.HTTP, "GET", "/node/"+name+"/primary")
		if err != nil {
			return err
		}
		line, err := e.AskAgent(name + "/primary")
		if err != nil {
			return err
		}
		if got := a.Reason(t); a.Status != http.StatusServiceUnavailable || !strings.Contains(got, reason) || !strings.HasPrefix(line, agent) {
			return fmt.Errorf("of %s HTTP says %d %q, the agent %q; want 503 %q and %q", name, a.Status, got, line, reason, agent)
		}
		return nil
	})
}

// patroniRestarted: while Patroni's port is closed the primary is out of service, because nobody
// would notice if it stopped. Then it is back, and no other node was in its place.
func (e suite) patroniRestarted(t *testing.T) {
	c := e.Healthy(t)
	w := e.RecordPrimaries(t)
	if err := e.Lab.RestartPatroni(t.Context(), c.Primary.Name); err != nil {
		t.Fatal(err)
	}
	after := e.Healthy(t)
	samples := e.watched(t, w)
	for _, name := range whoPassed(t, samples) {
		if name != "" && name != c.Primary.Name {
			t.Errorf("%s was primary, want only %s", name, c.Primary.Name)
		}
	}
	if after.Primary.Name != c.Primary.Name {
		t.Errorf("primary afterwards %s, want %s", after.Primary.Name, c.Primary.Name)
	}
	e.HAProxyShows(t, e.Normal(after))
	t.Log(harness.Gap(samples))
}

// paused: a Patroni that is restarted in pause, as for an upgrade, puts no node out of service:
// its silence is expected, and shorter than our ttl.
func (e suite) paused(t *testing.T) {
	c := e.Healthy(t)
	e.configure(t, c.Primary, `{"pause": true}`)
	defer e.configure(t, c.Primary, `{"pause": null}`)
	e.healthSays(t, "paused", true)
	for _, n := range e.Lab.Nodes { // each of them has said so
		harness.Eventually(t, 20*time.Second, func() error {
			a, err := e.Ask(e.Lab.HTTP, "GET", "/node/"+n.Name+"/patroni")
			if err == nil && !strings.Contains(string(a.Body), `"pause": true`) {
				err = fmt.Errorf("%s does not say that it is paused: %s", n.Name, a.Body)
			}
			return err
		})
	}
	w := e.RecordPrimaries(t)
	if err := e.Lab.RestartPatroni(t.Context(), c.Primary.Name); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	samples := e.watched(t, w)
	t.Logf("primaries %q, %s", whoPassed(t, samples), harness.Gap(samples))
	for _, s := range samples {
		if len(s.HTTP) > 0 && s.HTTP[0] != c.Primary.Name {
			t.Errorf("%s: %v passes, want %s", s, s.HTTP, c.Primary.Name)
		}
	}
	e.configure(t, c.Primary, `{"pause": null}`)
	e.healthSays(t, "paused", false)
	e.HAProxyShows(t, e.Normal(e.Healthy(t)))
}

// dcsFrozenFailsafe: no answer changes, not even in the moment without the lock when the DCS is
// back.
func (e suite) dcsFrozenFailsafe(t *testing.T) {
	c := e.Healthy(t)
	e.configure(t, c.Primary, `{"failsafe_mode": true}`)
	harness.Eventually(t, 20*time.Second, func() error { // its members are known when /failsafe answers
		a, err := e.Ask(c.Primary.REST, "GET", "/failsafe")
		if err == nil && (a.Status != http.StatusOK || strings.Count(string(a.Body), "http://") != len(e.Lab.Nodes)) {
			err = fmt.Errorf("/failsafe: %d %s", a.Status, a.Body)
		}
		return err
	})
	w := e.RecordPrimaries(t)
	e.freezeDCS(t, func() {
		e.healthSays(t, "failsafe", true)
		e.healthSays(t, "dcs_unseen", true)
		time.Sleep(7 * time.Second) // two of Patroni's loops
	})
	e.healthSays(t, "dcs_unseen", false)
	samples := e.watched(t, w)
	if passed := whoPassed(t, samples); !slices.Equal(passed, []string{c.Primary.Name}) {
		t.Errorf("primaries %q, want %s throughout", passed, c.Primary.Name)
	}
}

// dcsFrozen: Patroni demotes its primary, and so do we.
func (e suite) dcsFrozen(t *testing.T) {
	c := e.Healthy(t)
	w := e.RecordPrimaries(t)
	e.freezeDCS(t, func() {
		e.says(t, c.Primary.Name, "role is replica", "maint down #replica")
		e.healthSays(t, "no_primary", true)
		none := e.Normal(c)
		none[lab.WriteBackend+"/"+c.Primary.Name], none[lab.ReadBackend+"/"+c.Primary.Name] = "MAINT", "UP"
		e.HAProxyShows(t, none)
	})
	after := e.Healthy(t)
	samples := e.watched(t, w)
	if passed := whoPassed(t, samples); !slices.Equal(passed, []string{c.Primary.Name, "", after.Primary.Name}) {
		t.Errorf("primaries %q, want %s, nobody, %s", passed, c.Primary.Name, after.Primary.Name)
	}
	e.HAProxyShows(t, e.Normal(after))
	t.Log(harness.Gap(samples))
}

func (e suite) freezeDCS(t *testing.T, meanwhile func()) {
	t.Helper()
	if err := e.Lab.Freeze(t.Context(), lab.ETCD, 0); err != nil {
		t.Fatal(err)
	}
	thaw := sync.OnceFunc(func() {
		if err := e.Lab.Thaw(context.Background(), lab.ETCD); err != nil {
			t.Error(err)
		}
	})
	defer thaw()
	meanwhile()
	thaw()
}

// crashLoop: each crash puts the primary out, while Patroni's own /primary is 200 throughout.
func (e suite) crashLoop(t *testing.T) {
	const crashes = 3
	c := e.Healthy(t)
	w := e.RecordPrimaries(t)
	for range crashes {
		// Something to recover, or it is back before anybody has looked.
		if _, err := e.Lab.Query(t.Context(), c.Primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 30000)"); err != nil {
			t.Fatal(err)
		}
		if err := e.Lab.KillPostgres(t.Context(), c.Primary.Name); err != nil {
			t.Fatal(err)
		}
		e.says(t, c.Primary.Name, "PostgreSQL", "")
		if now := e.Healthy(t); now.Primary.Name != c.Primary.Name {
			t.Fatalf("primary %s, want %s: Patroni gives it time to start", now.Primary.Name, c.Primary.Name)
		}
	}
	after := e.Healthy(t)
	samples := e.watched(t, w)
	t.Logf("primaries %q, afterwards %s; %s", whoPassed(t, samples), after.Primary.Name, harness.Gap(samples))
	e.HAProxyShows(t, e.Normal(after))
}

// failedPromotion: a node that has the lock but whose promotion does not end is no primary,
// whatever its /primary says (#3603), nor after its PostgreSQL has died of that.
func (e suite) failedPromotion(t *testing.T) {
	c := e.Healthy(t)
	to := c.Replicas[0]
	resume := e.pauseReplay(t, to)
	w := e.RecordPrimaries(t)
	switched := make(chan error, 1)
	go func() { switched <- e.Lab.Switchover(t.Context(), to.Name) }()
	e.says(t, to.Name, "not promoted yet: role replica", "maint down #promoting")
	if a := e.MustAsk(t, to.REST, "GET", "/primary"); a.Status != http.StatusOK {
		t.Errorf("Patroni says %d of %s itself, want 200: else this tests nothing", a.Status, to.Name)
	}
	if got, err := e.Passing("primary"); err != nil || len(got) > 0 {
		t.Errorf("%v pass primary (%v), want nobody", got, err)
	}
	if err := e.Lab.KillPostgres(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	resume() // what was stopped ends with its postmaster
	if err := <-switched; err != nil {
		t.Log(err) // another one may have become primary
	}
	after := e.Healthy(t)
	samples := e.watched(t, w)
	if passed := whoPassed(t, samples); len(passed) < 3 || passed[0] != c.Primary.Name || passed[1] != "" {
		t.Errorf("primaries %q, want %s, then nobody", passed, c.Primary.Name)
	}
	e.HAProxyShows(t, e.Normal(after))
	t.Log(harness.Gap(samples))
}

// allGone: every server is DOWN, and all is well when the nodes are back.
func (e suite) allGone(t *testing.T) {
	c := e.Healthy(t)
	w := e.RecordPrimaries(t)
	each := func(f func(context.Context, string) error) {
		t.Helper()
		var wg sync.WaitGroup
		for _, n := range e.Lab.Nodes {
			wg.Go(func() {
				if err := f(t.Context(), n.Name); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(e.Lab.CrashNode)
	down := make(map[string]string)
	for server := range e.Normal(c) {
		down[server] = "DOWN"
	}
	e.HAProxyShows(t, down)
	for _, n := range e.Lab.Nodes {
		e.says(t, n.Name, "not answering: dial tcp", "ready down #not answering: dial tcp")
	}
	each(e.Lab.StartNode)
	after := e.Healthy(t)
	samples := e.watched(t, w)
	t.Logf("primaries %q; %s", whoPassed(t, samples), harness.Gap(samples))
	e.HAProxyShows(t, e.Normal(after))
}
