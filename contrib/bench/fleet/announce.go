//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// announcer writes to etcd what the Patroni of each node would (3.0.2: ha.py, touch_member; dcs/etcd3.py). A member has
// a lease of ttl, which it renews each loop_wait, and a document, which it writes again each time because its WAL position
// is another one. The leader has the leader key, too, and writes the status.
type announcer struct {
	client   *clientv3.Client
	ttl      time.Duration // loop_wait is a third of it
	clusters []*announcedCluster
	writes   atomic.Uint64

	failed  atomic.Uint64 // loops
	failure atomic.Pointer[error]
}

type announcedCluster struct {
	name    string
	leader  atomic.Int32
	mu      sync.Mutex // guards all below, and is held while something is written
	members []*announcedMember
	led     bool // the leader key is written, with the leader's lease
	lsn     int64
}

type announcedMember struct {
	name, address string // host:port of its API
	lease         clientv3.LeaseID
	alive         <-chan struct{} // closed when the lease is not renewed any more
}

// document is what Patroni 3.0.2 writes of a member, in its order.
type document struct {
	ConnURL  string `json:"conn_url"`
	APIURL   string `json:"api_url"`
	State    string `json:"state"`
	Role     string `json:"role"`
	Version  string `json:"version"`
	Location int64  `json:"xlog_location"`
	Timeline int64  `json:"timeline"`
}

// namespace is Patroni's own default.
const namespace = "/service/"

// writers is how many clusters write at once when all of them do.
const writers = 32

func newAnnouncer(client *clientv3.Client, ttl time.Duration, nodes int) *announcer {
	a := &announcer{client: client, ttl: ttl}
	for i, size := range clusterSizes(nodes) {
		c := &announcedCluster{name: clusterName(i), lsn: 50331648}
		for j := range size {
			c.members = append(c.members, &announcedMember{name: nodeName(j)})
		}
		a.clusters = append(a.clusters, c)
	}
	return a
}

// appear makes all members write at once, with these addresses, in the order of the fleet, and then each cluster once per
// loop_wait. What fails then is tried again in the next loop. vanish makes them stop, without a word: their keys end with
// their leases.
func (a *announcer) appear(ctx context.Context, addresses []string) (vanish func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.SetLimit(writers)
	for _, c := range a.clusters {
		own := addresses[:len(c.members)]
		addresses = addresses[len(c.members):]
		g.Go(func() error {
			c.mu.Lock()
			for i, m := range c.members {
				m.address = own[i]
			}
			c.mu.Unlock()
			return a.loop(ctx, c)
		})
	}
	if err := g.Wait(); err != nil {
		cancel()
		return nil, err
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { a.loops(ctx, w) })
	}
	return func() {
		cancel()
		wg.Wait()
	}, nil
}

// loops makes every 32nd cluster write once per loop_wait, until ctx ends.
func (a *announcer) loops(ctx context.Context, first int) {
	loopWait := a.ttl / 3
	for began := time.Now(); ; began = began.Add(loopWait) {
		for i := first; i < len(a.clusters); i += writers {
			if !sleepUntil(ctx, began.Add(loopWait*time.Duration(i)/time.Duration(len(a.clusters)))) {
				return
			}
			if err := a.loop(ctx, a.clusters[i]); err != nil && ctx.Err() == nil && a.failed.Add(1) == 1 {
				a.failure.Store(&err)
			}
		}
		if !sleepUntil(ctx, began.Add(loopWait)) {
			return
		}
	}
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	select {
	case <-time.After(time.Until(t)):
		return true
	case <-ctx.Done():
		return false
	}
}

// loop is one HA loop of each member of a cluster.
func (a *announcer) loop(ctx context.Context, c *announcedCluster) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lsn += 1000
	for i, m := range c.members {
		if err := a.renew(ctx, c, m); err != nil {
			return fmt.Errorf("renewing the lease of %s/%s: %w", c.name, m.name, err)
		}
		d := document{
			ConnURL: "postgres://192.0.2.1:5432/postgres", APIURL: "http://" + m.address + "/patroni", State: "running",
			Role: "replica", Version: "3.0.2", Location: c.lsn, Timeline: 1,
		}
		if i == int(c.leader.Load()) {
			d.Role = "master"
		}
		text, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if err := a.put(ctx, c, "members/"+m.name, string(text), m.lease); err != nil {
			return err
		}
	}
	if !c.led {
		if err := a.leadLocked(ctx, c); err != nil {
			return err
		}
	}
	return a.put(ctx, c, "status", fmt.Sprintf(`{"optime":%d}`, c.lsn), clientv3.NoLease)
}

// renew gives a member a lease, which clientv3 renews each third of its ttl, all over one stream.
func (a *announcer) renew(ctx context.Context, c *announcedCluster, m *announcedMember) error {
	if m.alive != nil {
		select {
		case <-m.alive:
		default:
			return nil
		}
	}
	granted, err := a.client.Grant(ctx, int64(a.ttl/time.Second))
	if err != nil {
		return err
	}
	kept, err := a.client.KeepAlive(ctx, granted.ID)
	if err != nil {
		return err
	}
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		for range kept {
		}
	}()
	m.lease, m.alive, c.led = granted.ID, alive, false
	return nil
}

func (a *announcer) put(ctx context.Context, c *announcedCluster, key, value string, lease clientv3.LeaseID) error {
	a.writes.Add(1)
	if _, err := a.client.Put(ctx, namespace+c.name+"/"+key, value, clientv3.WithLease(lease)); err != nil {
		return fmt.Errorf("writing %s of %s: %w", key, c.name, err)
	}
	return nil
}

func (a *announcer) leadLocked(ctx context.Context, c *announcedCluster) error {
	m := c.members[c.leader.Load()]
	err := a.put(ctx, c, "leader", m.name, m.lease)
	c.led = err == nil
	return err
}

// lead gives a cluster's leader key to a member.
func (a *announcer) lead(ctx context.Context, i int, name string) error {
	c := a.clusters[i]
	c.mu.Lock()
	defer c.mu.Unlock()
	for j, m := range c.members {
		if m.name == name {
			c.leader.Store(int32(j))
		}
	}
	return a.leadLocked(ctx, c)
}

// leads reports whether a member has the leader key.
func (a *announcer) leads(i, j int) bool { return int(a.clusters[i].leader.Load()) == j }

// forget takes all keys away at once. Each member finds out in its next loop.
func (a *announcer) forget(ctx context.Context) error {
	for _, c := range a.clusters {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.led = false
	}
	if _, err := a.client.Delete(ctx, namespace, clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("deleting all keys below %s: %w", namespace, err)
	}
	return nil
}

// listed counts the members' keys that are left.
func (a *announcer) listed(ctx context.Context) (int, error) {
	resp, err := a.client.Get(ctx, namespace, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithSerializable())
	if err != nil {
		return 0, fmt.Errorf("reading keys below %s: %w", namespace, err)
	}
	n := 0
	for _, kv := range resp.Kvs {
		if strings.Contains(string(kv.Key), "/members/") {
			n++
		}
	}
	return n, nil
}
