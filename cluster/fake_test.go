package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/node"
)

// script is how a fake member behaves.
type script struct {
	status   int
	leader   bool // GET /leader is 200 (standby leader)
	role     node.Role
	state    node.State
	timeline int64
	location int64 // of a primary; 0 = none
	replayed int64 // of a replica; 0 = none
	fields   map[string]any
	ends     time.Time // the certificate

	delay time.Duration
	hang  bool      // until the timeout
	fail  node.Kind // instead of an answer
}

const shortDelay = 2 * time.Millisecond

func leads(timeline int64) script {
	return script{status: 200, role: node.RolePrimary, state: node.StateRunning, timeline: timeline, location: 1 << 30, delay: shortDelay}
}

func follows(timeline int64) script {
	return script{status: 503, role: node.RoleReplica, state: node.StateRunning, timeline: timeline, replayed: 1 << 30, delay: shortDelay}
}

func (s script) with(field string, value any) script {
	s.fields = maps.Clone(s.fields)
	if s.fields == nil {
		s.fields = map[string]any{}
	}
	s.fields[field] = value
	return s
}

func (s script) in(state node.State) script { s.state = state; return s }

func (s script) as(role node.Role) script { s.role = role; return s }

func (s script) code(status int) script { s.status = status; return s }

func (s script) shows(ends time.Time) script { s.ends = ends; return s }

func (s script) at(replayed int64) script { s.replayed = replayed; return s }

var (
	hangs   = script{hang: true}
	refuses = script{fail: node.KindRefused}
)

func fails(kind node.Kind) script { return script{fail: kind} }

// fake is a scripted member. It insists on one request at a time.
type fake struct {
	t    testing.TB
	name string

	mu       sync.Mutex
	timeout  time.Duration
	now      script
	answer   node.Report // that now makes
	polls    []time.Time
	asks     []time.Time // of the settings
	settings func() (node.Settings, error)
	inflight int
	good     []node.Report // the latest good answers, oldest first
}

func newFake(t testing.TB, name string, now script) *fake {
	f := &fake{t: t, name: name, timeout: 3 * time.Second}
	f.set(now)
	return f
}

func (f *fake) URL() string { return "http://" + f.name + ":8008" }

func (f *fake) Timeout() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.timeout
}

// setTimeout is for polls that begin from now on.
func (f *fake) setTimeout(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timeout = d
}

func (f *fake) set(s script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = s
	if s.role != "" {
		f.answer = s.report(f.t, f.name)
	}
}

// polled gives when each poll began, from the skip-th on.
func (f *fake) polled(skip int) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.polls[skip:]...)
}

// lastGood gives the latest three good answers.
func (f *fake) lastGood() []node.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]node.Report(nil), f.good...)
}

func (f *fake) count() int { return len(f.polled(0)) }

func (f *fake) enter(list *[]time.Time) script {
	f.mu.Lock()
	defer f.mu.Unlock()
	*list = append(*list, time.Now())
	if f.inflight++; f.inflight > 1 {
		f.t.Errorf("%s: %d requests at once, want one", f.name, f.inflight)
	}
	return f.now
}

func (f *fake) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inflight--
}

func (f *fake) Poll(ctx context.Context) (node.Report, error) {
	s := f.enter(&f.polls)
	defer f.leave()
	began, timeout := time.Now(), f.Timeout()
	wait := s.delay
	if s.hang {
		wait = timeout
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return node.Report{}, &node.Failure{Kind: node.KindOther, Err: ctx.Err()}
	case <-timer.C:
	}
	if s.hang || s.delay >= timeout {
		return node.Report{}, &node.Failure{Kind: node.KindTimeout, Err: fmt.Errorf("no answer within %s", timeout)}
	}
	f.mu.Lock()
	s, r := f.now, f.answer // it answers what is so by then
	f.mu.Unlock()
	if s.hang {
		return node.Report{}, &node.Failure{Kind: node.KindCut, Err: errors.New("the connection was closed within the answer")}
	}
	if s.fail != "" {
		return node.Report{}, &node.Failure{Kind: s.fail, Err: errors.New("connection " + string(s.fail))}
	}
	r.Began, r.Took, r.Clock = began, time.Since(began), time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.good = append(f.good, r)
	f.good = f.good[max(0, len(f.good)-3):]
	return r, nil
}

// report is what the script answers, but for the time.
func (s script) report(t testing.TB, name string) node.Report {
	doc := map[string]any{
		"state": s.state, "role": s.role, "database_system_identifier": "7001", "server_version": 170000,
		"patroni": map[string]any{"version": "4.1.4", "scope": "main", "name": name},
	}
	if s.timeline > 0 {
		doc["timeline"] = s.timeline
	}
	switch {
	case s.location > 0:
		doc["xlog"] = map[string]any{"location": s.location}
	case s.replayed > 0:
		doc["xlog"] = map[string]any{"received_location": s.replayed, "replayed_location": s.replayed}
		doc["replication_state"] = "streaming"
	}
	maps.Copy(doc, s.fields)
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d, err := node.ParseDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	return node.Report{Status: s.status, Leader: s.leader, Document: d, Raw: raw, CertificateEnds: s.ends}
}

func (f *fake) Settings(ctx context.Context) (node.Settings, error) {
	f.enter(&f.asks)
	defer f.leave()
	select {
	case <-ctx.Done():
		return node.Settings{}, ctx.Err()
	case <-time.After(shortDelay):
	}
	if f.settings != nil {
		return f.settings()
	}
	return node.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second}, nil
}

// world is a supervisor that runs in a bubble, with its fake members.
type world struct {
	t       testing.TB
	sup     *Supervisor
	fakes   map[string]*fake
	changes *Subscription
	slept   time.Time // when the machine was suspended last; zero = never
	stop    func()
	without time.Duration // a primary, as counted when walk looked last
}

func config(fakes ...*fake) Config {
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

func nodeConfig(f *fake) NodeConfig {
	return NodeConfig{
		Name: f.name, Client: f, Fall: 3,
		Interval: time.Second, PrimaryInterval: 250 * time.Millisecond, FastInterval: 100 * time.Millisecond,
	}
}

// begin runs a supervisor until the test ends; only within a bubble.
func begin(t testing.TB, cfg Config) *world {
	w := &world{t: t, sup: New(cfg), fakes: map[string]*fake{}}
	for _, c := range cfg.Clusters {
		for _, n := range c.Nodes {
			w.fakes[n.Name] = n.Client.(*fake)
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
			if f.inflight != 0 {
				t.Errorf("%s: %d requests under way after Run", f.name, f.inflight)
			}
		}
	})
	t.Cleanup(w.stop)
	return w
}

// three is a settled cluster whose primary is pg1, on timeline 1.
func three(t testing.TB, rules ...func(*Config)) *world {
	cfg := config(newFake(t, "pg1", leads(1)), newFake(t, "pg2", follows(1)), newFake(t, "pg3", follows(1)))
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
func (w *world) change(name string, s script) int {
	w.t.Helper()
	f := w.fakes[name]
	w.until(4*time.Second, name+" is idle", f.idle)
	f.set(s)
	return f.count()
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

// passing gives who passes, and insists that a check of the leader passes on one
// node at most.
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

// primary gives who passes primary, "" when nobody does.
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

// until looks every millisecond and gives how long it took; what fails within is
// fatal.
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

// primaries looks every millisecond for d and gives who passed primary, in order.
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

// drain gives the changes since the last call, without repeats.
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
