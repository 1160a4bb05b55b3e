package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Times of the watch.
const (
	// StaleAfter is how long etcd may not answer before that is reported. Electing a
	// new leader of etcd, or switching to another endpoint, takes less.
	StaleAfter = 10 * time.Second

	minBackoff = 100 * time.Millisecond // of the wait after all endpoints were tried
	maxBackoff = 10 * time.Second
)

// Settings say what to read, and from which etcd. They are not changed.
type Settings struct {
	Endpoints  []string    // URLs of members of one etcd cluster, http or https; at least one
	Namespaces []string    // such as "/service/", each with a slash at its end; at least one
	Scopes     []string    // the only ones that are read; empty = all
	Username   string      // "" = none
	Password   string      // of Username
	TLS        *tls.Config // for https; nil = Go's defaults
}

// Watcher keeps an up-to-date snapshot of what etcd lists. Its methods may be called
// by many goroutines at once.
type Watcher struct {
	leaderMoved func(scope, leader string)
	news        chan struct{}
	snapshot    atomic.Pointer[Snapshot]

	mu       sync.Mutex
	settings *Settings          // guarded by mu, as is all below
	restart  context.CancelFunc // ends the session with the present settings; nil before Run
	status   Status
}

// Status is the state of the connection to etcd.
type Status struct {
	Live     bool      // the watch works
	Heard    time.Time // when etcd last answered; zero = never with these settings
	Began    time.Time // when these settings were applied
	Err      error     // why the watch last ended; nil while it is live
	Restarts uint64    // how often everything was read again, since the start
}

// Stale reports whether etcd has not answered for [StaleAfter], and since when. That is
// no reason to disbelieve what is known of nodes.
func (s *Status) Stale(now time.Time) (since time.Time, stale bool) {
	since = s.Heard
	if since.IsZero() {
		since = s.Began
	}
	return since, !s.Live && now.Sub(since) >= StaleAfter
}

// NewWatcher makes a watcher that reads nothing before Run. It calls leaderMoved each
// time that the leader key of a scope changes, with the name in it, or is removed, with
// ""; leaderMoved must not block.
func NewWatcher(leaderMoved func(scope, leader string)) *Watcher {
	return &Watcher{leaderMoved: leaderMoved, news: make(chan struct{}, 1)}
}

// News receives when the snapshot or the status has changed.
func (w *Watcher) News() <-chan struct{} { return w.news }

// Snapshot returns the latest snapshot; nil before the first, and after Apply(nil).
func (w *Watcher) Snapshot() *Snapshot { return w.snapshot.Load() }

// Status returns the state of the connection to etcd.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Apply replaces the settings; nil = read nothing. The same pointer changes nothing.
// The snapshot stays until all was read with the new settings.
func (w *Watcher) Apply(s *Settings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s == w.settings {
		return
	}
	w.settings = s
	w.status = Status{Began: time.Now(), Restarts: w.status.Restarts}
	if s == nil {
		w.snapshot.Store(nil)
	}
	if w.restart != nil {
		w.restart()
	}
}

// Run reads and watches until ctx ends, and returns nil then. After an error, which
// Status has, it tries the next endpoint.
func (w *Watcher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		settings, ctx := w.begin(ctx)
		if settings == nil {
			<-ctx.Done()
			continue
		}
		w.keepUp(ctx, settings)
	}
	return nil
}

// begin returns the settings and a context that ends when they are replaced.
func (w *Watcher) begin(ctx context.Context) (*Settings, context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, w.restart = context.WithCancel(ctx)
	return w.settings, ctx
}

// keepUp runs sessions with one endpoint after the other until ctx ends. With one at a
// time it is known which endpoint failed, and why.
func (w *Watcher) keepUp(ctx context.Context, settings *Settings) {
	first, backoff := rand.IntN(len(settings.Endpoints)), minBackoff // a random one, so that several supervisors do not all use the same one
	var leaders map[place]string
	failures := make([]error, len(settings.Endpoints)) // of each endpoint, since etcd last answered
	for tried := 1; ; tried++ {
		at := (first + tried) % len(settings.Endpoints)
		s := &session{w: w, settings: settings, endpoint: settings.Endpoints[at], leaders: leaders}
		began := time.Now()
		err := s.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if s.revisions != nil { // all was read
			leaders = s.table.leaders
			clear(failures)
		}
		failures[at] = err
		w.recordFailure(settings, err, failures)
		if time.Since(began) > maxBackoff { // the session worked: start again with the next endpoint
			first, tried, backoff = first+tried, 0, minBackoff
		}
		if tried%len(settings.Endpoints) != 0 {
			continue
		}
		timer := time.NewTimer(time.Duration(float64(backoff) * (0.8 + 0.4*rand.Float64())))
		backoff = min(2*backoff, maxBackoff)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// recordAnswer records that etcd has just answered.
func (w *Watcher) recordAnswer(settings *Settings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if settings == w.settings {
		if !w.status.Live {
			w.status.Live, w.status.Err = true, nil
			w.notify()
		}
		w.status.Heard = time.Now()
	}
}

// recordFailure records why a session ended, with the latest failure of each endpoint:
// the one to mend may be another than the last.
func (w *Watcher) recordFailure(settings *Settings, err error, failures []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if settings != w.settings {
		return
	}
	w.status.Restarts++
	if errors.Is(err, errReread) {
		return // planned: the watch counts as live meanwhile
	}
	var texts []string
	for _, failure := range failures {
		if failure != nil {
			texts = append(texts, failure.Error())
		}
	}
	w.status.Live, w.status.Err = false, errors.New(strings.Join(texts, "; "))
	w.notify()
}

// publish replaces the snapshot.
func (w *Watcher) publish(settings *Settings, s *Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if settings == w.settings {
		w.snapshot.Store(s)
		w.notify()
	}
}

func (w *Watcher) notify() {
	select {
	case w.news <- struct{}{}:
	default: // a notice is already waiting
	}
}
