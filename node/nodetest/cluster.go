package nodetest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Cluster is a set of simulated members that share a scope, a system identifier and a leader lock.
//
// Each method changes all members at once: no answer ever shows half a switchover. The methods whose names end in Slowly go
// through the phases that were measured on real clusters; with Play a test makes phases of its own.
type Cluster struct {
	scope string
	nodes []*Node // read-only after New
	done  chan struct{}
	once  sync.Once

	edit sync.Mutex            // serialises changes; held while a change is made, never while answering
	now  atomic.Pointer[world] // the present world, which is never changed but replaced
}

// NewCluster starts one member per name with default options: the first leads, the others stream from it.
func NewCluster(scope string, names ...string) *Cluster { return Options{}.NewCluster(scope, names...) }

// NewCluster starts one member per name: the first leads, the others stream from it.
func (o Options) NewCluster(scope string, names ...string) *Cluster {
	states := make([]State, len(names))
	for i, name := range names {
		if i == 0 {
			states[i] = Primary(scope, name)
		} else {
			states[i] = Replica(scope, name)
		}
	}
	return o.newCluster(scope, states...)
}

func (o Options) newCluster(scope string, states ...State) *Cluster {
	c := &Cluster{scope: scope, done: make(chan struct{})}
	w := &world{members: map[string]*State{}, expired: map[string]bool{}, config: maps.Clone(o.Config), history: slices.Clone(o.History)}
	if o.Config == nil {
		w.config = defaultConfig()
	}
	for _, s := range states {
		if w.members[s.Name] != nil {
			panic(fmt.Sprintf("nodetest: two members named %q", s.Name))
		}
		if o.Version != "" {
			s.Version = o.Version
		}
		if s.Lock {
			w.leader = s.Name
		}
		w.members[s.Name] = new(s.clone())
	}
	w.view = w.dcs()
	c.now.Store(w) // before the first request can come
	for _, s := range states {
		c.nodes = append(c.nodes, newNode(c, s.Name, o))
	}
	c.change(func(w *world) {
		for _, n := range c.nodes {
			if s := w.members[n.name]; s.APIURL == "" {
				s.APIURL = n.URL() + "/patroni"
			}
		}
		w.stream()
	})
	return c
}

// Close closes all members and returns when every goroutine has ended.
func (c *Cluster) Close() {
	c.once.Do(func() { close(c.done) })
	for _, n := range c.nodes {
		n.Close()
	}
}

// Nodes are the members in the order in which they were named.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// Node is the member with this name. An unknown name panics.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	panic(fmt.Sprintf("nodetest: cluster %q has no member %q", c.scope, name))
}

// Leader is the member that the leader key names, nil without a key.
func (c *Cluster) Leader() *Node {
	if name := c.now.Load().leader; name != "" {
		return c.Node(name)
	}
	return nil
}

// SetConfig changes the dynamic configuration that /config shows; ttl and maximum_lag_on_failover also count in verdicts.
// Pause and standby clusters have methods of their own, because they also change the members' states.
func (c *Cluster) SetConfig(f func(config map[string]any)) {
	c.change(func(w *world) { f(w.config) })
}

// change publishes a changed copy of the present world.
func (c *Cluster) change(f func(*world)) {
	c.edit.Lock()
	defer c.edit.Unlock()
	old := c.now.Load()
	w := old.clone()
	f(w)
	w.settle(old.members)
	w.view = w.dcs()
	c.now.Store(w)
}

// Write writes WAL on the leader. Replicas that stream receive it at once and replay it as far behind as they were.
func (c *Cluster) Write(bytes int64) { c.change(func(w *world) { w.write(bytes) }) }

// Switchover makes another member the leader in one instant.
func (c *Cluster) Switchover(to string) {
	c.Node(to)
	c.change(func(w *world) {
		if w.leader == to {
			return
		}
		c.expire(w) // killed members cannot become replicas
		if old := w.leader; old != "" {
			w.demote(old)
			w.members[old].State, w.members[old].SQL = "running", true
		}
		w.lock(to)
		w.promote(to)
		w.stream()
	})
}

// Kill stops a member and its Postgres: its port refuses connections. Its keys stay in the DCS until Promote or Expire, as
// they do for up to a ttl.
func (c *Cluster) Kill(name string) {
	c.Node(name).SetFault(Refuse)
	c.change(func(w *world) {
		s := w.members[name]
		s.State, s.SQL, s.Lock = "stopped", false, false
		if w.leader == name {
			w.unstream()
		}
		w.stream()
	})
}

// Expire removes the keys of killed members from the DCS, also the leader key if one of them held it.
func (c *Cluster) Expire() {
	c.change(func(w *world) { c.expire(w) })
}

func (c *Cluster) expire(w *world) {
	for _, n := range c.nodes {
		if n.Fault() == Refuse {
			w.expired[n.name] = true
			if w.leader == n.name {
				w.lock("")
			}
		}
	}
}

// Promote gives the lock to a member and ends its recovery. The leader before only loses the lock; if it is alive, use
// Switchover instead.
func (c *Cluster) Promote(name string) {
	c.Node(name)
	c.change(func(w *world) {
		c.expire(w)
		w.lock(name)
		w.promote(name)
		w.stream()
	})
}

// Failover kills the leader and lets another member take over in the same instant.
func (c *Cluster) Failover(to string) {
	if leader := c.Leader(); leader != nil && leader.name != to {
		c.Kill(leader.name)
	}
	c.Promote(to)
}

// Revive starts a killed member again: as a replica of the leader, or as the leader if it still holds the leader key.
func (c *Cluster) Revive(name string) {
	c.change(func(w *world) {
		s := w.members[name]
		delete(w.expired, name)
		if w.leader == name {
			s.Lock = true
		} else {
			w.demote(name)
		}
		s.State, s.SQL, s.Started = "running", true, time.Now()
		w.stream()
	})
	c.Node(name).SetFault(None)
}

// BeginPromotion gives the lock to a replica whose promotion then does not end: /primary and /replica are both 200, the role
// stays replica (#3603). Promote ends it. The leader before becomes a replica.
func (c *Cluster) BeginPromotion(name string) {
	c.Node(name)
	c.change(func(w *world) {
		c.expire(w)
		if old := w.leader; old != "" && old != name {
			w.demote(old)
			w.members[old].State, w.members[old].SQL = "running", true
		}
		w.lock(name)
		w.unstream()
	})
}

// SplitBrain makes the named members running primaries that all hold the lock, each on its own timeline, which no Patroni
// should do. unlocked sets cluster_unlocked, as in members without a view of the DCS.
func (c *Cluster) SplitBrain(unlocked bool, names ...string) {
	c.change(func(w *world) {
		lsn := w.position()
		for _, name := range names {
			s := w.members[c.Node(name).name]
			s.State, s.SQL, s.Role, s.Lock, s.Unlocked = "running", true, "primary", true, unlocked
			s.Location, s.Received, s.Replayed, s.ReplicationState, s.LatestEnd = max(s.Location, lsn), nil, nil, "", 0
		}
	})
}

// SetPause switches the maintenance mode on or off.
func (c *Cluster) SetPause(on bool) {
	c.change(func(w *world) {
		setOrDelete(w.config, "pause", on, true)
		for _, s := range w.members {
			s.Pause = on
		}
	})
}

// SetStandbyCluster makes the leader a standby leader, which follows another cluster, or promotes it again.
func (c *Cluster) SetStandbyCluster(on bool) {
	c.change(func(w *world) {
		setOrDelete(w.config, "standby_cluster", on, map[string]any{"host": "203.0.113.1", "port": 5432})
		lsn := w.position()
		for _, s := range w.members {
			s.StandbyCluster = on
		}
		leader := w.members[w.leader]
		switch {
		case leader == nil:
			return
		case on:
			leader.Role, leader.ReplicationState = "standby_leader", "streaming"
			leader.Received, leader.Replayed, leader.LatestEnd = new(lsn), new(lsn), lsn
		case leader.Role == "standby_leader":
			w.promote(w.leader)
		}
		w.stream()
	})
}

// LoseDCS takes the view of the DCS from all members. With failsafe the leader stays leader and all documents say failsafe;
// without, it demotes itself to a running replica and no member leads; in pause it stays primary without the lock.
func (c *Cluster) LoseDCS(failsafe bool) {
	c.change(func(w *world) {
		for name, s := range w.members {
			s.DCS, s.Failsafe = false, failsafe
			switch {
			case failsafe || !s.Lock:
			case s.Pause:
				s.Lock = false
			default:
				w.demote(name)
				s.State, s.SQL = "running", true
				w.unstream()
			}
		}
	})
}

// RestoreDCS ends LoseDCS. The owner of the leader key leads again, on a new timeline if it had demoted itself.
func (c *Cluster) RestoreDCS() {
	c.change(func(w *world) {
		for _, s := range w.members {
			s.DCS, s.Failsafe = true, false
		}
		leader := w.members[w.leader]
		if leader == nil {
			return
		}
		w.lock(w.leader)
		if leader.Role == "replica" {
			w.promote(w.leader)
		}
		w.stream()
	})
}
