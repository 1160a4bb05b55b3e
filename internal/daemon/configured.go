package daemon

import (
	"cmp"
	"fmt"

	"patroniglue/discovery"
	"patroniglue/internal/config"
	"patroniglue/node"
)

// memberName names a member within its cluster.
type memberName struct{ cluster, name string }

// configured are the nodes of the configuration, which comes before discovery.
type configured struct {
	nodes  map[memberName]bool
	owners map[string]string // the node that has an address, by host:port
}

func configuredOf(cfg *config.Config) configured {
	c := configured{make(map[memberName]bool), make(map[string]string)}
	for i := range cfg.Nodes {
		n := &cfg.Nodes[i]
		c.nodes[memberName{n.Cluster, n.Name}] = true
		c.owners[node.Address(n.URL)] = n.Cluster + "/" + n.Name
	}
	return c
}

// has reports whether a discovered member is configured as well.
func (c *configured) has(m *discovery.Member) bool { return c.nodes[memberName{m.Scope, m.Name}] }

// refusal is why a discovered member that is not configured is not polled; "" = it is.
func (c *configured) refusal(m *discovery.Member) string {
	if m.API == nil {
		return cmp.Or(m.Problem, "its address is unknown")
	}
	if owner := c.owners[node.Address(m.API)]; owner != "" { // one primary with two names would be two primaries
		return fmt.Sprintf("%s is not asked for it: it is the configured address of %s", m.API.Host, owner)
	}
	return ""
}
