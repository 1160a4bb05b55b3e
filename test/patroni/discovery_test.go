package patroni

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"

	"patroniglue/contrib/lab"
	"patroniglue/node"
	"patroniglue/test/harness"
)

// frozenFor is the environment variable that says how long etcd stays frozen, at
// least until that is told.
const frozenFor = "PATRONIGLUE_ETCD_FROZEN"

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
	d := &sideBySide{suite: suite{harness.StartWithoutHAProxy(t, lab.Options{Suite: s, ThreeETCD: true})}}
	d.second = harness.Start(t, "second.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+d.discovery(t))
	d.run(t, "haproxy", "start") // whose configuration knows the discovered nodes
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

// patient waits until each Patroni has the long ttl.
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

func (d *sideBySide) member(name string) string {
	return "/service/" + d.Lab.Scope + "/members/" + name
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

// etcdLeaderKilled: the watch goes on at another member.
func (d *sideBySide) etcdLeaderKilled(t *testing.T) {
	d.unchanged(t, func(harness.HealthyCluster) {
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

// etcd does something there, by another connection each time: a client that has seen
// a restore does not recover from it.
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

// bothSee: what is written to etcd arrives at both, here something that they
// complain about.
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

// etcdFrozen: members stay as known, answers go on, and /health warns. When etcd is
// back so is the watch.
func (d *sideBySide) etcdFrozen(t *testing.T) {
	d.patient(t)
	var least time.Duration
	if text := os.Getenv(frozenFor); text != "" {
		var err error
		if least, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	d.unchanged(t, func(harness.HealthyCluster) {
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

// etcdLeaderless: the one member that is left answers nothing that it would have to
// be sure of, and a watch there would be silent for ever.
func (d *sideBySide) etcdLeaderless(t *testing.T) {
	d.patient(t)
	d.unchanged(t, func(harness.HealthyCluster) {
		for _, member := range []string{"1", "3"} {
			d.run(t, "crash", lab.ETCD+member)
		}
		d.bothSay(t, "discovery_stale", true)
		for _, member := range []string{"1", "3"} {
			d.run(t, "start", lab.ETCD+member)
		}
		d.bothSay(t, "discovery_stale", false)
		d.bothSee(t)
	})
}

// etcdRestored: the past is back, its revisions count from before, and what is
// watched is what is written now.
func (d *sideBySide) etcdRestored(t *testing.T) {
	snapshot := filepath.Join(d.Lab.Dir, "snapshot")
	d.run(t, "etcdctl", "snapshot", "save", snapshot)
	for range 5 {
		d.bothSee(t) // so that there is something to go back from
	}
	d.unchanged(t, func(harness.HealthyCluster) {
		d.run(t, "restore", snapshot)
		d.bothSee(t)
		d.bothSay(t, "discovery_stale", false)
	})
}

// keysDeleted: whoever answers is in service, listed or not.
func (d *sideBySide) keysDeleted(t *testing.T) {
	d.unchanged(t, func(harness.HealthyCluster) {
		d.deleteKeys(t, d.member(""), clientv3.WithPrefix())
		d.bothSay(t, `"code":"unlisted"`, true)
		d.bothSay(t, `"code":"unlisted"`, false) // each Patroni writes its key again, in its next loop
	})
}

// memberMoved: its Patroni answers at another port from now on. It is the same
// node, with what was seen of it before.
func (d *sideBySide) memberMoved(t *testing.T) {
	c := d.Healthy(t)
	n := c.Replicas[0]
	before := d.changesOf(t, n.Name)
	port := strconv.Itoa(d.Lab.Port + 17)
	d.run(t, "move", n.Name, port)
	i := slices.Index(d.Lab.Nodes, n)
	n.REST = "127.0.0.1:" + port
	n.URL = "http://" + n.REST
	d.Lab.Nodes[i] = n
	d.Healthy(t)
	if after := d.changesOf(t, n.Name); len(before) == 0 || !slices.Equal(after[:len(before)], before) {
		t.Errorf("history of %s: %q, want %q first", n.Name, after, before)
	}
}

// changesOf is the history of a node.
func (d *sideBySide) changesOf(t *testing.T, name string) (changes []string) {
	t.Helper()
	a := d.Must(t, d.Lab.HTTP, "GET", "/history?limit=1000&node="+name)
	var doc struct {
		Changes []struct {
			ID                      int
			At, Kind, Before, After string
		}
	}
	if err := json.Unmarshal(a.Body, &doc); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
	for _, c := range doc.Changes {
		changes = append(changes, fmt.Sprint(c))
	}
	return changes
}

// nodeSays waits until both programs answer so about a node's /replica.
func (d *sideBySide) nodeSays(t *testing.T, name string, status int, agent string) {
	t.Helper()
	for _, at := range [][2]string{{d.Lab.HTTP, d.Lab.Agent}, {d.second.HTTP, d.second.Agents[0]}} {
		harness.Eventually(t, 30*time.Second, func() error {
			a, err := d.Ask(at[0], "GET", "/node/"+name+"/replica")
			if err != nil {
				return err
			}
			if line := harness.AskAgent(t, at[1], name+"/replica\n"); a.Status != status || !strings.HasPrefix(line, agent) {
				return fmt.Errorf("of %s HTTP says %d %s, the agent %q; want %d and %q", name, a.Status, a.Body, line, status, agent)
			}
			return nil
		})
	}
}

// memberUnlisted: one whose machine is gone, and its key, is still shown, and is DOWN
// with that reason. When it is back, it is in service without anybody's help.
func (d *sideBySide) memberUnlisted(t *testing.T) {
	c := d.Healthy(t)
	n := c.Replicas[1]
	d.run(t, "stop", n.Name)
	// As its lease does when the ttl is over.
	d.deleteKeys(t, d.member(n.Name))
	d.nodeSays(t, n.Name, 503, "ready down #left: the DCS does not list it since ")
	d.bothSay(t, `"code":"unlisted"`, true)
	a := d.Must(t, d.Lab.HTTP, "GET", "/node/"+n.Name)
	if !strings.Contains(string(a.Body), `"unlisted":"`) {
		t.Errorf("GET /node/%s: %s, want since when it left", n.Name, a.Body)
	}
	d.run(t, "start", n.Name)
	d.Healthy(t)
	d.bothSay(t, `"code":"unlisted"`, false)
}

// leaderWatched: a program that polls once an hour learns of a switchover by
// etcd's word. The configured nodes it has as well: they win, and never leave.
func (d *sideBySide) leaderWatched(t *testing.T) {
	c := d.Healthy(t)
	sim := harness.NewSimulated(t, "other1")
	slow := "[frontend]\n" + harness.AnyPort + "[agent]\nlisten = '127.0.0.1:0'\n[backend]\ninterval = '1h'\nprimary-interval = '1h'\n[cache]\nttl = '3h'\n" +
		strings.Replace(harness.NodesOf(sim, ""), "'main'", "'other'", 1) +
		fmt.Sprintf("[[node]]\nname = '%s'\ncluster = '%s'\nurl = '%s'\n", c.Primary.Name, d.Lab.Scope, c.Primary.URL) + d.discovery(t)
	p := harness.Start(t, "slow.toml", slow)
	passes := func(name string) bool {
		a, err := d.Ask(p.HTTP, "GET", "/cluster/"+d.Lab.Scope+"/node/"+name+"/primary")
		return err == nil && a.Status == http.StatusOK
	}
	if !passes(c.Primary.Name) {
		t.Fatalf("%s is not the primary", c.Primary.Name)
	}
	// Only where nothing is polled faster because it is new, the watch is what tells.
	polls := func() string {
		return harness.ValueOf(string(d.Must(t, p.HTTP, "GET", "/metrics").Body), `patroniglue_poll_duration_seconds_count{cluster="`+d.Lab.Scope+`"}`)
	}
	harness.Eventually(t, 30*time.Second, func() error {
		before := polls()
		time.Sleep(time.Second)
		if after := polls(); before != after || before == "" {
			return fmt.Errorf("it is polled all the time: %q, %q", before, after)
		}
		return nil
	})
	to := c.Replicas[0].Name
	switched := make(chan error, 1)
	go func() { switched <- d.Lab.Switchover(context.Background(), to) }()
	harness.Eventually(t, 60*time.Second, func() error {
		if !passes(to) || passes(c.Primary.Name) {
			return fmt.Errorf("%s passes: %t, %s: %t", to, passes(to), c.Primary.Name, passes(c.Primary.Name))
		}
		return nil
	})
	if err := <-switched; err != nil {
		t.Error(err)
	}
	d.deleteKeys(t, d.member(c.Primary.Name))
	d.bothSay(t, `"code":"unlisted"`, true)
	if a := d.Must(t, p.HTTP, "GET", "/cluster/"+d.Lab.Scope+"/node/"+c.Primary.Name); strings.Contains(string(a.Body), `"unlisted"`) {
		t.Errorf("%s is configured, and left: %s", c.Primary.Name, a.Body)
	}
	d.bothSay(t, `"code":"unlisted"`, false)
	d.Healthy(t)
}

// comparison is what both programs answered to a check, one right after the other.
type comparison struct {
	at            time.Time
	check         string
	first, second []string // nodes that pass
	two           bool     // each had a primary of its own
	err           error
}

// compare asks both about each check in turn, about primary each time.
func (d *sideBySide) compare(t *testing.T) *harness.Recorder[comparison] {
	checks, next := node.CheckNames(), 0
	ask := func(addr, check string) (nodes []string, err error) {
		a, err := d.Ask(addr, "GET", "/cluster/"+d.Lab.Scope+"/"+check)
		if err != nil {
			return nil, err
		}
		var body struct{ Nodes []string }
		err = json.Unmarshal(a.Body, &body)
		return body.Nodes, err
	}
	both := func(check string) (c comparison) {
		c = comparison{at: time.Now(), check: check}
		if c.first, c.err = ask(d.Lab.HTTP, check); c.err == nil {
			c.second, c.err = ask(d.second.HTTP, check)
		}
		if c.err == nil && check == "primary" && len(c.first) > 0 && len(c.second) > 0 && !slices.Equal(c.first, c.second) {
			// It may have changed in between. If not, here are two.
			again, err := ask(d.Lab.HTTP, check)
			c.two, c.err = slices.Equal(again, c.first), err
		}
		return c
	}
	return harness.Record(t, 1, 10*time.Millisecond, func() comparison {
		if next++; next%2 == 0 {
			return both("primary")
		}
		return both(checks[next/2%len(checks)])
	})
}

// agreeAgain is within which the two have to agree again while something changes:
// the interval of both and what their polls take, on a busy machine.
const agreeAgain = 5 * time.Second

// agreed: they never had two primaries, and never differed for long.
func (d *sideBySide) agreed(t *testing.T) {
	t.Helper()
	all := d.both.Stop()
	since := make(map[string]time.Time) // that they differ
	longest := make(map[string]time.Duration)
	differed := 0
	for _, c := range all {
		if c.err != nil {
			t.Errorf("%s: %v", c.check, c.err)
		}
		if c.two {
			t.Errorf("at %s the first program's primary is %v, the second one's %v", c.at.Format(time.StampMilli), c.first, c.second)
		}
		if slices.Equal(c.first, c.second) {
			delete(since, c.check)
			continue
		}
		differed++
		if since[c.check].IsZero() {
			since[c.check] = c.at
		}
		if took := c.at.Sub(since[c.check]); took > longest[c.check] {
			longest[c.check] = took
			if took > agreeAgain {
				t.Errorf("%s differs for %v: %v and %v", c.check, took, c.first, c.second)
			}
		}
	}
	if len(all) < 1000 {
		t.Errorf("they were compared %d times only", len(all))
	}
	t.Logf("%d answers compared, %d differed, each check at most so long: %v", len(all), differed, slices.Sorted(maps.Values(longest)))
}

// TestDiscoveryReasons asks a real etcd in ways that it refuses: each has a reason
// that an operator can mend.
func TestDiscoveryReasons(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testDiscoveryReasons)
}

func testDiscoveryReasons(t *testing.T, s lab.Suite) {
	l := harness.StartLab(t, lab.Options{Suite: s, Parts: []string{lab.ETCD}, ThreeETCD: true})
	sim := harness.NewSimulated(t, "pg1", "pg2")
	c, err := l.ETCDClient(t.Context(), lab.ETCDPatroni)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, n := range sim.Nodes() {
		if _, err := c.Put(t.Context(), "/service/main/members/"+n.Name(), fmt.Sprintf(`{"api_url":"%s/patroni"}`, n.URL())); err != nil {
			t.Fatal(err)
		}
	}
	text, err := l.Discovery()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(t *testing.T, text string) *harness.Program {
		t.Helper()
		p := harness.Begin(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+text)
		harness.Until(t, "it listens", func() bool { return len(p.Log.Values("http", "message", "supervising")) > 0 })
		p.HTTP = p.Log.Values("http", "message", "supervising")[0]
		return p
	}
	wrong := harness.WriteFile(t, "password", "wrong")
	var lines []string // without a client certificate
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "certfile") && !strings.HasPrefix(line, "keyfile") {
			lines = append(lines, line)
		}
	}
	for _, test := range []struct{ name, text, want string }{
		{"password", strings.Replace(text, filepath.Join(l.TLSDir(), "password"), wrong, 1), "authentication failed, invalid user ID or password"},
		{"no client certificate", strings.Join(lines, ""), "tls: "},
		{"other authority", strings.Replace(text, "ca.crt", "patroniglue.crt", 1), "certificate signed by unknown authority"},
		{"namespace that may not be read", text + "namespace = '/elsewhere/'\n", `reading \"/elsewhere/\": etcdserver: permission denied`},
		{"namespace of nobody", strings.Replace(text, `"patroniglue"`, `"root"`, 1) + "namespace = '/elsewhere/'\n", `no member is listed below \"/elsewhere/\"`},
		{"namespace of nobody", strings.Replace(text, `"patroniglue"`, `"root"`, 1) + "namespace = '/elsewhere/'\n", `keys elsewhere are [\"/service/main/members/pg1\" \"/service/main/members/pg2\"]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := begin(t, test.text)
			p.UntilBody(t, "/health", test.want)
		})
	}

	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+text)
	t.Run("certificate of etcd expired", func(t *testing.T) { certificateExpired(t, l, p) })
}

// certificateExpired: who is connected stays so; who has to connect anew goes on
// with what is known, says why, and needs nobody's help when all is well again.
func certificateExpired(t *testing.T, l *lab.Lab, p *harness.Program) {
	files := []string{filepath.Join(l.TLSDir(), "etcd.crt"), filepath.Join(l.TLSDir(), "etcd.key")}
	var good [][]byte
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		good = append(good, content)
	}
	set := func(contents [][]byte) {
		t.Helper()
		for i, name := range files {
			if err := os.WriteFile(name, contents[i], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(l.TLSDir(), "ca.crt"), filepath.Join(l.TLSDir(), "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca := &harness.Authority{Dir: t.TempDir(), Cert: pair.Leaf, Key: pair.PrivateKey.(*ecdsa.PrivateKey)}
	expired := harness.ServerCert()
	expired.NotAfter = time.Now().Add(-time.Hour)
	ca.Make(t, "expired", expired)
	var bad [][]byte
	for _, name := range []string{"expired.crt", "expired.key"} {
		content, err := os.ReadFile(ca.File(name))
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, content)
	}

	p.UntilBody(t, "/metrics", "patroniglue_discovery_up 1")
	var watched []float64
	harness.Until(t, "one watch stream is left", func() bool {
		watched, err = l.ETCDMetric(t.Context(), "etcd_debugging_mvcc_watch_stream_total")
		if err != nil {
			t.Fatal(err)
		}
		return watched[0]+watched[1]+watched[2] == 1
	})
	member := lab.ETCD + strconv.Itoa(1+slices.Index(watched, 1))
	set(bad) // etcd reads it for each connection
	if err := l.CrashNode(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	p.UntilBody(t, "/health", `"code":"discovery_stale"`, "certificate has expired")
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/replica": 200, "/node/pg2/primary": 503} {
		if got := p.Status(t, path); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	set(good)
	if err := l.StartNode(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	p.UntilBody(t, "/metrics", "patroniglue_discovery_up 1")
	if _, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health"); strings.Contains(body, "discovery_stale") {
		t.Errorf("all is well again, but: %s", body)
	}
}
