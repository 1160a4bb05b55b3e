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

// Bounds of time.
const (
	// StaleAfter is how long etcd may not be heard until that is told: a new leader
	// of etcd's own, or another endpoint, take less.
	StaleAfter = 10 * time.Second

	minBackoff = 100 * time.Millisecond // after all endpoints were tried
	maxBackoff = 10 * time.Second
)

// Settings say what to read, and from whom. They are not changed.
type Settings struct {
	Endpoints  []string    // URLs of members of one etcd cluster, http or https; at least one
	Namespaces []string    // such as "/service/", each with a slash at its end; at least one
	Scopes     []string    // empty = all
	Username   string      // "" = none
	Password   string      // of Username
	TLS        *tls.Config // of https; nil = Go's own
}

// Watcher keeps up with etcd. Its methods may be called by many at once.
type Watcher struct {
	moved    func(scope string)
	news     chan struct{}
	snapshot atomic.Pointer[Snapshot]

	mu       sync.Mutex
	settings *Settings          // guarded by mu, as is all below
	restart  context.CancelFunc // ends what runs with other settings; nil = nothing does
	status   Status
}

// Status tells how it goes.
type Status struct {
	Live     bool      // the watch works, as far as is known
	Heard    time.Time // when etcd was last heard; zero = never since the settings are these
	Began    time.Time // when these settings came
	Err      error     // why the watch last ended; nil while it is live
	Restarts uint64    // how often everything was read anew, since the start
}

// Stale says since when etcd is not heard. That is no reason to disbelieve what is
// known of nodes.
func (s *Status) Stale(now time.Time) (since time.Time, stale bool) {
	since = s.Heard
	if since.IsZero() {
		since = s.Began
	}
	return since, !s.Live && now.Sub(since) >= StaleAfter
}

// NewWatcher makes a watcher that reads nothing before Run. It calls moved each
// time that a leader key changes or goes; moved may not block.
func NewWatcher(moved func(scope string)) *Watcher {
	return &Watcher{moved: moved, news: make(chan struct{}, 1)}
}

// News tells that there is another snapshot, or another status.
func (w *Watcher) News() <-chan struct{} { return w.news }

// Snapshot gives what was listed last; nil while nothing was read with any settings.
func (w *Watcher) Snapshot() *Snapshot { return w.snapshot.Load() }

// Status tells how it goes.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Apply makes the watcher use these settings from now on; nil = read nothing. The
// same pointer changes nothing. What was listed stays until it was read anew.
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

// Run reads and watches until ctx ends. What goes wrong is in Status, and tried
// again at the next endpoint.
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

// begin gives the settings and a context that ends when there are others.
func (w *Watcher) begin(ctx context.Context) (*Settings, context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, w.restart = context.WithCancel(ctx)
	return w.settings, ctx
}

// keepUp goes from endpoint to endpoint until ctx ends. One at a time: which one
// fails, and why, is known then.
func (w *Watcher) keepUp(ctx context.Context, settings *Settings) {
	first, backoff := rand.IntN(len(settings.Endpoints)), minBackoff // several supervisors shall not all ask the same one
	var leaders map[place]string
	failures := make([]error, len(settings.Endpoints)) // of each, since etcd was last heard
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
		w.failed(settings, err, failures)
		if time.Since(began) > maxBackoff { // it did work: begin anew, with the next one
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

// heard notes that etcd has just answered.
func (w *Watcher) heard(of *Settings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if of == w.settings {
		if !w.status.Live {
			w.status.Live, w.status.Err = true, nil
			w.tell()
		}
		w.status.Heard = time.Now()
	}
}

// failed notes why a session ended, and what is known of each endpoint: the reason
// that has to be mended may be that of another one than the last.
func (w *Watcher) failed(of *Settings, err error, failures []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if of != w.settings {
		return
	}
	w.status.Restarts++
	if errors.Is(err, errReadAnew) {
		return // it is as live as it was
	}
	var texts []string
	for _, failure := range failures {
		if failure != nil {
			texts = append(texts, failure.Error())
		}
	}
	w.status.Live, w.status.Err = false, errors.New(strings.Join(texts, "; "))
	w.tell()
}

// publish shows what is listed now.
func (w *Watcher) publish(of *Settings, s *Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if of == w.settings {
		w.snapshot.Store(s)
		w.tell()
	}
}

func (w *Watcher) tell() {
	select {
	case w.news <- struct{}{}:
	default: // it is already to look
	}
}
