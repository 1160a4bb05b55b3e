package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"patroniglue/node"
)

// Poller asks one node. *node.Client is one.
type Poller interface {
	// Poll asks once; an error is data, a *node.Failure. It ends within Timeout, as
	// Settings does, and soon after its context.
	Poll(context.Context) (node.Report, error)
	// Settings reads the cluster's ttl and loop_wait.
	Settings(context.Context) (node.Settings, error)
	// URL is the node's address, for people.
	URL() string
	// Timeout bounds a poll.
	Timeout() time.Duration
}

// Config is everything a Supervisor needs, resolved and valid.
type Config struct {
	TTL      time.Duration // how long an answer is believed
	Rules    Rules
	History  int // how many changes are kept; 0 = DefaultHistory
	Clusters []ClusterConfig
}

// ClusterConfig is one Patroni cluster.
type ClusterConfig struct {
	Name  string
	Scope string // its Patroni scope, "" = whatever the first good answer says
	Nodes []NodeConfig
}

// NodeConfig is one node and how to poll it.
type NodeConfig struct {
	Name            string
	Member          string // Patroni's name of the member, "" = any
	Postgres        string // host:port, "" = unknown
	Client          Poller
	Interval        time.Duration
	PrimaryInterval time.Duration // while it is the elected leader
	FastInterval    time.Duration // while the cluster is unsettled
	Fall            int           // hard failures, or 503 of a running leader, in a row that are believed
}

// Supervisor watches clusters. Its methods may be called by many at once.
type Supervisor struct {
	groups []*group            // read-only after New, as are the maps
	byName map[string]*group   // by cluster
	nodes  map[string][]*group // by node: more than one when a name repeats across clusters
	subs   *subscribers
}

// New makes a supervisor; nothing is polled before Run.
func New(cfg Config) *Supervisor {
	s := &Supervisor{byName: make(map[string]*group), nodes: make(map[string][]*group), subs: &subscribers{history: newHistory(cmp.Or(cfg.History, DefaultHistory))}}
	for _, c := range cfg.Clusters {
		g := newGroup(cfg, c, s.subs)
		s.groups = append(s.groups, g)
		s.byName[c.Name] = g
		for _, n := range c.Nodes {
			s.nodes[n.Name] = append(s.nodes[n.Name], g)
		}
	}
	return s
}

// Run polls every node until ctx ends. First polls are spread, a millisecond a
// node, at most over an interval. Its end is the last change, so that whoever
// reads the history later knows that until then nothing else changed.
func (s *Supervisor) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	total := 0
	for _, g := range s.groups {
		total += len(g.nodes)
	}
	for _, g := range s.groups {
		for _, n := range g.nodes {
			spread := min(time.Duration(total)*time.Millisecond, n.cfg.Interval)
			eg.Go(func() error { return g.watch(ctx, n, spread) })
		}
	}
	err := eg.Wait()
	s.subs.publish([]Change{{At: time.Now(), Kind: KindWatching, Before: "yes", After: "no", Reason: "the supervisor stopped"}})
	return err
}

// Views gives the latest view of each cluster, in the order of the configuration.
func (s *Supervisor) Views() []*View {
	views := make([]*View, len(s.groups))
	for i, g := range s.groups {
		views[i] = g.view.Load()
	}
	return views
}

// View gives the latest view of a cluster, or an [*UnknownError].
func (s *Supervisor) View(cluster string) (*View, error) {
	g := s.byName[cluster]
	if g == nil {
		return nil, &UnknownError{"cluster", cluster, s.clusterNames()}
	}
	return g.view.Load(), nil
}

// Subscribe streams every change from now on. A subscriber that does not read
// loses what exceeds its buffer.
func (s *Supervisor) Subscribe(buffer int) *Subscription { return s.subs.subscribe(buffer) }

// Ready reports whether every node was polled at least once.
func (s *Supervisor) Ready() bool {
	for _, g := range s.groups {
		if !g.view.Load().polled() {
			return false
		}
	}
	return true
}

// WaitReady returns when every node was polled at least once, or ctx ended.
func (s *Supervisor) WaitReady(ctx context.Context) error {
	for _, g := range s.groups {
		for _, n := range g.nodes {
			select {
			case <-n.first:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// Refresh makes the node's cluster be polled at once.
func (s *Supervisor) Refresh(cluster, node string) error {
	g, _, err := s.find(cluster, node)
	if err != nil {
		return err
	}
	g.refresh()
	return nil
}

// Question is a check of a node as somebody asks it.
type Question struct {
	Cluster string // "" when the node's name says it
	Node    string
	Check   string
	Query   string // raw, such as "lag=16MB"; "" = none
}

// Answer is the verdict on a Question and what it was made from.
type Answer struct {
	View    *View
	Member  *Member
	Check   node.Check
	Verdict node.Verdict
	At      time.Time // when it was given
}

// Ask answers a question from memory. Only when the node's first poll is not
// back yet it waits for that, at most as long as a poll may take. What is wrong
// with the question is an [*UnknownError], a [*node.UnknownCheckError] or a
// [*node.ParameterError].
func (s *Supervisor) Ask(ctx context.Context, q Question) (Answer, error) {
	g, i, err := s.find(q.Cluster, q.Node)
	if err != nil {
		return Answer{}, err
	}
	check, err := node.ParseCheck(q.Check, q.Query)
	if err != nil {
		return Answer{}, err
	}
	v := g.view.Load()
	if !v.Members[i].Polled {
		g.nodes[i].await(ctx)
		v = g.view.Load()
	}
	now := time.Now()
	m := v.Members[i]
	return Answer{v, m, check, m.Verdict(&check, now), now}, nil
}

// AskAll answers a check for every node of a cluster. It waits for first polls
// only as long as nobody passes. Errors are as Ask's.
func (s *Supervisor) AskAll(ctx context.Context, cluster, check, query string) ([]Answer, error) {
	g := s.byName[cluster]
	if g == nil {
		return nil, &UnknownError{"cluster", cluster, s.clusterNames()}
	}
	c, err := node.ParseCheck(check, query)
	if err != nil {
		return nil, err
	}
	if answers, passes := g.ask(&c); passes || g.view.Load().polled() {
		return answers, nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	for {
		arrival := g.nextArrival()
		answers, passes := g.ask(&c)
		if passes || g.view.Load().polled() || ctx.Err() != nil {
			return answers, nil
		}
		select {
		case <-arrival:
		case <-ctx.Done():
		}
	}
}

// ask answers for every node from the latest view.
func (g *group) ask(c *node.Check) (answers []Answer, passes bool) {
	v, now := g.view.Load(), time.Now()
	for _, m := range v.Members {
		a := Answer{v, m, *c, m.Verdict(c, now), now}
		passes = passes || a.Verdict.Passes()
		answers = append(answers, a)
	}
	return answers, passes
}

// Find gives a node and the view that it stands in, after its first poll as Ask
// does.
func (s *Supervisor) Find(ctx context.Context, cluster, node string) (*View, *Member, error) {
	g, i, err := s.find(cluster, node)
	if err != nil {
		return nil, nil, err
	}
	g.nodes[i].await(ctx)
	v := g.view.Load()
	return v, v.Members[i], nil
}

// await waits for the first poll, at most as long as it may take.
func (n *tracked) await(ctx context.Context) {
	select {
	case <-n.first:
		return
	default:
	}
	timer := time.NewTimer(n.cfg.Client.Timeout())
	defer timer.Stop()
	select {
	case <-n.first:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *Supervisor) find(cluster, name string) (*group, int, error) {
	if cluster != "" {
		g := s.byName[cluster]
		if g == nil {
			return nil, 0, &UnknownError{"cluster", cluster, s.clusterNames()}
		}
		i, ok := g.index[name]
		if !ok {
			return nil, 0, &UnknownError{"node", name, g.nodeNames()}
		}
		return g, i, nil
	}
	switch groups := s.nodes[name]; len(groups) {
	case 1:
		return groups[0], groups[0].index[name], nil
	case 0:
		return nil, 0, &UnknownError{"node", name, s.nodeNames()}
	default:
		e := &AmbiguousError{Node: name}
		for _, g := range groups {
			e.Clusters = append(e.Clusters, g.name)
		}
		return nil, 0, e
	}
}

func (g *group) nodeNames() []string {
	var names []string
	for _, n := range g.nodes {
		names = append(names, n.cfg.Name)
	}
	return names
}

func (s *Supervisor) nodeNames() []string {
	var names []string
	for name := range s.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *Supervisor) clusterNames() []string {
	var names []string
	for _, g := range s.groups {
		names = append(names, g.name)
	}
	return names
}

// UnknownError says that there is no such cluster or node, and which there are.
type UnknownError struct {
	What, Name string
	Valid      []string
}

// maxNamed bounds how many names an error lists.
const maxNamed = 20

func (e *UnknownError) Error() string {
	valid := e.Valid[:min(len(e.Valid), maxNamed)]
	text := fmt.Sprintf("unknown %s %q, want one of %s", e.What, e.Name, strings.Join(valid, ", "))
	if more := len(e.Valid) - len(valid); more > 0 {
		text += fmt.Sprintf(" or %d more", more)
	}
	return text
}

// AmbiguousError says that several clusters have a node of that name.
type AmbiguousError struct {
	Node     string
	Clusters []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("node %q is in several clusters, name one of %s with it", e.Node, strings.Join(e.Clusters, ", "))
}
