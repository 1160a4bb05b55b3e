package haproxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"patroniglue/internal/config"
)

// haproxyPorts looks for ports that HAProxy could not bind.
func checkPorts(cfg *config.Config, o Options, clusters int) error {
	var errs []error
	users := make(map[int]string)
	use := func(port int, who string) {
		switch {
		case port < 1 || port > 65535:
			errs = append(errs, fmt.Errorf("%s: want a port from 1 to 65535 (got %d)", who, port))
		case users[port] != "":
			errs = append(errs, fmt.Errorf("%s: want a port of its own, %s has it too (got %d)", who, users[port], port))
		default:
			users[port] = who
		}
	}
	// HAProxy beside the supervisor meets its ports too.
	if !isRemote(o.Supervisor) {
		users[cfg.Frontend.Port] = "frontend.port"
		if _, port, err := config.SplitAddress(cfg.Operator.Listen); err == nil {
			users[port] = "operator.listen"
		}
		if _, port, err := config.SplitAddress(cfg.Agent.Listen); err == nil {
			users[port] = "agent.listen"
		}
		for _, n := range cfg.Nodes {
			for _, question := range slices.Sorted(maps.Keys(n.Agent)) {
				if _, port, err := config.SplitAddress(n.Agent[question]); err == nil {
					users[port] = fmt.Sprintf("agent.%s of node %q", question, n.Name)
				}
			}
		}
		delete(users, 0)
	}
	for i := range clusters {
		which := ""
		if i > 0 {
			which = fmt.Sprintf(" of cluster %d", i+1)
		}
		use(o.WritePort+2*i, "-write-port"+which)
		use(o.ReadPort+2*i, "-read-port"+which)
	}
	if o.StatsPort != 0 {
		use(o.StatsPort, "-stats-port")
	}
	return errors.Join(errs...)
}

func isRemote(supervisor string) bool {
	ip, err := netip.ParseAddr(supervisor)
	return supervisor != "" && supervisor != "localhost" && !(err == nil && ip.IsLoopback())
}
