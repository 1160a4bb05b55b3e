package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// checkListenAddresses requires that no two sockets are configured to listen on the
// same address.
func (c *Config) checkListenAddresses(r *reader) {
	all := c.ListenAddresses()
	for i, a := range all {
		if first := slices.IndexFunc(all[:i], a.conflictsWith); first >= 0 {
			r.addMistake(a.Key, "want an address of its own, %s has %q too (got %q)", all[first].Key, all[first].HostPort, a.HostPort)
		}
	}
}

// ListenAddress is an address to listen on and what is answered there.
type ListenAddress struct {
	Key      string // where the file gives it, such as node[1].agent.primary
	HostPort string
	Service  Service
	Fast     bool // plain checks get fast answers

	// The question that a dedicated agent port answers; "" for every other address.
	Cluster, Node, Check string
}

// Service is what is answered at a ListenAddress.
type Service int

const (
	AgentChecks  Service = iota // HAProxy's agent-check
	FrontendHTTP                // HTTP: checks and, without OperatorHTTP, everything else
	OperatorHTTP                // HTTP: everything
)

// ListenAddresses returns every address that the configuration listens on, the
// frontend's first.
func (c *Config) ListenAddresses() []ListenAddress {
	all := []ListenAddress{{Key: "frontend.port", HostPort: net.JoinHostPort(c.Frontend.Host, strconv.Itoa(c.Frontend.Port)), Service: FrontendHTTP, Fast: c.Frontend.FastChecks}}
	if c.Operator.Listen != "" {
		all = append(all, ListenAddress{Key: "operator.listen", HostPort: c.Operator.Listen, Service: OperatorHTTP})
	}
	if c.Agent.Listen != "" {
		all = append(all, ListenAddress{Key: "agent.listen", HostPort: c.Agent.Listen, Fast: c.Frontend.FastChecks})
	}
	for i, n := range c.Nodes {
		for _, check := range slices.Sorted(maps.Keys(n.Agent)) {
			all = append(all, ListenAddress{
				Key: fmt.Sprintf("node[%d].agent.%s", i+1, check), HostPort: n.Agent[check],
				Cluster: n.Cluster, Node: n.Name, Check: check, Fast: c.Frontend.FastChecks,
			})
		}
	}
	return all
}

// conflictsWith reports whether the system would refuse to listen on both, as far as
// the text shows it: names are not resolved.
func (a ListenAddress) conflictsWith(other ListenAddress) bool {
	host, port, err := SplitAddress(a.HostPort)
	otherHost, otherPort, otherErr := SplitAddress(other.HostPort)
	all := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return err == nil && otherErr == nil && port == otherPort && port != 0 &&
		(strings.EqualFold(host, otherHost) || all(host) || all(otherHost))
}
