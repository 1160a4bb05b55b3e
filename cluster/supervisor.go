package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"patroniglue/node"
)

// Poller polls one node. [*node.Client] implements it, and clustertest.Poller for tests.
type Poller interface {
	// Poll polls the node once. Its error is data, a *node.Failure. Poll and Settings
	// return within Timeout, and soon after their context ends.
	Poll(context.Context) (node.Report, error)
	// Settings reads ttl and loop_wait from the cluster's dynamic configuration.
	Settings(context.Context) (node.Settings, error)
	// URL is the address of the node's REST API, for display.
	URL() string
	// Timeout bounds a poll.
	Timeout() time.Duration
}

// Config is everything that a Supervisor needs, resolved and valid.
type Config struct {
	TTL      time.Duration // how long an answer is believed, from when its poll began
	Rules    Rules
	History  int // how many changes are kept in memory; 0 = DefaultHistory
	Clusters []ClusterConfig

	// Pending says why there may be clusters and nodes that are not known yet; "" =
	// Clusters has all of them. It is set at the start, until discovery has answered.
	Pending string

	// Suspended returns how long the machine has been suspended in total, such as
	// [Suspended]; nil = the machine is never suspended. It is called for each
	// question, by many goroutines at once.
	Suspended func() time.Duration
}

// ClusterConfig is one Patroni cluster.
type ClusterConfig struct {
	Name  string
	Scope string // its Patroni scope, "" = any
	Nodes []NodeConfig
}

// NodeConfig is one node and how to poll it.
type NodeConfig struct {
	Name            string
	Member          string // the name in the member's patroni.yml, "" = any
	Postgres        string // host:port, "" = unknown
	Client          Poller
	Unlisted        time.Time // since when it is not announced any more; zero = it is, or it is configured
	Interval        time.Duration
	PrimaryInterval time.Duration // while it is the elected leader
	FastInterval    time.Duration // while the cluster is unsettled
	Fall            int           // how many hard failures, or answers 503 of a running leader, in a row are believed
}

// Supervisor watches clusters. Its methods may be called by many goroutines at
// once.
type Supervisor struct {
	watched atomic.Pointer[watched]
	subs    *subscribers

	mu  sync.Mutex      // one Apply at a time; guards what follows
	eg  *errgroup.Group // of the poll loops; nil while Run does not run
	ctx context.Context // of that Run: the poll loops that Apply starts end with it
}

// watched is the set of clusters that are watched at one time. It is never changed:
// Apply replaces it, so that a reader sees all clusters before a change or after it.
type watched struct {
	rosters  []*roster
	byName   map[string]*roster   // by cluster
	byNode   map[string][]*roster // more than one when a name repeats across clusters
	pending  string               // as configured
	replaced chan struct{}        // closed when Apply has replaced it
}

// New makes a supervisor; nothing is polled before Run.
func New(cfg Config) *Supervisor {
	s := &Supervisor{subs: &subscribers{history: newHistory(cmp.Or(cfg.History, DefaultHistory))}}
	s.watched.Store(&watched{replaced: make(chan struct{})})
	s.Apply(cfg)
	return s
}

// Run polls every node until ctx ends, and returns nil then. First polls are
// spread, one millisecond per node, at most over an interval. The last change that
// it publishes says that it stopped, so that a reader of the history knows that
// nothing else changed until then.
func (s *Supervisor) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	s.mu.Lock()
	s.eg, s.ctx = eg, ctx
	var all []*tracked
	for _, r := range s.watched.Load().rosters {
		all = append(all, r.nodes...)
	}
	s.startLocked(all)
	eg.Go(func() error { // while this runs, Apply may add to the group
		<-ctx.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.eg = nil
		return nil
	})
	s.mu.Unlock()
	err := eg.Wait()
	s.subs.publish([]Change{{At: time.Now(), Kind: KindWatching, Before: "yes", After: "no", Reason: "the supervisor stopped"}})
	return err
}

// Views returns the latest view of each cluster, in the order of the configuration.
func (s *Supervisor) Views() []*View {
	rosters := s.watched.Load().rosters
	views := make([]*View, len(rosters))
	for i, r := range rosters {
		views[i] = r.latest()
	}
	return views
}

// View returns the latest view of a cluster, or an [*UnknownError].
func (s *Supervisor) View(cluster string) (*View, error) {
	r, err := s.watched.Load().cluster(cluster)
	if err != nil {
		return nil, err
	}
	return r.latest(), nil
}

// Subscribe streams every change from now on. A subscriber that reads too slowly
// loses the changes that do not fit in its buffer.
func (s *Supervisor) Subscribe(buffer int) *Subscription { return s.subs.subscribe(buffer) }

// Pending says why there may be nodes that are not known yet; "" = all are known.
func (s *Supervisor) Pending() string { return s.watched.Load().pending }

// Ready reports whether every node is known and was polled at least once.
func (s *Supervisor) Ready() bool {
	return s.Pending() == "" && !slices.ContainsFunc(s.Views(), func(v *View) bool { return !v.polled() })
}

// WaitReady returns nil when all nodes are known and every one of them was polled
// at least once, or the context's error when ctx ended before.
func (s *Supervisor) WaitReady(ctx context.Context) error {
	w := s.watched.Load()
	for w.pending != "" {
		select {
		case <-w.replaced:
		case <-ctx.Done():
			return ctx.Err()
		}
		w = s.watched.Load()
	}
	for _, r := range w.rosters {
		for _, n := range r.nodes {
			select {
			case <-n.first:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// Refresh polls all nodes of the node's cluster at once, and ends the backoff of this
// one. Its error is an [*UnknownError] or an [*AmbiguousError].
func (s *Supervisor) Refresh(cluster, node string) error {
	r, _, err := s.watched.Load().find(cluster, node)
	if err != nil {
		return err
	}
	r.group.refresh(func(n *tracked) bool { return n.name == node })
	return nil
}

// RefreshLeader polls all nodes of the cluster at once, because its leader key moved to
// the member of that name; "" = to none. Its error is an [*UnknownError].
func (s *Supervisor) RefreshLeader(cluster, member string) error {
	r, err := s.watched.Load().cluster(cluster)
	if err != nil {
		return err
	}
	r.group.refresh(func(n *tracked) bool { return cmp.Or(n.cfg.Member, n.name) == member })
	return nil
}

func (w *watched) cluster(name string) (*roster, error) {
	r := w.byName[name]
	if r == nil {
		return nil, &UnknownError{"cluster", name, w.clusterNames(), w.pending}
	}
	return r, nil
}

// find returns the roster that has the node, and the node's index in it.
func (w *watched) find(cluster, name string) (*roster, int, error) {
	if cluster != "" {
		r, err := w.cluster(cluster)
		if err != nil {
			return nil, 0, err
		}
		i, ok := r.index[name]
		if !ok {
			return nil, 0, &UnknownError{"node", name, r.nodeNames(), w.pending}
		}
		return r, i, nil
	}
	switch rosters := w.byNode[name]; len(rosters) {
	case 1:
		return rosters[0], rosters[0].index[name], nil
	case 0:
		return nil, 0, &UnknownError{"node", name, w.nodeNames(), w.pending}
	default:
		e := &AmbiguousError{Node: name}
		for _, r := range rosters {
			e.Clusters = append(e.Clusters, r.group.name)
		}
		return nil, 0, e
	}
}

func (w *watched) nodeNames() []string { return slices.Sorted(maps.Keys(w.byNode)) }

func (w *watched) clusterNames() []string {
	var names []string
	for _, r := range w.rosters {
		names = append(names, r.group.name)
	}
	return names
}
