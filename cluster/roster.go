package cluster

import (
	"sync/atomic"
	"time"

	"patroniglue/node"
)

// roster is the nodes of a cluster as one configuration has them, and the latest
// view of them. Its nodes are the same for ever: another configuration makes
// another roster, which is shown together with those of all clusters, while the
// group, which knows what the cluster does, goes on.
type roster struct {
	group   *group
	nodes   []*tracked     // as View.Members
	index   map[string]int // by name
	byName  map[string]*tracked
	alone   bool          // one node only is watched
	timeout time.Duration // the longest that a node's poll may take
	cfg     ClusterConfig // as configured, as are rules and ttl
	rules   Rules
	ttl     time.Duration
	view    atomic.Pointer[View]
}

// newRoster makes a roster whose view knows nothing yet. kept gives the node
// that is watched already, or nil.
func newRoster(g *group, cfg Config, c ClusterConfig, kept func(*NodeConfig) *tracked) *roster {
	r := &roster{
		group: g, index: make(map[string]int), byName: make(map[string]*tracked), alone: len(c.Nodes) == 1,
		cfg: c, rules: cfg.Rules, ttl: cfg.TTL,
	}
	v := &View{Cluster: c.Name, Scope: c.Scope, TTL: cfg.TTL, index: r.index}
	for i, nc := range c.Nodes {
		n := kept(&nc)
		if n == nil {
			n = newTracked(g, nc)
		}
		r.nodes = append(r.nodes, n)
		r.timeout = max(r.timeout, nc.Client.Timeout())
		r.index[nc.Name], r.byName[nc.Name] = i, n
		v.Members = append(v.Members, &Member{Name: nc.Name, URL: nc.Client.URL(), Postgres: nc.Postgres, Left: nc.Left})
	}
	r.view.Store(v)
	return r
}

// answer answers for node i from the latest view.
func (r *roster) answer(i int, c node.Check) Answer {
	v, now := r.latest(), time.Now()
	m := v.Members[i]
	return Answer{v, m, c, m.Verdict(&c, now), now}
}

// ask answers for every node from the latest view. It is done when waiting for
// first polls would change nothing.
func (r *roster) ask(c *node.Check) (answers []Answer, done bool) {
	v, now := r.latest(), time.Now()
	done = v.polled()
	for _, m := range v.Members {
		a := Answer{v, m, *c, m.Verdict(c, now), now}
		done = done || a.Verdict.Passes()
		answers = append(answers, a)
	}
	return answers, done
}

// polled reports whether node i was polled at least once. What suspends the
// machine does not change that, so it need not be looked for.
func (r *roster) polled(i int) bool { return r.view.Load().Members[i].Polled }

func (r *roster) nodeNames() []string {
	var names []string
	for _, n := range r.nodes {
		names = append(names, n.name)
	}
	return names
}
