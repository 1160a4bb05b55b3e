package cluster

import (
	"sync/atomic"
	"time"

	"patroniglue/node"
)

// roster is the list of a cluster's nodes under one configuration, and the latest
// view of them. The list never changes: Apply makes another roster, while the
// group, which holds what is known of the cluster, stays.
type roster struct {
	group   *group
	nodes   []*tracked     // in the order of View.Members
	index   map[string]int // by name
	byName  map[string]*tracked
	alone   bool          // only one node is watched
	timeout time.Duration // the longest that a node's poll may take
	cfg     ClusterConfig // cfg, rules and ttl are as configured
	rules   Rules
	ttl     time.Duration
	view    atomic.Pointer[View]
}

// newRoster makes a roster whose view knows nothing yet. existing returns the node
// if it is watched already, else nil.
func newRoster(g *group, cfg Config, c ClusterConfig, existing func(*NodeConfig) *tracked) *roster {
	r := &roster{
		group: g, index: make(map[string]int), byName: make(map[string]*tracked), alone: len(c.Nodes) == 1,
		cfg: c, rules: cfg.Rules, ttl: cfg.TTL,
	}
	v := &View{Cluster: c.Name, Scope: c.Scope, TTL: cfg.TTL, index: r.index}
	for i, nc := range c.Nodes {
		n := existing(&nc)
		if n == nil {
			n = newTracked(g, nc)
		}
		r.nodes = append(r.nodes, n)
		r.timeout = max(r.timeout, nc.Client.Timeout())
		r.index[nc.Name], r.byName[nc.Name] = i, n
		v.Members = append(v.Members, &Member{Name: nc.Name, URL: nc.Client.URL(), Postgres: nc.Postgres, Unlisted: nc.Unlisted})
	}
	r.view.Store(v)
	return r
}

// answer judges node i in the latest view.
func (r *roster) answer(i int, c node.Check) Answer {
	v, now := r.latest(), time.Now()
	m := v.Members[i]
	return Answer{v, m, c, m.Verdict(&c, now), now}
}

// askAll judges every node in the latest view. done says that waiting for first
// polls would change nothing.
func (r *roster) askAll(c *node.Check) (answers []Answer, done bool) {
	v, now := r.latest(), time.Now()
	done = v.polled()
	for _, m := range v.Members {
		a := Answer{v, m, *c, m.Verdict(c, now), now}
		done = done || a.Verdict.Passes()
		answers = append(answers, a)
	}
	return answers, done
}

// polled reports whether node i was polled at least once. A suspension of the
// machine does not change that, so there is no need to check for one.
func (r *roster) polled(i int) bool { return r.view.Load().Members[i].Polled }

func (r *roster) nodeNames() []string {
	var names []string
	for _, n := range r.nodes {
		names = append(names, n.name)
	}
	return names
}
