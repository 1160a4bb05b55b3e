package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// The members that nearly every test has.
var (
	leads, follows, fails = clustertest.Primary, clustertest.Replica, clustertest.Fails
	hangs, refuses        = clustertest.Hangs(), clustertest.Refuses()
)

// world is a supervisor that runs in a bubble, with the members that it polls.
type world struct {
	t       testing.TB
	sup     *Supervisor
	fakes   map[string]*clustertest.Poller
	changes *Subscription
	slept   time.Time // when the machine was suspended last; zero = never
	stop    func()
	lineage lineage
	without time.Duration // how long there was no primary, at the last check of the walk
}

func config(fakes ...*clustertest.Poller) Config {
	cfg := Config{
		TTL:      5 * time.Second,
		Rules:    Rules{LagHold: 10 * time.Second, SameTimeline: true},
		Clusters: []ClusterConfig{{Name: "main"}},
	}
	for _, f := range fakes {
		cfg.Clusters[0].Nodes = append(cfg.Clusters[0].Nodes, nodeConfig(f))
	}
	return cfg
}

func nodeConfig(f *clustertest.Poller) NodeConfig {
	return NodeConfig{
		Name: f.Name(), Client: f, Fall: 3,
		Interval: time.Second, PrimaryInterval: 250 * time.Millisecond, FastInterval: 100 * time.Millisecond,
	}
}

// begin runs a supervisor until the test ends; only within a bubble.
func begin(t testing.TB, cfg Config) *world {
	w := &world{t: t, sup: New(cfg), fakes: map[string]*clustertest.Poller{}}
	for _, c := range cfg.Clusters {
		for _, n := range c.Nodes {
			w.fakes[n.Name] = n.Client.(*clustertest.Poller)
		}
	}
	w.changes = w.sup.Subscribe(10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.sup.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil", err)
		}
		for _, f := range w.fakes {
			if !f.Idle() {
				t.Errorf("%s: a request is under way after Run", f.Name())
			}
		}
	})
	t.Cleanup(w.stop)
	return w
}

// three is a settled cluster whose primary is pg1, on timeline 1.
func three(t testing.TB, rules ...func(*Config)) *world {
	cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", follows(1)))
	for _, r := range rules {
		r(&cfg)
	}
	w := begin(t, cfg)
	w.settle()
	if got := w.primary(); got != "pg1" {
		t.Fatalf("primary %q, want pg1", got)
	}
	return w
}

// settle waits until polling is slow, at an odd moment.
func (w *world) settle() {
	time.Sleep(3*time.Second + time.Duration(10+rand.N(990))*time.Millisecond)
	synctest.Wait()
	w.drain()
}

// change sets what a node does while no poll of it is under way, and gives how
// many there were.
func (w *world) change(name string, s clustertest.Script) int {
	w.t.Helper()
	f := w.fakes[name]
	w.until(4*time.Second, name+" is idle", f.Idle)
	f.Set(s)
	return f.Count()
}

func (w *world) view() *View { return w.sup.Views()[0] }

func (w *world) verdict(name, check string) node.Verdict {
	w.t.Helper()
	c, err := node.ParseCheck(check, "")
	if err != nil {
		w.t.Fatal(err)
	}
	m := w.view().Member(name)
	return m.Verdict(&c, time.Now())
}

// passing returns the nodes that pass. If several pass a check of the leader, the test
// fails.
func (w *world) passing(check string) []string {
	w.t.Helper()
	c, err := node.ParseCheck(check, "")
	if err != nil {
		w.t.Fatal(err)
	}
	var passing []string
	now := time.Now()
	for _, m := range w.view().Members {
		v := m.Verdict(&c, now)
		if v.Reason == "" || v.Label == "" {
			w.t.Errorf("%s/%s: verdict %+v without a reason", m.Name, check, v)
		}
		if v.Passes() {
			passing = append(passing, m.Name)
			if !m.Entry.Fresh(now) {
				w.t.Errorf("%s/%s passes on what is too old", m.Name, check)
			}
		}
	}
	if c.Writes() && len(passing) > 1 {
		w.t.Fatalf("%v pass %s", passing, check)
	}
	return passing
}

// primary returns the node that passes primary, "" if none does.
func (w *world) primary() string {
	w.t.Helper()
	w.passing("leader")
	if p := w.passing("primary"); len(p) == 1 {
		return p[0]
	}
	return ""
}

func (w *world) tick() {
	time.Sleep(time.Millisecond)
	synctest.Wait()
}

// until waits for a condition, checks it every millisecond, and returns how long that
// took. The test ends if it takes longer than within.
func (w *world) until(within time.Duration, what string, is func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
	for !is() {
		if time.Since(start) > within {
			w.t.Fatalf("not within %s: %s (primary %q, why %q)", within, what, w.primary(), w.view().Why)
		}
		w.tick()
	}
	return time.Since(start)
}

// primaries checks every millisecond for d and returns the nodes that passed primary, in
// order.
func (w *world) primaries(d time.Duration) []string {
	w.t.Helper()
	var seen []string
	for end := time.Now().Add(d); time.Now().Before(end); w.tick() {
		if p := w.primary(); len(seen) == 0 || seen[len(seen)-1] != p {
			seen = append(seen, p)
		}
	}
	return seen
}

// drain returns the changes since the last call, without repeats.
func (w *world) drain() []Change {
	var all []Change
	for {
		select {
		case c := <-w.changes.C:
			if !c.Repeat {
				all = append(all, c)
			}
		default:
			return all
		}
	}
}

func ofKind(changes []Change, kind string) []string {
	var texts []string
	for _, c := range changes {
		if c.Kind == kind {
			texts = append(texts, c.Node+": "+c.Before+" -> "+c.After)
		}
	}
	return texts
}

// group is the first cluster.
func (s *Supervisor) group() *group { return s.watched.Load().rosters[0].group }
