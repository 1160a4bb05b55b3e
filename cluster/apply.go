package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Apply replaces the configuration, for all clusters at once. A node that stays
// in its cluster under its name keeps all that is known of it, even if it is
// polled in another way from now on; its cluster keeps its leader, its identity
// and its history. When Apply returns, no removed node is polled any more.
func (s *Supervisor) Apply(cfg Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs.resize(cmp.Or(cfg.History, DefaultHistory))
	old := s.watched.Load()
	next := &watched{byName: make(map[string]*roster), byNode: make(map[string][]*roster), pending: cfg.Pending, replaced: make(chan struct{})}
	var starting []*tracked // nodes whose poll loop has to be started or restarted
	for _, c := range cfg.Clusters {
		var r *roster
		if was := old.byName[c.Name]; was != nil && was.same(&cfg, &c) {
			r = was // usually one of many clusters changes: the others must cost next to nothing
		} else if was != nil && was.continuedBy(&c) {
			var changed []*tracked
			r, changed = was.group.apply(cfg, c)
			starting = append(starting, changed...)
		} else {
			r = newGroup(cfg, c, s.subs).roster
			starting = append(starting, r.nodes...)
		}
		next.rosters = append(next.rosters, r)
		next.byName[c.Name] = r
		for _, n := range r.nodes {
			next.byNode[n.name] = append(next.byNode[n.name], r)
		}
	}
	s.watched.Store(next)
	close(old.replaced)
	s.endLocked(old, next)
	s.subs.publish(endedClusters(old, next))
	s.startLocked(starting) // after endLocked: a node that moves to another cluster is polled by one loop at a time
}

// endedClusters returns a change for each cluster that is no longer watched. A
// cluster that continues with other nodes, as another one, counts as ended.
func endedClusters(old, next *watched) (changes []Change) {
	for _, r := range old.rosters {
		if now := next.byName[r.group.name]; now == nil || now.group != r.group {
			changes = append(changes, Change{At: time.Now(), Cluster: r.group.name, Kind: KindWatching, Before: "yes", After: "no", Reason: "no longer configured or announced"})
		}
	}
	return changes
}

// same reports whether cfg and c change nothing in the cluster.
func (r *roster) same(cfg *Config, c *ClusterConfig) bool {
	return r.rules == cfg.Rules && r.ttl == cfg.TTL && r.cfg.Scope == c.Scope && slices.Equal(r.cfg.Nodes, c.Nodes)
}

// continuedBy reports whether c is the same cluster, so that its identity, leader
// and history are kept. If no node stays, c is another cluster of the same name.
func (r *roster) continuedBy(c *ClusterConfig) bool {
	if r.group.scope != c.Scope {
		return false
	}
	for i := range c.Nodes {
		if r.byName[c.Nodes[i].Name] != nil {
			return true
		}
	}
	return false
}

// apply replaces the group's configuration and publishes the changes that follow
// from that. It returns the nodes whose poll loop has to be started or restarted.
func (g *group) apply(cfg Config, c ClusterConfig) (r *roster, starting []*tracked) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	before := g.view.Load()
	g.known.SetTTL(cfg.TTL, now)
	r = newRoster(g, cfg, c, func(nc *NodeConfig) *tracked {
		n := g.byName[nc.Name]
		if n == nil {
			return nil
		}
		if n.cfg.Client != nc.Client {
			starting = append(starting, n)
		}
		n.reconfigureLocked(nc, &cfg.Rules)
		return n
	})
	g.dropMissingLocked(r)
	for _, n := range r.nodes {
		if g.byName[n.name] != n {
			starting = append(starting, n)
		}
	}
	g.roster = r
	d := g.elect(now)
	g.endLeaving(now)
	view := g.render(now, nil, d)
	view.carryOver(before)
	g.view.Store(view)
	g.pace(now, d, d.winner != before.Leader)
	g.wakeAll() // the intervals may have changed
	g.arrivedLocked()
	g.subs.publish(diff(before, view))
	return r, starting
}

// reconfigureLocked replaces the configuration of a node that stays.
func (n *tracked) reconfigureLocked(cfg *NodeConfig, rules *Rules) {
	if n.cfg.Client != cfg.Client {
		n.timeouts, n.inflight, n.began, n.ended = 0, time.Time{}, time.Time{}, time.Time{} // so it is due at once
	}
	n.cfg = *cfg
	n.entry = n.group.known.Get(n.name) // its TTL may have changed
	if rules.MaxLag == 0 {
		n.lagging = hold{}
	}
	if !rules.SameTimeline {
		n.behind = hold{}
	}
}

// dropMissingLocked forgets the nodes that next does not have.
func (g *group) dropMissingLocked(next *roster) {
	for _, n := range g.nodes {
		if next.byName[n.name] == n {
			continue
		}
		n.gone = true
		g.known.Forget(n.name)
		if n.name == g.leader {
			g.leader = ""
		}
	}
}

// loop is a poll loop that runs.
type loop struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

// startLocked starts the poll loops of nodes, while Run runs. A loop that polls a
// node already ends first: there is never more than one request to a node.
func (s *Supervisor) startLocked(nodes []*tracked) {
	if s.eg == nil {
		return
	}
	for _, n := range nodes {
		before := n.loop
		if before != nil {
			before.cancel()
		}
		spread := min(time.Duration(len(nodes))*time.Millisecond, n.group.interval(n))
		ctx, cancel := context.WithCancel(s.ctx)
		l := &loop{cancel, make(chan struct{})}
		n.loop = l
		s.eg.Go(func() error {
			defer close(l.done)
			defer cancel()
			if before != nil {
				<-before.done
			}
			return n.group.watch(ctx, n, spread)
		})
	}
}

// endLocked ends the poll loops of the nodes that old has and next does not, waits
// for them, and releases the questions that wait for those nodes.
func (s *Supervisor) endLocked(old, next *watched) {
	var gone []*tracked
	for _, r := range old.rosters {
		now := next.byName[r.group.name]
		for _, n := range r.nodes {
			if now == nil || now.byName[n.name] != n {
				gone = append(gone, n)
				if n.loop != nil {
					n.loop.cancel()
				}
			}
		}
	}
	for _, n := range gone {
		n.end()
		if n.loop != nil {
			<-n.loop.done
		}
	}
}

// end makes the node ignore the result of its last poll.
func (n *tracked) end() {
	n.group.mu.Lock()
	defer n.group.mu.Unlock()
	n.gone = true
	if !n.polled {
		n.polled = true
		close(n.first)
	}
}

func (g *group) interval(n *tracked) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return n.cfg.Interval
}
