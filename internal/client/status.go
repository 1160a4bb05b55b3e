package client

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"patroniglue/httpapi"
	"patroniglue/internal/config"
)

// statusReport is what status -json prints.
type Status struct {
	Health httpapi.Health      `json:"health"`
	Nodes  []httpapi.NodeState `json:"nodes"`
}

// fetchStatus asks for all clusters, or for one.
func FetchStatus(ctx context.Context, cfg *config.Config, only string) (Status, error) {
	client, base, err := dial(cfg)
	if err != nil {
		return Status{}, err
	}
	defer client.CloseIdleConnections()
	// Patroni answers every path with some JSON, and so may others.
	other := fmt.Errorf("%s: what answers there is no patroniglue with this configuration", base)
	var out Status
	health := base + "/health"
	if only != "" {
		health += "?cluster=" + url.QueryEscape(only)
	}
	if err := getJSON(ctx, client, health, &out.Health); err != nil {
		return Status{}, err
	}
	if len(out.Health.Clusters) == 0 && !cfg.Discovery.On() {
		return Status{}, other
	}
	nodes, err := statusNodes(ctx, cfg, client, base, out.Health.Clusters)
	if err != nil {
		return Status{}, err
	}
	for _, n := range nodes {
		if only != "" && n.cluster != only {
			continue
		}
		var st httpapi.NodeState
		if err := getJSON(ctx, client, base+"/cluster/"+n.cluster+"/node/"+n.node, &st); err != nil {
			return Status{}, err
		}
		if st.Node != n.node {
			return Status{}, other
		}
		out.Nodes = append(out.Nodes, st)
	}
	return out, nil
}

// nodeOf names a node within its cluster.
type nodeOf struct{ cluster, node string }

// statusNodes are those of the configuration and, in clusters where others may be
// discovered, all that the daemon knows.
func statusNodes(ctx context.Context, cfg *config.Config, client *http.Client, base string, clusters []httpapi.ClusterHealth) ([]nodeOf, error) {
	var nodes []nodeOf
	for _, n := range cfg.Nodes {
		nodes = append(nodes, nodeOf{n.Cluster, n.Name})
	}
	if !cfg.Discovery.On() {
		return nodes, nil
	}
	configured := nodes
	for _, c := range clusters {
		var out struct {
			Reasons map[string]string `json:"reasons"` // by node
		}
		if !config.ValidName(c.Cluster) {
			continue // no patroniglue of ours
		}
		if err := getJSON(ctx, client, base+"/cluster/"+c.Cluster+"/liveness", &out); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(out.Reasons)) {
			if n := (nodeOf{c.Cluster, name}); config.ValidName(name) && !slices.Contains(configured, n) {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes, nil
}
