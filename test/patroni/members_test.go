package patroni

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patroniglue/test/harness"
)

func (d *sideBySide) member(name string) string {
	return "/service/" + d.Lab.Scope + "/members/" + name
}

// keysDeleted: a node that answers is in service, listed or not.
func (d *sideBySide) keysDeleted(t *testing.T) {
	d.unchanged(t, func(harness.Roles) {
		d.deleteKeys(t, d.member(""), clientv3.WithPrefix())
		d.bothSay(t, `"code":"unlisted"`, true)
		d.bothSay(t, `"code":"unlisted"`, false) // each Patroni writes its key again, in its next loop
	})
}

// memberMoved: a Patroni that answers at another port is the same node, and keeps its history.
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

// changesOf returns the history of a node.
func (d *sideBySide) changesOf(t *testing.T, name string) (changes []string) {
	t.Helper()
	a := d.MustAsk(t, d.Lab.HTTP, "GET", "/history?limit=1000&node="+name)
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

// nodeSays waits until both programs answer a node's replica check so.
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

// memberUnlisted: a node whose machine and key are gone is still shown, and is DOWN with that
// reason. When it is back, it goes into service by itself.
func (d *sideBySide) memberUnlisted(t *testing.T) {
	c := d.Healthy(t)
	n := c.Replicas[1]
	d.run(t, "stop", n.Name)
	// Its lease does the same when the ttl is over.
	d.deleteKeys(t, d.member(n.Name))
	d.nodeSays(t, n.Name, 503, "ready down #unlisted: the DCS does not list it since ")
	d.bothSay(t, `"code":"unlisted"`, true)
	a := d.MustAsk(t, d.Lab.HTTP, "GET", "/node/"+n.Name)
	if !strings.Contains(string(a.Body), `"unlisted":"`) {
		t.Errorf("GET /node/%s: %s, want since when it left", n.Name, a.Body)
	}
	d.run(t, "start", n.Name)
	d.Healthy(t)
	d.bothSay(t, `"code":"unlisted"`, false)
}

// leaderWatched: a program that polls once an hour learns of a switchover from etcd. It also has
// a configured node, which stays as configured and is never unlisted.
func (d *sideBySide) leaderWatched(t *testing.T) {
	c := d.Healthy(t)
	sim := harness.NewSimulated(t, "other1")
	slow := "[frontend]\n" + harness.AnyPort + "[agent]\nlisten = '127.0.0.1:0'\n[backend]\ninterval = '1h'\nprimary-interval = '1h'\n[cache]\nttl = '3h'\n" +
		strings.Replace(harness.NodeTables(sim, ""), "'main'", "'other'", 1) +
		fmt.Sprintf("[[node]]\nname = '%s'\ncluster = '%s'\nurl = '%s'\n", c.Primary.Name, d.Lab.Scope, c.Primary.URL) + d.discovery(t)
	p := harness.Start(t, "slow.toml", slow)
	passes := func(name string) bool {
		a, err := d.Ask(p.HTTP, "GET", "/cluster/"+d.Lab.Scope+"/node/"+name+"/primary")
		return err == nil && a.Status == http.StatusOK
	}
	if !passes(c.Primary.Name) {
		t.Fatalf("%s is not the primary", c.Primary.Name)
	}
	// While new nodes are polled faster, it could learn of the switchover by a poll.
	polls := func() string {
		return harness.MetricValue(string(d.MustAsk(t, p.HTTP, "GET", "/metrics").Body), `patroniglue_poll_duration_seconds_count{cluster="`+d.Lab.Scope+`"}`)
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
	if a := d.MustAsk(t, p.HTTP, "GET", "/cluster/"+d.Lab.Scope+"/node/"+c.Primary.Name); strings.Contains(string(a.Body), `"unlisted"`) {
		t.Errorf("%s is configured, but shown as unlisted: %s", c.Primary.Name, a.Body)
	}
	d.bothSay(t, `"code":"unlisted"`, false)
	d.Healthy(t)
}
