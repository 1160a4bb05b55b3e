package httpapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
	"patroniglue/node/nodetest"
)

var rulesOff cluster.Rules

// memberStub is a node that always answers the same.
type memberStub struct{ report node.Report }

func (p memberStub) Poll(context.Context) (node.Report, error) {
	r := p.report
	r.Began = time.Now()
	return r, nil
}

func (memberStub) Settings(context.Context) (node.Settings, error) {
	return node.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second}, nil
}
func (memberStub) URL() string            { return "http://10.0.0.1:8008" }
func (memberStub) Timeout() time.Duration { return time.Second }

// ready returns a running supervisor of pg1, the primary, and the replicas pg2 and
// pg3, each of which was polled.
func ready(t testing.TB) *cluster.Supervisor {
	t.Helper()
	return running(t, stubs(t, "main", 3))
}

// many returns a running supervisor of clusters c0, c1, ... with nodes each.
func many(t testing.TB, clusters, nodes int) *cluster.Supervisor {
	t.Helper()
	var all []cluster.ClusterConfig
	for i := range clusters {
		all = append(all, stubs(t, fmt.Sprintf("c%d", i), nodes))
	}
	return running(t, all...)
}

func stubs(t testing.TB, name string, nodes int) cluster.ClusterConfig {
	t.Helper()
	c := cluster.ClusterConfig{Name: name}
	for i := range nodes {
		state := nodetest.Replica(name, fmt.Sprintf("pg%d", i+1))
		if i == 0 {
			state = nodetest.Primary(name, "pg1")
		}
		a := nodetest.Decide(state, nodetest.DCS{}, nodetest.Request{Method: "GET", Target: "/primary"}, time.Now())
		doc, err := node.ParseDocument(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, cluster.NodeConfig{
			Name: state.Name, Client: memberStub{node.Report{Status: a.Status, Document: doc, Raw: a.Body}},
			Interval: time.Second, PrimaryInterval: time.Second, FastInterval: time.Second, Fall: 3,
		})
	}
	return c
}

func running(t testing.TB, clusters ...cluster.ClusterConfig) *cluster.Supervisor {
	t.Helper()
	sup := cluster.New(cluster.Config{TTL: time.Minute, Clusters: clusters})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sup.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := sup.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return sup
}
