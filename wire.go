package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/conns"
	"patroniglue/httpapi"
	"patroniglue/node"
)

// plan is all that follows from a configuration before anything is touched. To
// make it is what -check does, and how a start and a reload begin: from then on
// only a port that cannot be opened can go wrong.
type plan struct {
	cfg        *config
	clusters   cluster.Config
	pollers    map[pollerKey]cluster.Poller
	transports map[backendTLS]*http.Transport
	http       httpapi.Settings
	agents     agentapi.Settings
	notes      []string // the configuration's, and what else people should know
}

// newPlan makes a plan. What is the same as before, which may be nil, it takes
// over: who polls a node in another way is another poller.
func newPlan(cfg *config, before *plan, m *metrics) (*plan, error) {
	if before == nil {
		before = &plan{}
	}
	limits, lowered := cfg.Limits.fit(openFiles(), len(cfg.Nodes), len(cfg.listeners()))
	p := &plan{
		cfg: cfg, notes: slices.Concat(cfg.Notes, lowered), pollers: make(map[pollerKey]cluster.Poller), transports: make(map[backendTLS]*http.Transport),
		http:   httpapi.Settings{Allow: cfg.Frontend.Allow, Token: cfg.Frontend.Token, Plain: cfg.Frontend.FastChecks, MaxConns: limits.HTTPConnections, MaxStreams: limits.EventStreams},
		agents: agentapi.Settings{Allow: cfg.Frontend.Allow, AskTimeout: longestPoll(cfg) + time.Second, MaxConns: limits.AgentConnections},
		clusters: cluster.Config{
			TTL: cfg.Cache.TTL,
			Rules: cluster.Rules{
				Lock: cfg.Checks.Primary == "lock", MaxLag: cfg.Checks.MaxLag, LagHold: cfg.Checks.LagHold,
				SameTimeline: cfg.Checks.SameTimeline, Streaming: cfg.Checks.Streaming,
				MinReplicas: cfg.Checks.MinReplicas, Fallback: cfg.Checks.Fallback == "primary",
			},
			History:   cfg.History.Size,
			Suspended: suspended,
		},
	}
	var err error
	f, o := &cfg.Frontend, &cfg.Operator
	if p.http.TLS, err = serverTLS(cfg, "frontend", f.Certfile, f.Keyfile, f.ClientCAfile); err != nil {
		return nil, err
	}
	if o.Listen != "" {
		p.http.Operator = &httpapi.Operator{Allow: o.Allow}
		if p.http.Operator.TLS, err = serverTLS(cfg, "operator", o.Certfile, o.Keyfile, o.ClientCAfile); err != nil {
			return nil, err
		}
		if o.Users != nil {
			p.http.Operator.Users = httpapi.NewUsers(o.Users)
		}
	}
	return p, p.addClusters(before, m)
}

// newDaemon gives each package what it needs of the configuration at path. It
// opens no port and contacts nobody.
func newDaemon(path string, cfg *config, log zerolog.Logger) (*daemon, error) {
	d := &daemon{path: path, log: log, history: newHistoryFile(cfg.History.File, cfg.History.Size, log), ports: newPorts(log)}
	certificates := func() []httpapi.Certificate { return d.plan.Load().certificates() }
	d.metrics = newMetrics(certificates)
	p, err := newPlan(cfg, nil, d.metrics)
	if err != nil {
		return nil, err
	}
	d.plan.Store(p)
	d.sup = cluster.New(p.clusters)
	d.http = httpapi.New(httpapi.Config{
		Supervisor: d.sup, Settings: p.http, Version: version, Metrics: d.metrics.handler(log), Log: log,
		Certificates: certificates, Reasons: d.reloads.reasons, AgentLine: agentapi.AppendLine,
	})
	d.agents = agentapi.New(agentapi.Config{Asker: d.sup, Settings: p.agents, Log: log})
	d.ports.quick = d.quick
	return d.metrics.of(d), nil
}

// quick is the short way of a port that HAProxy asks.
func (d *daemon) quick(p *port) (linger time.Duration, answer conns.Answer) {
	if p.service == frontend {
		return 0, d.http.AnswerFirst
	}
	return agentapi.LingerTimeout, func(peer netip.AddrPort, first, out []byte) []byte {
		return d.agents.AnswerFirst(p.question.Load(), peer, first, out)
	}
}

// longestPoll bounds how long a node's first poll can take.
func longestPoll(cfg *config) time.Duration {
	var longest time.Duration
	for i := range cfg.Nodes {
		longest = max(longest, cfg.Nodes[i].Timeout)
	}
	return longest
}

// pollerKey is all that makes one poller differ from another. Its url is text: a
// pointer would be another one each time.
type pollerKey struct {
	cluster, node, url string
	timeout            time.Duration
	tls                backendTLS
}

// addClusters sorts nodes into their clusters, in the order of the file.
func (p *plan) addClusters(before *plan, m *metrics) error {
	index := make(map[string]int)
	for i := range p.cfg.Nodes {
		n := &p.cfg.Nodes[i]
		poller, err := p.poller(n, before, m)
		if err != nil {
			return fmt.Errorf("node %q: %w", n.Name, err)
		}
		at, ok := index[n.Cluster]
		if !ok {
			at = len(p.clusters.Clusters)
			index[n.Cluster] = at
			p.clusters.Clusters = append(p.clusters.Clusters, cluster.ClusterConfig{Name: n.Cluster, Scope: n.Scope})
		}
		c := &p.clusters.Clusters[at]
		c.Nodes = append(c.Nodes, cluster.NodeConfig{
			Name: n.Name, Member: n.Member, Postgres: n.Postgres, Client: poller,
			Interval: n.Interval, PrimaryInterval: n.PrimaryInterval, FastInterval: n.FastInterval, Fall: n.Fall,
		})
	}
	return nil
}

func (p *plan) poller(n *nodeConfig, before *plan, m *metrics) (cluster.Poller, error) {
	transport, how, err := p.transport(n, before)
	if err != nil {
		return nil, err
	}
	key := pollerKey{n.Cluster, n.Name, n.URL.String(), n.Timeout, how}
	poller := before.pollers[key]
	if poller == nil {
		poller = m.measure(n.Cluster, n.Name, node.NewClient(node.Options{URL: n.URL, Timeout: n.Timeout, Transport: transport}))
	}
	p.pollers[key] = poller
	return poller, nil
}

// backendTLS is all that makes one node's transport differ from another's.
type backendTLS struct {
	cafile, certfile, keyfile string
	insecure                  bool
	contents                  [sha256.Size]byte // of the three files
}

func (p *plan) transport(n *nodeConfig, before *plan) (*http.Transport, backendTLS, error) {
	files := p.cfg.Files
	key := backendTLS{n.CAfile, n.Certfile, n.Keyfile, n.Insecure, contentsOf(files, n.CAfile, n.Certfile, n.Keyfile)}
	t := cmp.Or(p.transports[key], before.transports[key])
	if t == nil {
		t = node.NewTransport()
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: n.Insecure}
		if n.CAfile != "" {
			pool, err := authorities(files, n.CAfile)
			if err != nil {
				return nil, key, err
			}
			t.TLSClientConfig.RootCAs = pool
		}
		if n.Certfile != "" {
			pair, err := tls.X509KeyPair(files[n.Certfile], files[n.Keyfile])
			if err != nil {
				return nil, key, fmt.Errorf("reading the client certificate: %w", err)
			}
			t.TLSClientConfig.Certificates = []tls.Certificate{pair}
		}
	}
	p.transports[key] = t
	return t, key, nil
}

func contentsOf(files map[string][]byte, names ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d\n%s", len(files[name]), files[name])
	}
	h.Sum(sum[:0])
	return sum
}

// serverTLS is nil where no certificate is configured.
func serverTLS(cfg *config, of, certfile, keyfile, clientCAfile string) (*tls.Config, error) {
	if certfile == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(cfg.Files[certfile], cfg.Files[keyfile])
	if err != nil {
		return nil, fmt.Errorf("reading the %s's certificate: %w", of, err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: cfg.Frontend.TLSMinVersion, CipherSuites: cfg.Frontend.TLSCiphers,
		NextProtos: []string{"http/1.1"},
	}
	if clientCAfile != "" {
		if c.ClientCAs, err = authorities(cfg.Files, clientCAfile); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// certificates are those that we show to others, as they are in use.
func (p *plan) certificates() []httpapi.Certificate {
	var out []httpapi.Certificate
	add := func(use, file string, c *tls.Config) {
		out = append(out, httpapi.Certificate{Use: use, File: file, Ends: c.Certificates[0].Leaf.NotAfter})
	}
	if p.http.TLS != nil {
		add("frontend", p.cfg.Frontend.Certfile, p.http.TLS)
	}
	if o := p.http.Operator; o != nil && o.TLS != nil && p.cfg.Operator.Certfile != p.cfg.Frontend.Certfile {
		add("operator", p.cfg.Operator.Certfile, o.TLS)
	}
	clients := make(map[string]*tls.Config)
	for key, t := range p.transports {
		if key.certfile != "" {
			clients[key.certfile] = t.TLSClientConfig
		}
	}
	for _, file := range slices.Sorted(maps.Keys(clients)) {
		add("client", file, clients[file])
	}
	return out
}

func authorities(files map[string][]byte, path string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files[path]) {
		return nil, fmt.Errorf("reading CA certificates: no PEM certificate in %s", path)
	}
	return pool, nil
}
