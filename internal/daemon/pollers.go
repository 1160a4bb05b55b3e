package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/config"
	"patroniglue/internal/metrics"
	"patroniglue/node"
)

// notPolled is the poller of a member that cannot be polled, or must not be: it always
// fails, and contacts nothing.
type notPolled struct {
	why     string
	timeout time.Duration
}

func (n *notPolled) failure() error {
	return &node.Failure{Kind: node.KindOther, Err: errors.New(n.why)}
}

// Poll is part of cluster.Poller.
func (n *notPolled) Poll(context.Context) (node.Report, error) { return node.Report{}, n.failure() }

// Settings is part of cluster.Poller.
func (n *notPolled) Settings(context.Context) (node.Settings, error) {
	return node.Settings{}, n.failure()
}

// URL is part of cluster.Poller.
func (n *notPolled) URL() string { return "" }

// Timeout is part of cluster.Poller.
func (n *notPolled) Timeout() time.Duration { return n.timeout }

// pollerKey is all that makes one poller differ from another.
type pollerKey struct {
	cluster, node string
	url           string // as text, because pointers to equal URLs differ
	refused       string // why it is not polled; "" = it is
	timeout       time.Duration
	tls           backendTLS
}

// addClusters adds all nodes, each to its cluster: first those of the configuration, in
// its order, and then those that were discovered, by name.
func (p *plan) addClusters(before *plan, m *metrics.Metrics) error {
	index := make(map[string]int) // of clusters, by name
	add := func(name, scope string, n cluster.NodeConfig, b *config.Backend) {
		at, ok := index[name]
		if !ok {
			at = len(p.clusters.Clusters)
			index[name] = at
			p.clusters.Clusters = append(p.clusters.Clusters, cluster.ClusterConfig{Name: name, Scope: scope})
		}
		n.Interval, n.PrimaryInterval, n.FastInterval, n.Fall = b.Interval, b.PrimaryInterval, b.FastInterval, b.Fall
		c := &p.clusters.Clusters[at]
		c.Nodes = append(c.Nodes, n)
	}
	if err := p.addConfigured(add, before, m); err != nil {
		return err
	}
	if !p.cfg.Discovery.On() {
		return nil
	}
	return p.addDiscovered(add, before, m)
}

// addNode adds a node to a cluster, which it makes where it is the first one.
type addNode func(cluster, scope string, n cluster.NodeConfig, b *config.Backend)

func (p *plan) addConfigured(add addNode, before *plan, m *metrics.Metrics) error {
	for i := range p.cfg.Nodes {
		n := &p.cfg.Nodes[i]
		transport, tls, err := p.transport(&n.Backend, nil, before)
		if err != nil {
			return fmt.Errorf("node %q: %w", n.Name, err)
		}
		key := pollerKey{cluster: n.Cluster, node: n.Name, url: n.URL.String(), timeout: n.Timeout, tls: tls}
		poller := p.poller(key, n.URL, transport, before, m)
		add(n.Cluster, n.Scope, cluster.NodeConfig{Name: n.Name, Member: n.Member, Postgres: n.Postgres, Client: poller}, &n.Backend)
	}
	return nil
}

func (p *plan) addDiscovered(add addNode, before *plan, m *metrics.Metrics) error {
	b, configured := &p.cfg.Backend, configuredOf(p.cfg)
	transport, tls, err := p.transport(b, p.cfg.Discovery.Allow, before)
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	for i := range p.members {
		d := &p.members[i]
		if configured.has(d) {
			continue
		}
		key := pollerKey{cluster: d.Scope, node: d.Name, refused: configured.refusal(d), timeout: b.Timeout, tls: tls}
		if key.refused == "" {
			key.url = d.API.String()
		}
		poller := p.poller(key, d.API, transport, before, m)
		add(d.Scope, d.Scope, cluster.NodeConfig{Name: d.Name, Member: d.Name, Postgres: d.Postgres, Client: poller, Left: d.Left}, b)
	}
	return nil
}

// poller is that of the plan before where nothing differs.
func (p *plan) poller(key pollerKey, u *url.URL, transport *node.Transport, before *plan, m *metrics.Metrics) cluster.Poller {
	poller := before.pollers[key]
	switch {
	case poller != nil:
	case key.refused != "":
		poller = &notPolled{key.refused, key.timeout}
	default:
		poller = m.Measure(key.cluster, key.node, node.NewClient(node.Options{URL: u, Timeout: key.timeout, Transport: transport}))
	}
	p.pollers[key] = poller
	return poller
}
