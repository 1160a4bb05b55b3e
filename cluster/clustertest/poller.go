// Package clustertest has the Poller with which tests play the members of a cluster: cluster's own tests and those of
// every package that is given a supervisor.
//
//	pg1 := clustertest.New(t, "pg1", clustertest.Primary(1))
//	sup := cluster.New(cluster.Config{..., cluster.NodeConfig{Name: "pg1", Client: pg1, ...}})
//	...
//	pg1.Set(clustertest.Refuses()) // it fell
//
// It opens no socket, so it works under testing/synctest. A member with a real socket is in node/nodetest.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"patroniglue/node"
)

// DefaultTimeout bounds a poll of a new [Poller].
const DefaultTimeout = 3 * time.Second

// Poller is a cluster.Poller that plays one member by its [Script]. A second request while one is under way fails the
// test. Its methods may be called by many goroutines at once.
type Poller struct {
	t    testing.TB // read-only
	name string     // read-only

	mu            sync.Mutex // guards what follows
	timeout       time.Duration
	script        Script
	scriptChanged chan struct{} // closed by Set
	report        node.Report   // that script makes
	reportErr     error
	settings      func() (node.Settings, error)
	polls         []time.Time
	settingsReads []time.Time
	inflight      int
	good          []node.Report
}

// New makes a member of the name, which its document bears too, and which behaves as s until [Poller.Set].
func New(t testing.TB, name string, s Script) *Poller {
	p := &Poller{
		t: t, name: name, timeout: DefaultTimeout, scriptChanged: make(chan struct{}),
		settings: func() (node.Settings, error) {
			return node.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second}, nil // Patroni's defaults
		},
	}
	p.Set(s)
	return p
}

// Name is the member's name.
func (p *Poller) Name() string { return p.name }

// URL is http://NAME:8008.
func (p *Poller) URL() string { return "http://" + p.name + ":8008" }

// Timeout bounds each poll.
func (p *Poller) Timeout() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.timeout
}

// SetTimeout bounds polls that begin from now on.
func (p *Poller) SetTimeout(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = d
}

// Set replaces the script. A poll that is under way answers by the new one when its delay is over, as Patroni
// answers what holds by then.
func (p *Poller) Set(s Script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = s
	if s.Document != "" || s.Role != "" {
		p.report, p.reportErr = s.report(p.name)
	}
	close(p.scriptChanged)
	p.scriptChanged = make(chan struct{})
}

// SetSettings replaces what Settings returns, after [ShortDelay]; a new Poller has Patroni's defaults.
func (p *Poller) SetSettings(settings func() (node.Settings, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings = settings
}

// Polls returns when each poll began, oldest first, without the first skip.
func (p *Poller) Polls(skip int) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.polls[skip:])
}

// Count returns how many polls began.
func (p *Poller) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.polls)
}

// SettingsReads returns how many times the settings were asked for.
func (p *Poller) SettingsReads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.settingsReads)
}

// Idle reports whether no request is under way.
func (p *Poller) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inflight == 0
}

// LastGood returns the latest three answers that were no failure, oldest first.
func (p *Poller) LastGood() []node.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.good)
}

// Poll answers by the script. A failure is a [*node.Failure].
func (p *Poller) Poll(ctx context.Context) (node.Report, error) {
	p.enter(&p.polls)
	defer p.leave()
	began := time.Now()
	s, changed, timeout := p.now()
	if s.Deaf {
		<-changed
		s, _, _ = p.now()
	}
	wait := s.Delay
	if s.Hang {
		wait = timeout
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return node.Report{}, &node.Failure{Kind: node.KindOther, Err: ctx.Err()}
	case <-timer.C:
	}
	if s.Hang || s.Delay >= timeout {
		return node.Report{}, &node.Failure{Kind: node.KindTimeout, Err: fmt.Errorf("no answer within %s", timeout), Unconnected: s.Drop}
	}
	return p.answer(began)
}

// now returns the script, a channel that the next Set closes, and the timeout.
func (p *Poller) now() (Script, <-chan struct{}, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.script, p.scriptChanged, p.timeout
}

// answer is what the script, as it is at the end of a poll, makes of the poll.
func (p *Poller) answer(began time.Time) (node.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s := &p.script; {
	case s.Hang || s.Deaf: // the member froze while it answered
		return node.Report{}, &node.Failure{Kind: node.KindCut, Err: errors.New("the connection was closed within the answer")}
	case s.Fail != "":
		return node.Report{}, &node.Failure{Kind: s.Fail, Err: errors.New("connection " + string(s.Fail))}
	case p.reportErr != nil:
		return node.Report{}, p.reportErr
	}
	r := p.report
	r.Began, r.Took, r.Clock = began, time.Since(began), time.Now()
	p.good = append(p.good, r)
	p.good = p.good[max(0, len(p.good)-3):]
	return r, nil
}

// Settings returns what SetSettings set.
func (p *Poller) Settings(ctx context.Context) (node.Settings, error) {
	p.enter(&p.settingsReads)
	defer p.leave()
	select {
	case <-ctx.Done():
		return node.Settings{}, ctx.Err()
	case <-time.After(ShortDelay):
	}
	p.mu.Lock()
	settings := p.settings
	p.mu.Unlock()
	return settings()
}

// enter records a request, and fails the test when another one is under way.
func (p *Poller) enter(requests *[]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*requests = append(*requests, time.Now())
	if p.inflight++; p.inflight > 1 {
		p.t.Errorf("%s: %d requests at once, want one", p.name, p.inflight)
	}
}

func (p *Poller) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inflight--
}
