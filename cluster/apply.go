package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Apply makes the supervisor watch what cfg says from now on, all of it at once.
// A node that stays in its cluster under its name keeps all that is known of it,
// however it is polled then; its cluster keeps its leader, its identity and its
// history. When Apply returns nothing polls those that are gone.
func (s *Supervisor) Apply(cfg Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs.resize(cmp.Or(cfg.History, DefaultHistory))
	old := s.watched.Load()
	next := &watched{byName: make(map[string]*roster), byNode: make(map[string][]*roster), pending: cfg.Pending, over: make(chan struct{})}
	var began []*tracked // whose poll loop has to begin, or to begin anew
	for _, c := range cfg.Clusters {
		var r *roster
		if was := old.byName[c.Name]; was != nil && was.same(&cfg, &c) {
			r = was // one of a thousand clusters changes: the others cost next to nothing
		} else if was != nil && was.continuedBy(&c) {
			var changed []*tracked
			r, changed = was.group.apply(cfg, c)
			began = append(began, changed...)
		} else {
			r = newGroup(cfg, c, s.subs).roster
			began = append(began, r.nodes...)
		}
		next.rosters = append(next.rosters, r)
		next.byName[c.Name] = r
		for _, n := range r.nodes {
			next.byNode[n.name] = append(next.byNode[n.name], r)
		}
	}
	s.watched.Store(next)
	close(old.over)
	s.endLocked(old, next)
	s.subs.publish(ended(old, next))
	s.startLocked(began) // at last: a node that moves is polled by one loop at a time
}

// ended tells of the clusters that nobody watches any more, those that go on as
// another one included.
func ended(old, next *watched) (changes []Change) {
	for _, r := range old.rosters {
		if now := next.byName[r.group.name]; now == nil || now.group != r.group {
			changes = append(changes, Change{At: time.Now(), Cluster: r.group.name, Kind: KindWatching, Before: "yes", After: "no", Reason: "not configured any more, nor announced"})
		}
	}
	return changes
}

// same reports whether nothing of the cluster changes.
func (r *roster) same(cfg *Config, c *ClusterConfig) bool {
	return r.rules == cfg.Rules && r.ttl == cfg.TTL && r.cfg.Scope == c.Scope && slices.Equal(r.cfg.Nodes, c.Nodes)
}

// continuedBy: where no node stays it is another cluster of that name, with
// another identity.
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

// apply makes the group watch what c says, and publishes what follows from that.
// It gives the nodes whose loop has to begin.
func (g *group) apply(cfg Config, c ClusterConfig) (r *roster, began []*tracked) {
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
			n.timeouts, n.inflight, n.began, n.ended = 0, time.Time{}, time.Time{}, time.Time{} // so it is due at once
			began = append(began, n)
		}
		n.cfg = *nc
		n.entry = g.known.Get(n.name)
		if cfg.Rules.MaxLag == 0 {
			n.lagging = hold{}
		}
		if !cfg.Rules.SameTimeline {
			n.behind = hold{}
		}
		return n
	})
	for _, n := range g.nodes {
		if r.byName[n.name] != n {
			n.gone = true
			g.known.Forget(n.name)
			if n.name == g.leader {
				g.leader = ""
			}
		}
	}
	for _, n := range r.nodes {
		if g.byName[n.name] != n {
			began = append(began, n)
		}
	}
	g.roster = r
	d := g.elect(now)
	g.endLeaving(now)
	view := g.render(now, nil, d)
	view.follow(before)
	g.view.Store(view)
	g.pace(now, d, d.winner != before.Leader)
	g.wakeAll() // intervals may be others
	g.arrivedLocked()
	g.subs.publish(diff(before, view))
	return r, began
}

// loop is a poll loop that runs.
type loop struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

// startLocked starts the poll loops of nodes, while Run runs. One that polls a
// node already ends first: there is never more than one request to it.
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

// endLocked ends what next has not of old, and lets those go who wait for it.
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

// end drops whatever a last poll brings.
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
