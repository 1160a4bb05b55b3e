package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
	"patroniglue/internal/listen"
	"patroniglue/node"
)

// plan is all that follows from a configuration before anything is touched. To
// make it is what -check does, and how a start and a reload begin: from then on
// only a port that cannot be opened can go wrong.
type plan struct {
	cfg        *config
	members    []discovery.Member  // that cfg's discovery found
	source     *discovery.Settings // where it reads them; nil = it is off
	clusters   cluster.Config
	pollers    map[pollerKey]cluster.Poller
	transports map[backendTLS]*node.Transport
	http       httpapi.Settings
	agents     agentapi.Settings
	notes      []string                        // the configuration's, and what else people should know
	sums       map[[3]string][sha256.Size]byte // of the contents of files
}

// newPlan makes a plan. What is the same as before, which may be nil, it takes
// over: who polls a node in another way is another poller.
func newPlan(cfg *config, found found, before *plan, m *metrics) (*plan, error) {
	if before == nil {
		before = &plan{}
	}
	p := &plan{
		cfg:    cfg,
		http:   httpapi.Settings{Allow: cfg.Frontend.Allow, Token: cfg.Frontend.Token, Plain: cfg.Frontend.FastChecks},
		agents: agentapi.Settings{Allow: cfg.Frontend.Allow, AskTimeout: longestPoll(cfg) + time.Second},
		clusters: cluster.Config{
			TTL: cfg.Cache.TTL,
			Rules: cluster.Rules{
				Lock: cfg.Checks.Primary == "lock", MaxLag: cfg.Checks.MaxLag, LagHold: cfg.Checks.LagHold,
				SameTimeline: cfg.Checks.SameTimeline, Streaming: cfg.Checks.Streaming,
				MinReplicas: cfg.Checks.MinReplicas, Fallback: cfg.Checks.Fallback == "primary",
			},
			History:   cfg.History.Size,
			Suspended: cluster.Suspended,
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
	if p.source, err = discoverySettings(cfg, before); err != nil {
		return nil, err
	}
	return p, p.watch(found, before, m)
}

// with is the same plan for others that discovery found.
func (p *plan) with(found found, m *metrics) (*plan, error) {
	next := *p
	return &next, next.watch(found, p, m)
}

// watch fills in what depends on who is watched.
func (p *plan) watch(found found, before *plan, m *metrics) error {
	p.pollers, p.transports, p.sums = make(map[pollerKey]cluster.Poller), make(map[backendTLS]*node.Transport), make(map[[3]string][sha256.Size]byte)
	p.members, p.clusters.Clusters, p.clusters.Pending = found.members, nil, found.pending
	ports := 0
	for _, l := range p.cfg.listeners() {
		ports += l.files()
	}
	limits, lowered := p.cfg.Limits.fit(openFiles(), len(p.cfg.Nodes)+len(found.members), ports)
	p.http.MaxConns, p.http.MaxStreams, p.agents.MaxConns = limits.HTTPConnections, limits.EventStreams, limits.AgentConnections
	p.notes = slices.Concat(p.cfg.Notes, lowered)
	return p.addClusters(before, m)
}

// newDaemon gives each package what it needs of the configuration at path. It
// opens no port and contacts nobody.
func newDaemon(path string, cfg *config, log zerolog.Logger) (*daemon, error) {
	d := &daemon{path: path, log: log, history: newHistoryFile(cfg.History.File, cfg.History.Size, log), ports: newPorts(log)}
	certificates := func() []httpapi.Certificate { return d.plan.Load().certificates() }
	d.metrics = newMetrics(certificates)
	d.discovered = newDiscovered(d)
	p, err := newPlan(cfg, found{pending: pendingText(cfg, discovery.Status{})}, nil, d.metrics)
	if err != nil {
		return nil, err
	}
	d.plan.Store(p)
	d.sup = cluster.New(p.clusters)
	d.http = httpapi.New(httpapi.Config{
		Supervisor: d.sup, Settings: p.http, Version: version, Metrics: d.metrics.handler(log), Log: log,
		Certificates: certificates, Reasons: d.reasons, AgentLine: agentapi.AppendLine,
	})
	d.agents = agentapi.New(agentapi.Config{Asker: d.sup, Settings: p.agents, Log: log})
	d.ports.quick = d.quick
	return d.metrics.of(d), nil
}

// quick is the short way of a port that HAProxy asks.
func (d *daemon) quick(p *port) (linger time.Duration, answer listen.Answer) {
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
	if cfg.Discovery.on() {
		longest = max(longest, cfg.Backend.Timeout)
	}
	return longest
}

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
func (p *plan) addClusters(before *plan, m *metrics) error {
	index := make(map[string]int)
	add := func(name, scope string, n *cluster.NodeConfig, b *backendConfig) {
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
		transport, how, err := p.transport(&n.backendConfig, nil, before)
		if err != nil {
			return fmt.Errorf("node %q: %w", n.Name, err)
		}
		key := pollerKey{n.Cluster, n.Name, n.URL.String(), "", n.Timeout, how}
		poller := p.poller(key, n.URL, transport, before, m)
		add(n.Cluster, n.Scope, &cluster.NodeConfig{Name: n.Name, Member: n.Member, Postgres: n.Postgres, Client: poller}, &n.backendConfig)
	}
	if !p.cfg.Discovery.on() {
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
func (p *plan) poller(key pollerKey, u *url.URL, transport *node.Transport, before *plan, m *metrics) cluster.Poller {
	poller := before.pollers[key]
	switch {
	case poller != nil:
	case key.refused != "":
		poller = &notAsked{key.refused, key.timeout}
	default:
		poller = m.measure(key.cluster, key.node, node.NewClient(node.Options{URL: u, Timeout: key.timeout, Transport: transport}))
	}
	p.pollers[key] = poller
	return poller
}

// backendTLS is all that makes one node's transport differ from another's.
type backendTLS struct {
	cafile, certfile, keyfile string
	insecure                  bool
	contents                  [sha256.Size]byte // of the three files
	allow                     string            // who may be dialled
}

// transport dials nobody but allow, where that is not empty.
func (p *plan) transport(n *backendConfig, allow []netip.Prefix, before *plan) (*node.Transport, backendTLS, error) {
	files := p.cfg.Files
	key := backendTLS{n.CAfile, n.Certfile, n.Keyfile, n.Insecure, p.contentsOf(n.CAfile, n.Certfile, n.Keyfile), fmt.Sprint(allow)}
	t := cmp.Or(p.transports[key], before.transports[key])
	if t == nil {
		t = node.NewTransport()
		if len(allow) > 0 {
			t.DialContext = (&net.Dialer{KeepAlive: -1, Control: onlyTo(allow)}).DialContext
		}
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

func (p *plan) contentsOf(names ...string) (sum [sha256.Size]byte) {
	key := [3]string(names)
	if sum, ok := p.sums[key]; ok {
		return sum
	}
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d\n%s", len(p.cfg.Files[name]), p.cfg.Files[name])
	}
	h.Sum(sum[:0])
	p.sums[key] = sum
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
	if p.source != nil && p.source.TLS != nil && len(p.source.TLS.Certificates) > 0 {
		add("discovery", p.cfg.Discovery.Certfile, p.source.TLS)
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
