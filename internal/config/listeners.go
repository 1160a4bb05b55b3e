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

// listener is an address to listen on, where the file gives it, and what is
// answered there. A dedicated agent port answers one check of one node.
type ListenAddress struct {
	Key, HostPort string
	Service       Service
	Cluster       string // of a dedicated agent port, with node and check; else ""
	Node          string
	Check         string
	Fast          bool // answers are fast where they can be
}

type Service int

const (
	AgentChecks  Service = iota
	FrontendHTTP         // HTTP: checks, and all else where operators have no listener
	OperatorHTTP         // HTTP: all
)

// listeners are all of them, the frontend first.
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

// conflictsWith says that the system would refuse one of the two, as far as the text
// tells: names are not resolved.
func (a ListenAddress) conflictsWith(other ListenAddress) bool {
	host, port, err := SplitAddress(a.HostPort)
	otherHost, otherPort, otherErr := SplitAddress(other.HostPort)
	all := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return err == nil && otherErr == nil && port == otherPort && port != 0 &&
		(strings.EqualFold(host, otherHost) || all(host) || all(otherHost))
}
