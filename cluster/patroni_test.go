package cluster_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
	"patroniglue/node/nodetest"
)

// With real clients against simulated Patronis.
func TestAgainstPatroni(t *testing.T) {
	tests := []struct {
		name string
		play func(context.Context, *nodetest.Cluster) error
		want []string // the nodes that passed primary, in order
	}{
		{"switchover", func(ctx context.Context, c *nodetest.Cluster) error {
			return c.SwitchoverSlowly(ctx, "pg2", nodetest.MeasuredSwitchover)
		}, []string{"pg1", "", "pg2"}},
		{"failover", func(ctx context.Context, c *nodetest.Cluster) error {
			return c.FailoverSlowly(ctx, "pg3", nodetest.MeasuredFailover)
		}, []string{"pg1", "", "pg3"}},
		{"failsafe blip", func(ctx context.Context, c *nodetest.Cluster) error {
			c.LoseDCS(true)
			if err := c.Play(ctx, nodetest.Step{After: 20 * time.Second, Do: func() {}}); err != nil {
				return err
			}
			return c.FailsafeBlip(ctx, 140*time.Millisecond)
		}, []string{"pg1"}},
		{"frozen primary", func(ctx context.Context, c *nodetest.Cluster) error {
			c.Node("pg1").Freeze()
			return c.Play(ctx, nodetest.Step{After: 20 * time.Second, Do: func() { c.Promote("pg2") }})
		}, []string{"pg1", "", "pg2"}},
	}
	for _, version := range []string{"3.0.2", "4.1.4"} {
		for _, test := range tests {
			t.Run(version+" "+test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					nw := nodetest.NewNet()
					names := []string{"pg1", "pg2", "pg3"}
					c := nodetest.Options{Version: version, Listen: nw.Listen, Addr: func(name string) string { return name + ":8008" }}.NewCluster("main", names...)
					defer c.Close()
					transport := node.NewTransport()
					transport.DialContext = nw.DialContext
					cfg := cluster.Config{TTL: 5 * time.Second, Clusters: []cluster.ClusterConfig{{Name: "main", Scope: "main"}}}
					for _, name := range names {
						cfg.Clusters[0].Nodes = append(cfg.Clusters[0].Nodes, cluster.NodeConfig{
							Name:     name,
							Client:   node.NewClient(node.Options{URL: &url.URL{Scheme: "http", Host: name + ":8008"}, Timeout: 3 * time.Second, Transport: transport}),
							Interval: time.Second, PrimaryInterval: 250 * time.Millisecond, FastInterval: 100 * time.Millisecond, Fall: 3,
						})
					}
					sup := cluster.New(cfg)
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 1)
					go func() { done <- sup.Run(ctx) }()
					time.Sleep(3 * time.Second)
					played := make(chan error, 1)
					go func() { played <- test.play(ctx, c) }()
					var seen []string
					for range 3000 {
						var primary strings.Builder
						for _, name := range names {
							a, err := sup.Ask(ctx, cluster.Question{Node: name, Check: "primary"})
							if err != nil {
								t.Fatal(err)
							}
							if a.Verdict.Passes() {
								primary.WriteString(name)
							}
						}
						if len(seen) == 0 || seen[len(seen)-1] != primary.String() {
							seen = append(seen, primary.String())
						}
						time.Sleep(10 * time.Millisecond)
					}
					if err := <-played; err != nil {
						t.Error(err)
					}
					if !slices.Equal(seen, test.want) {
						t.Errorf("primaries %q, want %q", seen, test.want)
					}
					for _, n := range c.Nodes() {
						if n.MaxOpen() > 1 {
							t.Errorf("%s: %d connections at once", n.Name(), n.MaxOpen())
						}
					}
					cancel()
					if err := <-done; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}
