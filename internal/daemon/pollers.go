package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"time"

	"patroniglue/cluster"
	"patroniglue/discovery"
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

// pollerBuilder makes the clusters of a plan with their pollers. What is the same in the
// plan before is taken over from it.
type pollerBuilder struct {
	cfg     *config.Config
	before  *plan
	metrics *metrics.Metrics
	index   map[string]int                  // of clusters, by name
	sums    map[[3]string][sha256.Size]byte // of the contents of files, by their names

	clusters   []cluster.ClusterConfig
	pollers    map[pollerKey]cluster.Poller
	transports map[backendTLS]*node.Transport
}

func newPollerBuilder(cfg *config.Config, before *plan, m *metrics.Metrics) *pollerBuilder {
	return &pollerBuilder{
		cfg: cfg, before: before, metrics: m, index: make(map[string]int), sums: make(map[[3]string][sha256.Size]byte),
		pollers: make(map[pollerKey]cluster.Poller), transports: make(map[backendTLS]*node.Transport),
	}
}

// addAll adds all nodes: first those of the configuration, in its order, and then the
// discovered members, which are in the order of their names.
func (b *pollerBuilder) addAll(members []discovery.Member) error {
	if err := b.addConfigured(); err != nil {
		return err
	}
	if !b.cfg.Discovery.On() {
		return nil
	}
	return b.addDiscovered(members)
}

func (b *pollerBuilder) addConfigured() error {
	for i := range b.cfg.Nodes {
		n := &b.cfg.Nodes[i]
		transport, tls, err := b.transport(&n.Backend, nil)
		if err != nil {
			return fmt.Errorf("node %q: %w", n.Name, err)
		}
		key := pollerKey{cluster: n.Cluster, node: n.Name, url: n.URL.String(), timeout: n.Timeout, tls: tls}
		poller := b.poller(key, n.URL, transport)
		b.add(n.Cluster, n.Scope, cluster.NodeConfig{Name: n.Name, Member: n.Member, Postgres: n.Postgres, Client: poller}, &n.Backend)
	}
	return nil
}

func (b *pollerBuilder) addDiscovered(members []discovery.Member) error {
	backend, configured := &b.cfg.Backend, configuredOf(b.cfg)
	transport, tls, err := b.transport(backend, b.cfg.Discovery.Allow)
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	for i := range members {
		m := &members[i]
		if configured.has(m) {
			continue
		}
		key := pollerKey{cluster: m.Scope, node: m.Name, refused: configured.refusal(m), timeout: backend.Timeout, tls: tls}
		if key.refused == "" {
			key.url = m.API.String()
		}
		poller := b.poller(key, m.API, transport)
		b.add(m.Scope, m.Scope, cluster.NodeConfig{Name: m.Name, Member: m.Name, Postgres: m.Postgres, Client: poller, Unlisted: m.Unlisted}, backend)
	}
	return nil
}

// add adds a node to a cluster, which the first node makes.
func (b *pollerBuilder) add(name, scope string, n cluster.NodeConfig, backend *config.Backend) {
	at, ok := b.index[name]
	if !ok {
		at = len(b.clusters)
		b.index[name] = at
		b.clusters = append(b.clusters, cluster.ClusterConfig{Name: name, Scope: scope})
	}
	n.Interval, n.PrimaryInterval, n.FastInterval, n.Fall = backend.Interval, backend.PrimaryInterval, backend.FastInterval, backend.Fall
	c := &b.clusters[at]
	c.Nodes = append(c.Nodes, n)
}

// poller is that of the plan before where nothing differs.
func (b *pollerBuilder) poller(key pollerKey, u *url.URL, transport *node.Transport) cluster.Poller {
	poller := b.before.pollers[key]
	switch {
	case poller != nil:
	case key.refused != "":
		poller = &notPolled{key.refused, key.timeout}
	default:
		poller = b.metrics.Measure(key.cluster, key.node, node.NewClient(node.Options{URL: u, Timeout: key.timeout, Transport: transport}))
	}
	b.pollers[key] = poller
	return poller
}
