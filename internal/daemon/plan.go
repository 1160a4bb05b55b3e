package daemon

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
	"patroniglue/internal/config"
	"patroniglue/internal/metrics"
	"patroniglue/node"
)

// plan is all that follows from a configuration before anything is touched. To
// make it is what -check does, and how a start and a reload begin: from then on
// only a port that cannot be opened can go wrong.
type plan struct {
	cfg        *config.Config
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
func newPlan(cfg *config.Config, found found, before *plan, m *metrics.Metrics) (*plan, error) {
	if before == nil {
		before = &plan{}
	}
	p := &plan{
		cfg:    cfg,
		http:   httpapi.Settings{Allow: cfg.Frontend.Allow, Token: cfg.Frontend.Token, Fast: cfg.Frontend.FastChecks},
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
func (p *plan) with(found found, m *metrics.Metrics) (*plan, error) {
	next := *p
	return &next, next.watch(found, p, m)
}

// watch fills in what depends on who is watched.
func (p *plan) watch(found found, before *plan, m *metrics.Metrics) error {
	p.pollers, p.transports, p.sums = make(map[pollerKey]cluster.Poller), make(map[backendTLS]*node.Transport), make(map[[3]string][sha256.Size]byte)
	p.members, p.clusters.Clusters, p.clusters.Pending = found.members, nil, found.pending
	ports := 0
	for _, l := range p.cfg.ListenAddresses() {
		ports += filesOf(l)
	}
	limits, lowered := fitLimits(p.cfg.Limits, openFiles(), len(p.cfg.Nodes)+len(found.members), ports)
	p.http.MaxConns, p.http.MaxStreams, p.agents.MaxConns = limits.HTTPConnections, limits.EventStreams, limits.AgentConnections
	p.notes = slices.Concat(p.cfg.Notes, lowered)
	return p.addClusters(before, m)
}

// notes are remarks about the configuration that are no errors.
func (d *Daemon) Notes() []string { return d.plan.Load().notes }

// longestPoll bounds how long a node's first poll can take.
func longestPoll(cfg *config.Config) time.Duration {
	var longest time.Duration
	for i := range cfg.Nodes {
		longest = max(longest, cfg.Nodes[i].Timeout)
	}
	if cfg.Discovery.On() {
		longest = max(longest, cfg.Backend.Timeout)
	}
	return longest
}

func rulesOf(c *config.Discovery) *discovery.Rules {
	r := &discovery.Rules{Scopes: c.Scopes, Allow: c.Allow, Rewrite: c.Rewrite}
	if c.APIPort != 0 {
		r.APIPort = strconv.Itoa(c.APIPort)
	}
	return r
}

// discoverySettings are as before where nothing differs that etcd is asked with.
func discoverySettings(cfg *config.Config, before *plan) (*discovery.Settings, error) {
	d := &cfg.Discovery
	if !d.On() {
		return nil, nil
	}
	asks := func(c *config.Config) config.Discovery {
		d := c.Discovery
		d.Allow, d.APIPort, d.Rewrite, d.File = nil, 0, nil, ""
		return d
	}
	same := func(file string) bool { return string(before.cfg.Files[file]) == string(cfg.Files[file]) }
	if before.source != nil && reflect.DeepEqual(asks(before.cfg), asks(cfg)) && same(d.CAfile) && same(d.Certfile) && same(d.Keyfile) {
		return before.source, nil
	}
	s := &discovery.Settings{Endpoints: d.Etcd, Namespaces: d.Namespaces, Scopes: d.Scopes, Username: d.Username, Password: d.Password, TLS: &tls.Config{}}
	if d.CAfile != "" {
		pool, err := authorities(cfg.Files, d.CAfile)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		s.TLS.RootCAs = pool
	}
	if d.Certfile != "" {
		pair, err := tls.X509KeyPair(cfg.Files[d.Certfile], cfg.Files[d.Keyfile])
		if err != nil {
			return nil, fmt.Errorf("discovery: reading the client certificate: %w", err)
		}
		s.TLS.Certificates = []tls.Certificate{pair}
	}
	return s, nil
}
