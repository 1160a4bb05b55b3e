package main

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
)

// TestFaultsOfTheCluster and TestFaultsOfPostgreSQL are the lines of the table of
// faults (faults_test.go) that need a real Patroni. TestEndToEnd and
// TestBehindHAProxy have more of them: switchover, Patroni frozen, PostgreSQL
// killed, nodes crashed. Each subtest begins and ends with a healthy cluster; at
// no moment two nodes are primary.
func TestFaultsOfTheCluster(t *testing.T) {
	t.Parallel() // it mostly waits for Patroni
	e := suite{startEndToEnd(t)}
	t.Run("Patroni restarted under it", e.patroniRestarted)
	t.Run("pause", e.paused)
	t.Run("DCS frozen without failsafe mode", e.dcsFrozen)
	t.Run("DCS frozen with failsafe mode", e.dcsFrozenFailsafe) // which Patroni remembers for a while
}

func TestFaultsOfPostgreSQL(t *testing.T) {
	t.Parallel()
	e := suite{startEndToEnd(t)}
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

// healthSays waits for a reason of the cluster's health.
func (e suite) healthSays(t *testing.T, code string, is bool) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		a, err := e.ask(e.lab.HTTP, "GET", "/health")
		if err != nil {
			return err
		}
		if strings.Contains(string(a.body), `"code":"`+code+`"`) != is {
			return fmt.Errorf("/health has %s: %t, want %t: %s", code, !is, is, a.body)
		}
		return nil
	})
}

// watched ends a watch when the present has been seen as well.
func (e suite) watched(t *testing.T, w *recorder[sample]) []sample {
	t.Helper()
	time.Sleep(500 * time.Millisecond)
	samples := w.stop()
	neverTwo(t, samples)
	return samples
}

// whoPassed gives who passed primary by HTTP, one after another. In each sample
// the agent is asked after HTTP: only what both say twice in a row can disagree.
func whoPassed(t *testing.T, samples []sample) (names []string) {
	t.Helper()
	for i, s := range samples {
		name := strings.Join(s.http, " and ")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		if i > 0 && !slices.Equal(s.http, s.agent) && slices.Equal(s.http, samples[i-1].http) && slices.Equal(s.agent, samples[i-1].agent) {
			t.Errorf("%s: HTTP passes %v, the agent %v", s, s.http, s.agent)
		}
	}
	return names
}

// says waits until HTTP and the agent say so of a node's /primary.
func (e suite) says(t *testing.T, name string, reason, agent string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		a, err := e.ask(e.lab.HTTP, "GET", "/node/"+name+"/primary")
		if err != nil {
			return err
		}
		line, err := e.askAgent(name + "/primary")
		if err != nil {
			return err
		}
		if got := a.reason(t); a.status != http.StatusServiceUnavailable || !strings.Contains(got, reason) || !strings.HasPrefix(line, agent) {
			return fmt.Errorf("of %s HTTP says %d %q, the agent %q; want 503 %q and %q", name, a.status, got, line, reason, agent)
		}
		return nil
	})
}

// patroniRestarted: while nothing listens the primary is out, as nobody would
// tell if it stopped; then it is back, and nobody else was in its place.
func (e suite) patroniRestarted(t *testing.T) {
	c := e.healthy(t)
	w := e.watch(t)
	if err := e.lab.RestartPatroni(t.Context(), c.primary.Name); err != nil {
		t.Fatal(err)
	}
	after := e.healthy(t)
	samples := e.watched(t, w)
	for _, name := range whoPassed(t, samples) {
		if name != "" && name != c.primary.Name {
			t.Errorf("%s was primary, want only %s", name, c.primary.Name)
		}
	}
	if after.primary.Name != c.primary.Name {
		t.Errorf("primary afterwards %s, want %s", after.primary.Name, c.primary.Name)
	}
	e.haproxyShows(t, e.normal(after))
	t.Log(gap(samples))
}

// paused: a Patroni that is restarted in pause, as for an upgrade, takes nobody
// out of service: its silence is expected, and shorter than our TTL.
func (e suite) paused(t *testing.T) {
	c := e.healthy(t)
	e.configure(t, c.primary, `{"pause": true}`)
	defer e.configure(t, c.primary, `{"pause": null}`)
	e.healthSays(t, "paused", true)
	for _, n := range e.lab.Nodes { // each of them has said so
		eventually(t, 20*time.Second, func() error {
			a, err := e.ask(e.lab.HTTP, "GET", "/node/"+n.Name+"/patroni")
			if err == nil && !strings.Contains(string(a.body), `"pause": true`) {
				err = fmt.Errorf("%s does not say that it is paused: %s", n.Name, a.body)
			}
			return err
		})
	}
	w := e.watch(t)
	if err := e.lab.RestartPatroni(t.Context(), c.primary.Name); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	samples := e.watched(t, w)
	t.Logf("primaries %q, %s", whoPassed(t, samples), gap(samples))
	for _, s := range samples {
		if len(s.http) > 0 && s.http[0] != c.primary.Name {
			t.Errorf("%s: %v passes, want %s", s, s.http, c.primary.Name)
		}
	}
	e.configure(t, c.primary, `{"pause": null}`)
	e.healthSays(t, "paused", false)
	e.haproxyShows(t, e.normal(e.healthy(t)))
}

// dcsFrozenFailsafe: nobody notices, not even the moment without the lock when
// the DCS is back.
func (e suite) dcsFrozenFailsafe(t *testing.T) {
	c := e.healthy(t)
	e.configure(t, c.primary, `{"failsafe_mode": true}`)
	eventually(t, 20*time.Second, func() error { // its members are known when /failsafe answers
		a, err := e.ask(c.primary.REST, "GET", "/failsafe")
		if err == nil && (a.status != http.StatusOK || strings.Count(string(a.body), "http://") != len(e.lab.Nodes)) {
			err = fmt.Errorf("/failsafe: %d %s", a.status, a.body)
		}
		return err
	})
	w := e.watch(t)
	e.freezeDCS(t, func() {
		e.healthSays(t, "failsafe", true)
		e.healthSays(t, "dcs_unseen", true)
		time.Sleep(7 * time.Second) // two of Patroni's loops
	})
	e.healthSays(t, "dcs_unseen", false)
	samples := e.watched(t, w)
	if passed := whoPassed(t, samples); !slices.Equal(passed, []string{c.primary.Name}) {
		t.Errorf("primaries %q, want %s throughout", passed, c.primary.Name)
	}
}

// dcsFrozen: Patroni makes its primary a replica, and so do we.
func (e suite) dcsFrozen(t *testing.T) {
	c := e.healthy(t)
	w := e.watch(t)
	e.freezeDCS(t, func() {
		e.says(t, c.primary.Name, "role is replica", "maint down #replica")
		e.healthSays(t, "no_primary", true)
		none := e.normal(c)
		none[lab.WriteBackend+"/"+c.primary.Name], none[lab.ReadBackend+"/"+c.primary.Name] = "MAINT", "UP"
		e.haproxyShows(t, none)
	})
	after := e.healthy(t)
	samples := e.watched(t, w)
	if passed := whoPassed(t, samples); !slices.Equal(passed, []string{c.primary.Name, "", after.primary.Name}) {
		t.Errorf("primaries %q, want %s, nobody, %s", passed, c.primary.Name, after.primary.Name)
	}
	e.haproxyShows(t, e.normal(after))
	t.Log(gap(samples))
}

func (e suite) freezeDCS(t *testing.T, meanwhile func()) {
	t.Helper()
	if err := e.lab.Freeze(t.Context(), lab.ETCD, 0); err != nil {
		t.Fatal(err)
	}
	thaw := sync.OnceFunc(func() {
		if err := e.lab.Thaw(context.Background(), lab.ETCD); err != nil {
			t.Error(err)
		}
	})
	defer thaw()
	meanwhile()
	thaw()
}

// crashLoop: each crash is seen, while Patroni's own /primary is 200 throughout.
func (e suite) crashLoop(t *testing.T) {
	const crashes = 3
	c := e.healthy(t)
	w := e.watch(t)
	for range crashes {
		// Something to recover, or it is back before anybody has looked.
		if _, err := e.lab.Query(t.Context(), c.primary.SQL, "insert into lab (said) select repeat('x', 1000) from generate_series(1, 30000)"); err != nil {
			t.Fatal(err)
		}
		if err := e.lab.KillPostgres(t.Context(), c.primary.Name); err != nil {
			t.Fatal(err)
		}
		e.says(t, c.primary.Name, "PostgreSQL", "")
		if now := e.healthy(t); now.primary.Name != c.primary.Name {
			t.Fatalf("primary %s, want %s: Patroni gives it time to start", now.primary.Name, c.primary.Name)
		}
	}
	after := e.healthy(t)
	samples := e.watched(t, w)
	t.Logf("primaries %q, afterwards %s; %s", whoPassed(t, samples), after.primary.Name, gap(samples))
	e.haproxyShows(t, e.normal(after))
}

// failedPromotion: a node that has the lock but does not get on with its
// promotion is no primary, whatever its /primary says (#3603); when its
// PostgreSQL dies of that, it is none either.
func (e suite) failedPromotion(t *testing.T) {
	c := e.healthy(t)
	to := c.replicas[0]
	resume := e.pauseReplay(t, to)
	w := e.watch(t)
	switched := make(chan error, 1)
	go func() { switched <- e.lab.Switchover(t.Context(), to.Name) }()
	e.says(t, to.Name, "not promoted yet: role replica", "maint down #promoting")
	if a := e.must(t, to.REST, "GET", "/primary"); a.status != http.StatusOK {
		t.Errorf("Patroni says %d of %s itself, want 200: else this tests nothing", a.status, to.Name)
	}
	if got, err := e.passing("primary"); err != nil || len(got) > 0 {
		t.Errorf("%v pass primary (%v), want nobody", got, err)
	}
	if err := e.lab.KillPostgres(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	resume() // what was stopped ends with its postmaster
	if err := <-switched; err != nil {
		t.Log(err) // another one may have become primary
	}
	after := e.healthy(t)
	samples := e.watched(t, w)
	if passed := whoPassed(t, samples); len(passed) < 3 || passed[0] != c.primary.Name || passed[1] != "" {
		t.Errorf("primaries %q, want %s, then nobody", passed, c.primary.Name)
	}
	e.haproxyShows(t, e.normal(after))
	t.Log(gap(samples))
}

// allGone: everything is DOWN, and all is well when they are back.
func (e suite) allGone(t *testing.T) {
	c := e.healthy(t)
	w := e.watch(t)
	each := func(f func(context.Context, string) error) {
		t.Helper()
		var wg sync.WaitGroup
		for _, n := range e.lab.Nodes {
			wg.Go(func() {
				if err := f(t.Context(), n.Name); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(e.lab.CrashNode)
	down := make(map[string]string)
	for server := range e.normal(c) {
		down[server] = "DOWN"
	}
	e.haproxyShows(t, down)
	for _, n := range e.lab.Nodes {
		e.says(t, n.Name, "not answering: dial tcp", "ready down #not answering: dial tcp")
	}
	each(e.lab.StartNode)
	after := e.healthy(t)
	samples := e.watched(t, w)
	t.Logf("primaries %q; %s", whoPassed(t, samples), gap(samples))
	e.haproxyShows(t, e.normal(after))
}
