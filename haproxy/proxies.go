package haproxy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"patroniglue/internal/config"
)

type proxy struct {
	Name         string
	Port         int
	Write        bool
	URI          string
	Check, Agent string // options of all servers
	Servers      []server
}

type server struct{ Name, Address, Options string }

type cluster struct {
	name  string
	nodes []config.Node
}

// haproxyClusters are the clusters in the order of the file, or the one wanted.
func clusters(cfg *config.Config, only string) ([]cluster, error) {
	var out []cluster
	for _, name := range config.ClusterNames(cfg) {
		if only != "" && name != only {
			continue
		}
		c := cluster{name: name}
		for _, n := range cfg.Nodes {
			if n.Cluster == name {
				c.nodes = append(c.nodes, n)
			}
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-cluster: want %s (got %q)", strings.Join(config.ClusterNames(cfg), " or "), only)
	}
	return out, nil
}

// haproxyNodes says which nodes lack what HAProxy has to be told.
func checkNodes(clusters []cluster, dedicated bool) error {
	var errs []error
	var silent []string
	for _, c := range clusters {
		for _, n := range c.nodes {
			if n.Postgres == "" {
				silent = append(silent, n.Name)
			}
			for _, question := range []string{"primary", "replica"} {
				if !dedicated {
					break
				}
				if _, port, err := config.SplitAddress(n.Agent[question]); err != nil || port == 0 {
					errs = append(errs, fmt.Errorf("node %q: agent.%s: want its dedicated port, such as \":5551\" (got %q)", n.Name, question, n.Agent[question]))
				}
			}
		}
	}
	if len(silent) > 0 {
		errs = append([]error{fmt.Errorf(`postgres: want the host:port of the database of node %s (got nothing)`, strings.Join(silent, ", "))}, errs...)
	}
	return errors.Join(errs...)
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9._~/-]*$`)

// directRoute is the path below which all nodes of a cluster have their checks:
// none for a Patroni, /node/NAME for a node behind another patroniglue.
func directRoute(nodes []config.Node) (string, error) {
	var route string
	for i, n := range nodes {
		path := n.URL.EscapedPath()
		if !plainPath.MatchString(path) {
			return "", fmt.Errorf("node %q: url: want a plain path for -direct (got %q)", n.Name, path)
		}
		if above, ok := strings.CutSuffix(path, "/"+n.Name); ok {
			path = above + "/%[srv_name]"
		}
		if i > 0 && path != route {
			return "", fmt.Errorf("node %q: url: want the same path as for node %q, or one that ends with the node's name: HAProxy asks all servers for one (got %q)", n.Name, nodes[0].Name, n.URL.EscapedPath())
		}
		route = path
	}
	return route, nil
}
