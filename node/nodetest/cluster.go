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
// What its methods do happens at once and to all members together: no answer ever shows half a switchover. The methods whose
// names end in Slowly go through the phases that were measured on real clusters; Play is for stories of your own.
type Cluster struct {
	scope string
	nodes []*Node // read-only after New
	done  chan struct{}
	once  sync.Once

	edit sync.Mutex            // serialises changes; held while a change is made, never while answering
	now  atomic.Pointer[world] // what is true at the moment; never written to once it is here
}

// world is everything that answers depend on.
type world struct {
	leader  string            // the leader key
	members map[string]*State // by name
	expired map[string]bool   // members whose keys are gone from the DCS
	config  map[string]any
	history []Promotion

	failsafe bool // the failsafe key is there

	view DCS // all of this as the members see it; made when the world is published
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

// Node is the member with this name.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	panic(fmt.Sprintf("nodetest: cluster %q has no member %q", c.scope, name))
}

// Leader is the member that the leader key names, nil when there is no key.
func (c *Cluster) Leader() *Node {
	if name := c.now.Load().leader; name != "" {
		return c.Node(name)
	}
	return nil
}

// SetConfig changes the dynamic configuration that /config shows; ttl and maximum_lag_on_failover also count in verdicts.
// Pause and standby clusters have their own methods, because members know of them by themselves.
func (c *Cluster) SetConfig(f func(config map[string]any)) {
	c.change(func(w *world) { f(w.config) })
}

// change makes a new world of the present one and publishes it.
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

func (w *world) clone() *world {
	next := &world{
		leader: w.leader, members: make(map[string]*State, len(w.members)),
		expired: maps.Clone(w.expired), config: maps.Clone(w.config), history: slices.Clone(w.history),
		failsafe: w.failsafe,
	}
	for name, s := range w.members {
		next.members[name] = new(s.clone())
	}
	return next
}

// settle stops the clock of members that have just lost the DCS, so that dcs_last_seen grows old.
func (w *world) settle(before map[string]*State) {
	for name, s := range w.members {
		if was := before[name]; was.DCS && !s.DCS && s.DCSLastSeen.IsZero() {
			s.DCSLastSeen = time.Now()
		} else if !was.DCS && s.DCS {
			s.DCSLastSeen = time.Time{}
		}
	}
}

func (w *world) dcs() DCS {
	d := DCS{Leader: w.leader, Config: w.config, History: w.history}
	w.failsafe = w.failsafe || d.failsafeMode()
	d.Failsafe = w.failsafe
	for name, s := range w.members {
		if !w.expired[name] {
			d.Members = append(d.Members, *s)
		}
	}
	return d
}

// position is the newest WAL position anywhere.
func (w *world) position() int64 {
	if s := w.members[w.leader]; s != nil && s.Role == "primary" {
		return s.Location
	}
	lsn := int64(firstLSN)
	for _, s := range w.members {
		lsn = max(lsn, s.Location, orZero(s.Received), orZero(s.Replayed))
	}
	return lsn
}

func (w *world) timeline() int64 {
	newest := int64(1)
	for _, s := range w.members {
		newest = max(newest, orZero(s.Timeline))
	}
	return newest
}

// lock gives the leader key to one member and takes it from all others.
func (w *world) lock(name string) {
	w.leader = name
	for other, s := range w.members {
		s.Lock = other == name
		s.Unlocked = name == ""
	}
}

// promote ends name's recovery: a new timeline begins. In a standby cluster it becomes the standby leader, without one.
func (w *world) promote(name string) {
	s, lsn := w.members[name], w.position()
	s.State, s.SQL = "running", true
	if s.StandbyCluster {
		s.Role = "standby_leader"
		return
	}
	ended := w.timeline()
	s.Role, s.ReplicationState, s.LatestEnd = "primary", "", 0
	s.Timeline, s.Location, s.Received, s.Replayed = new(ended+1), lsn, nil, nil
	w.history = append(w.history, Promotion{ended, lsn, "no recovery target specified", time.Now(), name})
}

// demote makes name a replica that does not run yet.
func (w *world) demote(name string) {
	s, lsn := w.members[name], w.position()
	s.Role, s.State, s.SQL, s.Lock = "replica", "starting", false, false
	s.Received, s.Replayed, s.ReplayedAt, s.Replication = new(lsn), new(lsn), time.Now(), nil
}

// stream lets every running replica follow the leader, and the leader show them.
func (w *world) stream() {
	leader := w.members[w.leader]
	if leader == nil || !leader.queried() {
		return
	}
	leader.Replication = nil
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		s := w.members[name]
		if w.expired[name] || name == w.leader || s.Role != "replica" || !s.queried() {
			continue
		}
		s.ReplicationState = "streaming"
		if leader.Timeline != nil {
			s.Timeline = new(*leader.Timeline)
		}
		leader.Replication = append(leader.Replication, Walsender{
			User: "replicator", Application: name, ClientAddr: new("127.0.0.1"),
			State: "streaming", SyncState: "async",
		})
	}
	w.write(0)
}

// unstream is what replicas show when there is nobody to stream from.
func (w *world) unstream() {
	for _, s := range w.members {
		s.ReplicationState = ""
	}
}

// write moves the leader's position and lets the replicas that stream keep their distance to it.
func (w *world) write(bytes int64) {
	before := w.position()
	lsn := before + bytes
	for name, s := range w.members {
		switch {
		case name == w.leader && s.Role == "primary":
			s.Location = lsn
		case s.Role == "primary" || !s.queried():
		case s.Received != nil && s.Replayed != nil && (s.ReplicationState == "streaming" || name == w.leader):
			s.Replayed = new(lsn - (before - *s.Replayed))
			s.Received, s.LatestEnd = new(lsn), lsn
		}
		if s.DCS {
			s.Optime = lsn
		}
	}
}

// Write writes WAL on the leader. Replicas that stream receive it at once and replay it as far behind as they were.
func (c *Cluster) Write(bytes int64) { c.change(func(w *world) { w.write(bytes) }) }

// Switchover hands the leadership to another member in one instant.
func (c *Cluster) Switchover(to string) {
	c.Node(to)
	c.change(func(w *world) {
		if w.leader == to {
			return
		}
		c.expire(w) // the dead cannot become replicas
		if old := w.leader; old != "" {
			w.demote(old)
			w.members[old].State, w.members[old].SQL = "running", true
		}
		w.lock(to)
		w.promote(to)
		w.stream()
	})
}

// Kill ends a member with its Postgres: its port refuses. The DCS does not know yet: until a Promote or Expire the keys of
// the dead stay there, as they do for up to a ttl.
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

// Expire lets the keys of dead members vanish from the DCS, the leader key included if one of them held it.
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

// Promote gives the lock to a member and ends its recovery, without asking the leader before it, who is left as it is but for
// the lock. With a leader that is alive Switchover is what you want.
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

// Revive brings a member that was killed back: as a replica of the leader, or as the leader that it still is.
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

// BeginPromotion gives the lock to a replica that then does not get on with its promotion: /primary and /replica are both 200,
// the role stays replica (#3603). Promote ends it. The leader before becomes a replica.
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

// SplitBrain makes the named members running primaries that all hold the lock, each on the timeline it has, which is what no
// Patroni should do. Without a view of the DCS they would say cluster_unlocked; unlocked sets that.
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

// SetPause switches the maintenance mode.
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

func setOrDelete(m map[string]any, key string, on bool, value any) {
	if on {
		m[key] = value
	} else {
		delete(m, key)
	}
}

// LoseDCS takes the view of the DCS from all members. With failsafe the leader goes on, and all say so; without, it demotes itself
// to a running replica and nobody leads; in pause it goes on as well, and the lock no longer counts.
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

// RestoreDCS gives the view back. The leader key's owner leads again: on a new timeline if it had demoted itself.
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
