package haproxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"patroniglue/internal/config"
)

// checkPorts finds ports that HAProxy could not bind.
func checkPorts(cfg *config.Config, o Options, clusters int) error {
	owners := make(map[int]string)
	if !isRemote(o.Supervisor) { // HAProxy is on the same machine
		owners = supervisorPorts(cfg)
	}
	var errs []error
	take := func(port int, by string) {
		switch {
		case port < 1 || port > 65535:
			errs = append(errs, fmt.Errorf("%s: want a port from 1 to 65535 (got %d)", by, port))
		case owners[port] != "":
			errs = append(errs, fmt.Errorf("%s: want a port of its own, %s has it too (got %d)", by, owners[port], port))
		default:
			owners[port] = by
		}
	}
	for i := range clusters {
		which := ""
		if i > 0 {
			which = fmt.Sprintf(" of cluster %d", i+1)
		}
		take(o.WritePort+2*i, "-write-port"+which)
		take(o.ReadPort+2*i, "-read-port"+which)
	}
	if o.StatsPort != 0 {
		take(o.StatsPort, "-stats-port")
	}
	return errors.Join(errs...)
}

// supervisorPorts are the ports of the configuration, and the keys that give them.
func supervisorPorts(cfg *config.Config) map[int]string {
	owners := map[int]string{cfg.Frontend.Port: "frontend.port"}
	add := func(address, key string) {
		if _, port, err := config.SplitAddress(address); err == nil {
			owners[port] = key
		}
	}
	add(cfg.Operator.Listen, "operator.listen")
	add(cfg.Agent.Listen, "agent.listen")
	for _, n := range cfg.Nodes {
		for _, question := range slices.Sorted(maps.Keys(n.Agent)) {
			add(n.Agent[question], fmt.Sprintf("agent.%s of node %q", question, n.Name))
		}
	}
	delete(owners, 0) // the system chooses it
	return owners
}

// isRemote reports whether the supervisor is on another machine than HAProxy.
func isRemote(supervisor string) bool {
	ip, err := netip.ParseAddr(supervisor)
	return supervisor != "" && supervisor != "localhost" && !(err == nil && ip.IsLoopback())
}
