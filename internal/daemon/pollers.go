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

// notAsked is who listed an address that cannot be asked, or may not.
type notAsked struct {
	why     string
	timeout time.Duration
}

func (n *notAsked) failure() error {
	return &node.Failure{Kind: node.KindOther, Err: errors.New(n.why)}
}

// Poll is part of cluster.Poller; it contacts nobody.
func (n *notAsked) Poll(context.Context) (node.Report, error) { return node.Report{}, n.failure() }

// Settings is part of cluster.Poller.
func (n *notAsked) Settings(context.Context) (node.Settings, error) {
	return node.Settings{}, n.failure()
}

// URL is part of cluster.Poller.
func (n *notAsked) URL() string { return "" }

// Timeout is part of cluster.Poller.
func (n *notAsked) Timeout() time.Duration { return n.timeout }

// pollerKey is all that makes one poller differ from another. Its url is text: a
// pointer would be another one each time.
type pollerKey struct {
	cluster, node, url string
	refused            string // why it is not polled
	timeout            time.Duration
	tls                backendTLS
}

// addClusters sorts nodes into their clusters, in the order of the file, and then
// those that were discovered by name.
func (p *plan) addClusters(before *plan, m *metrics.Metrics) error {
	index := make(map[string]int)
	add := func(name, scope string, n *cluster.NodeConfig, b *config.Backend) {
		at, ok := index[name]
		if !ok {
			at = len(p.clusters.Clusters)
			index[name] = at
			p.clusters.Clusters = append(p.clusters.Clusters, cluster.ClusterConfig{Name: name, Scope: scope})
		}
		n.Interval, n.PrimaryInterval, n.FastInterval, n.Fall = b.Interval, b.PrimaryInterval, b.FastInterval, b.Fall
		c := &p.clusters.Clusters[at]
		c.Nodes = append(c.Nodes, *n)
	}
	for i := range p.cfg.Nodes {
		n := &p.cfg.Nodes[i]
		transport, how, err := p.transport(&n.Backend, nil, before)
		if err != nil {
			return fmt.Errorf("node %q: %w", n.Name, err)
		}
		key := pollerKey{n.Cluster, n.Name, n.URL.String(), "", n.Timeout, how}
		poller := p.poller(key, n.URL, transport, before, m)
		add(n.Cluster, n.Scope, &cluster.NodeConfig{Name: n.Name, Member: n.Member, Postgres: n.Postgres, Client: poller}, &n.Backend)
	}
	if !p.cfg.Discovery.On() {
		return nil
	}
	b, static := &p.cfg.Backend, staticOf(p.cfg)
	transport, how, err := p.transport(b, p.cfg.Discovery.Allow, before)
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	for i := range p.members {
		d := &p.members[i]
		refused, configured := static.judge(d)
		if configured {
			continue
		}
		key := pollerKey{cluster: d.Scope, node: d.Name, timeout: b.Timeout, tls: how}
		if key.refused = refused; refused == "" {
			key.url = d.API.String()
		}
		poller := p.poller(key, d.API, transport, before, m)
		add(d.Scope, d.Scope, &cluster.NodeConfig{Name: d.Name, Member: d.Name, Postgres: d.Postgres, Client: poller, Unlisted: d.Unlisted}, b)
	}
	return nil
}

// poller is as before where nothing differs.
func (p *plan) poller(key pollerKey, u *url.URL, transport *node.Transport, before *plan, m *metrics.Metrics) cluster.Poller {
	poller := before.pollers[key]
	switch {
	case poller != nil:
	case key.refused != "":
		poller = &notAsked{key.refused, key.timeout}
	default:
		poller = m.Measure(key.cluster, key.node, node.NewClient(node.Options{URL: u, Timeout: key.timeout, Transport: transport}))
	}
	p.pollers[key] = poller
	return poller
}
