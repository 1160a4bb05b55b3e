package client

import (
	"context"
	"maps"
	"net/url"
	"slices"

	"patroniglue/httpapi"
	"patroniglue/internal/config"
)

// Status is what a daemon knows of its clusters and their nodes.
type Status struct {
	Health httpapi.Health      `json:"health"`
	Nodes  []httpapi.NodeState `json:"nodes"`
}

// Status asks about all clusters or, unless cluster is "", about one.
func (c *Client) Status(ctx context.Context, cluster string) (Status, error) {
	var out Status
	query := url.Values{}
	if cluster != "" {
		query.Set("cluster", cluster)
	}
	// Only with discovery there may be no cluster yet.
	err := c.get(ctx, "/health", query, &out.Health, func() bool { return len(out.Health.Clusters) > 0 || c.cfg.Discovery.On() })
	if err != nil {
		return Status{}, err
	}
	members, err := c.members(ctx, out.Health.Clusters)
	if err != nil {
		return Status{}, err
	}
	for _, m := range members {
		if cluster != "" && m.cluster != cluster {
			continue
		}
		var state httpapi.NodeState
		err := c.get(ctx, nodePath(m.cluster, m.node), nil, &state, func() bool { return state.Node == m.node })
		if err != nil {
			return Status{}, err
		}
		out.Nodes = append(out.Nodes, state)
	}
	return out, nil
}

// member is a node by its names.
type member struct{ cluster, node string }

// members lists the configured nodes and, with discovery, all others that the daemon
// knows in clusters.
func (c *Client) members(ctx context.Context, clusters []httpapi.ClusterHealth) ([]member, error) {
	var configured []member
	for _, n := range c.cfg.Nodes {
		configured = append(configured, member{n.Cluster, n.Name})
	}
	if !c.cfg.Discovery.On() {
		return configured, nil
	}
	all := slices.Clone(configured)
	for _, cluster := range clusters {
		if !config.ValidName(cluster.Cluster) {
			continue // no patroniglue has a cluster of that name
		}
		var liveness struct {
			Reasons map[string]string `json:"reasons"` // by node
		}
		err := c.get(ctx, "/cluster/"+cluster.Cluster+"/liveness", nil, &liveness, func() bool { return true })
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(liveness.Reasons)) {
			m := member{cluster.Cluster, name}
			if config.ValidName(name) && !slices.Contains(configured, m) {
				all = append(all, m)
			}
		}
	}
	return all, nil
}
