package patroni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// frozenFor is the environment variable that says how long etcd stays frozen. It is frozen at
// least until /health warns.
const frozenFor = "PATRONIGLUE_ETCD_FROZEN"

// patient waits until each Patroni has the long ttl that startDiscovering sets.
func (d *sideBySide) patient(t *testing.T) {
	t.Helper()
	d.etcd(t, func(ctx context.Context, c *clientv3.Client) error {
		for _, n := range d.Lab.Nodes {
			resp, err := c.Get(ctx, d.member(n.Name))
			if err != nil || len(resp.Kvs) == 0 {
				return fmt.Errorf("%s is not listed (%v)", n.Name, err)
			}
			lease, err := c.TimeToLive(ctx, clientv3.LeaseID(resp.Kvs[0].Lease))
			if err != nil {
				return err
			}
			if lease.GrantedTTL != 200 {
				return fmt.Errorf("%s has a ttl of %d s", n.Name, lease.GrantedTTL)
			}
		}
		return nil
	})
}

// etcdLeaderKilled: the watch goes on at another member.
func (d *sideBySide) etcdLeaderKilled(t *testing.T) {
	d.unchanged(t, func(harness.Roles) {
		leader, err := d.Lab.ETCDLeader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d.run(t, "crash", leader)
		d.patient(t) // which the two others serve
		d.bothSee(t)
		d.run(t, "start", leader)
	})
}

// etcd calls do with a new client each time: a client that has seen a restore does not recover
// from it.
func (d *sideBySide) etcd(t *testing.T, do func(context.Context, *clientv3.Client) error) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := d.Lab.ETCDClient(ctx, lab.ETCDPatroni)
		if err != nil {
			return err
		}
		defer c.Close()
		return do(ctx, c)
	})
}

func (d *sideBySide) deleteKeys(t *testing.T, key string, options ...clientv3.OpOption) {
	t.Helper()
	d.etcd(t, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Delete(ctx, key, options...)
		return err
	})
}

// bothSee writes a key to etcd about which both programs have to complain: so their watches
// work.
func (d *sideBySide) bothSee(t *testing.T) {
	t.Helper()
	scope := fmt.Sprintf("no scope %d", time.Now().UnixNano())
	key := "/service/" + scope + "/members/x"
	d.etcd(t, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Put(ctx, key, "")
		return err
	})
	d.bothSay(t, scope, true)
	d.deleteKeys(t, key)
	d.bothSay(t, scope, false)
}

// etcdFrozen: members stay as known, answers go on, and /health warns. When etcd is back, the
// watch works again.
func (d *sideBySide) etcdFrozen(t *testing.T) {
	d.patient(t)
	var least time.Duration
	if text := os.Getenv(frozenFor); text != "" {
		var err error
		if least, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	d.unchanged(t, func(harness.Roles) {
		began := time.Now()
		d.freezeDCS(t, func() {
			d.bothSay(t, "discovery_stale", true)
			time.Sleep(least - time.Since(began))
		})
		t.Logf("etcd was frozen for %v", time.Since(began).Round(time.Second))
		d.bothSay(t, "discovery_stale", false)
		d.bothSee(t)
	})
}

// etcdLeaderless: the one member that is left cannot answer consistent reads, and a watch there
// would be silent for ever. Patroni 3.0 waits for the leader. 4.0 and 4.1 do not retry etcd's "no leader" when they
// keep their lease (dcs/etcd3.py, lease_keepalive): if that is what they hear, and not silence, they demote the primary,
// and both programs follow it.
func (d *sideBySide) etcdLeaderless(t *testing.T) {
	d.patient(t)
	lose := func(harness.Roles) {
		for _, member := range []string{"1", "3"} {
			d.run(t, "crash", lab.ETCD+member)
		}
		d.bothSay(t, "discovery_stale", true)
		for _, member := range []string{"1", "3"} {
			d.run(t, "start", lab.ETCD+member)
		}
		d.bothSay(t, "discovery_stale", false)
		d.bothSee(t)
	}
	c := d.Healthy(t)
	if c.Major < 4 {
		d.unchanged(t, lose)
		return
	}
	lose(c)
	d.Healthy(t)
}

// etcdRestored: etcd has its past again, with lower revisions, and the watch still reports what
// is written from now on.
func (d *sideBySide) etcdRestored(t *testing.T) {
	snapshot := filepath.Join(d.Lab.Dir, "snapshot")
	d.run(t, "etcdctl", "snapshot", "save", snapshot)
	for range 5 {
		d.bothSee(t) // so that there is something to go back from
	}
	d.unchanged(t, func(harness.Roles) {
		d.run(t, "restore", snapshot)
		d.bothSee(t)
		d.bothSay(t, "discovery_stale", false)
	})
}
