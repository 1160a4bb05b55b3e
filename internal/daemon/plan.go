package daemon

import (
	"slices"
	"time"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
	"patroniglue/internal/config"
	"patroniglue/internal/metrics"
	"patroniglue/node"
)

// plan is all that follows from a configuration and from what discovery found. Making a
// plan changes nothing: it is what -check does, and how a start and a reload begin. After
// that only a port that cannot be opened can make them fail.
type plan struct {
	cfg        *config.Config
	members    []discovery.Member  // that discovery found
	source     *discovery.Settings // where it reads them; nil = it is off
	clusters   cluster.Config
	pollers    map[pollerKey]cluster.Poller
	transports map[backendTLS]*node.Transport
	http       httpapi.Settings
	agents     agentapi.Settings
	notes      []string // of the configuration, and about limits that were lowered
}

// newPlan makes a plan. What is the same in the plan before, which may be nil, is taken
// over from it, so that polling a node in the same way goes on with the same poller.
func newPlan(cfg *config.Config, found found, before *plan, m *metrics.Metrics) (*plan, error) {
	if before == nil {
		before = &plan{}
	}
	p := &plan{
		cfg:      cfg,
		clusters: clusterConfig(cfg),
		agents:   agentapi.Settings{Allow: cfg.Frontend.Allow, AskTimeout: longestPoll(cfg) + time.Second},
	}
	var err error
	if p.http, err = httpSettings(cfg); err != nil {
		return nil, err
	}
	if p.source, err = discoverySettings(cfg, before); err != nil {
		return nil, err
	}
	if err := p.setMembers(found, before, m); err != nil {
		return nil, err
	}
	return p, nil
}

// withMembers is the same plan for other discovered members.
func (p *plan) withMembers(found found, m *metrics.Metrics) (*plan, error) {
	next := *p
	if err := next.setMembers(found, p, m); err != nil {
		return nil, err
	}
	return &next, nil
}

// setMembers sets all that depends on the discovered members.
func (p *plan) setMembers(found found, before *plan, m *metrics.Metrics) error {
	p.members = found.members
	files := 0
	for _, a := range p.cfg.ListenAddresses() {
		files += filesOf(a)
	}
	limits, lowered := fitLimits(p.cfg.Limits, openFiles(), len(p.cfg.Nodes)+len(found.members), files)
	p.http.MaxConns, p.http.MaxStreams, p.agents.MaxConns = limits.HTTPConnections, limits.EventStreams, limits.AgentConnections
	p.notes = slices.Concat(p.cfg.Notes, lowered)

	b := newPollerBuilder(p.cfg, before, m)
	if err := b.addAll(found.members); err != nil {
		return err
	}
	p.clusters.Clusters, p.clusters.Pending, p.pollers, p.transports = b.clusters, found.pending, b.pollers, b.transports
	return nil
}

// clusterConfig is the configuration of the supervisor, without clusters.
func clusterConfig(cfg *config.Config) cluster.Config {
	return cluster.Config{
		TTL: cfg.Cache.TTL,
		Rules: cluster.Rules{
			Lock: cfg.Checks.Primary == "lock", MaxLag: cfg.Checks.MaxLag, LagHold: cfg.Checks.LagHold,
			SameTimeline: cfg.Checks.SameTimeline, Streaming: cfg.Checks.Streaming,
			MinReplicas: cfg.Checks.MinReplicas, Fallback: cfg.Checks.Fallback == "primary",
		},
		History:   cfg.History.Size,
		Suspended: cluster.Suspended,
	}
}

// httpSettings are those of HTTP without limits.
func httpSettings(cfg *config.Config) (s httpapi.Settings, err error) {
	f, o := &cfg.Frontend, &cfg.Operator
	s = httpapi.Settings{Allow: f.Allow, Token: f.Token, Fast: f.FastChecks}
	if s.TLS, err = serverTLS(cfg, "frontend", f.Certfile, f.Keyfile, f.ClientCAfile); err != nil {
		return s, err
	}
	if o.Listen == "" {
		return s, nil
	}
	s.Operator = &httpapi.Operator{Allow: o.Allow}
	if o.Users != nil {
		s.Operator.Users = httpapi.NewUsers(o.Users)
	}
	s.Operator.TLS, err = serverTLS(cfg, "operator", o.Certfile, o.Keyfile, o.ClientCAfile)
	return s, err
}

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
