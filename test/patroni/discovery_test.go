package patroni

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// TestDiscoveryEndToEnd runs two programs side by side that know nothing but where
// etcd is: Debian's, three members with TLS and authentication, upon which three
// real Patroni live. Both give the same answers throughout. Each subtest begins
// and ends with a healthy cluster, and those of etcd change no answer at all.
func TestDiscoveryEndToEnd(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Core(t, testDiscoveryEndToEnd)
}

func testDiscoveryEndToEnd(t *testing.T, s lab.Suite) {
	d := startDiscovering(t, s)
	t.Run("leader of etcd killed", d.etcdLeaderKilled)
	t.Run("etcd frozen", d.etcdFrozen)
	t.Run("etcd without a leader", d.etcdLeaderless)
	t.Run("keys of members deleted", d.keysDeleted)
	t.Run("member moved", d.memberMoved)
	t.Run("member unlisted and came back", d.memberUnlisted)
	t.Run("leader watched", d.leaderWatched)
	t.Run("etcd restored from a snapshot", d.etcdRestored) // after which Patroni 3.0.2 itself may miss changes for a while
	d.HAProxyShows(t, d.Normal(d.Healthy(t)))
	d.agreed(t)
}

// sideBySide is an end to end with a second program.
type sideBySide struct {
	suite
	second *harness.Program
	both   *harness.Recorder[comparison]
}

func startDiscovering(t *testing.T, s lab.Suite) *sideBySide {
	d := &sideBySide{suite: suite{harness.StartCluster(t, lab.Options{Suite: s, ThreeETCD: true}, "")}}
	d.second = harness.Start(t, "second.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+d.discovery(t))
	d.StartHAProxy(t) // whose configuration knows the discovered nodes
	c := d.Healthy(t)
	d.both = d.compare(t)
	// For Patroni an etcd that is away for so long is nothing yet. Failsafe mode would
	// not do: with more than one host of etcd, 3.0.2 ends in "Could not get the list of
	// servers" nevertheless (dcs/etcd.py, _refresh_machines_cache), and demotes.
	d.configure(t, c.Primary, `{"ttl": 200, "retry_timeout": 90}`)
	return d
}

func (d *sideBySide) discovery(t *testing.T) string {
	t.Helper()
	text, err := d.Lab.Discovery()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// bothSay waits until the word is in both programs' health, or is not.
func (d *sideBySide) bothSay(t *testing.T, word string, is bool) {
	t.Helper()
	for _, addr := range []string{d.Lab.HTTP, d.second.HTTP} {
		harness.Eventually(t, 40*time.Second, func() error {
			a, err := d.Ask(addr, "GET", "/health")
			if err == nil && strings.Contains(string(a.Body), word) != is {
				err = fmt.Errorf("/health has %s: %t, want %t: %s", word, !is, is, a.Body)
			}
			return err
		})
	}
}

// unchanged does something, during which every answer stays as it is.
func (d *sideBySide) unchanged(t *testing.T, do func(harness.HealthyCluster)) {
	t.Helper()
	c := d.Healthy(t)
	w := d.Watch(t)
	do(c)
	primary, replicas := []string{c.Primary.Name}, []string{c.Replicas[0].Name, c.Replicas[1].Name}
	for _, s := range d.watched(t, w) {
		if !slices.Equal(s.HTTP, primary) || !slices.Equal(s.Agent, primary) || !slices.Equal(s.Replicas, replicas) {
			t.Fatalf("%s: HTTP passes %v as primary and %v as replicas, the agent %v (%v); want %v and %v throughout", s, s.HTTP, s.Replicas, s.Agent, s.Err, primary, replicas)
		}
	}
	if after := d.Healthy(t); after.Primary != c.Primary {
		t.Errorf("primary afterwards %s, want %s", after.Primary.Name, c.Primary.Name)
	}
}

// run runs a command of the lab.
func (d *sideBySide) run(t *testing.T, args ...string) {
	t.Helper()
	if err := d.Lab.Run(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}
