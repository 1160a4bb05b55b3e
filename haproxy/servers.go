package haproxy

import (
	"errors"
	"fmt"
	"net/netip"
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
	for _, name := range cfg.ClusterNames() {
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
		return nil, fmt.Errorf("-cluster: want %s (got %q)", strings.Join(cfg.ClusterNames(), " or "), only)
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

// supervisorHost is where HAProxy reaches what listens on host: beside it, when
// that says no more than "here".
func supervisorHost(host, override string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case override == "localhost":
		return "127.0.0.1"
	case override != "":
		return override
	case host == "" || host == "localhost" || err == nil && ip.IsUnspecified():
		return "127.0.0.1"
	}
	return host
}

// haproxyTLS is what HAProxy's checks know about certificates.
type checkTLS struct {
	ca, crt    string
	Unverified string // what would have to be given to verify a check that is not verified
}

func (t *checkTLS) checkSSL(host, ca string, unverified bool) string {
	options := " check-ssl verify required ca-file " + word(ca)
	if unverified {
		t.Unverified = "-ca FILE"
		options = " check-ssl verify none"
	} else if _, err := netip.ParseAddr(host); err != nil {
		options += " verifyhost " + word(host) // HAProxy compares names only, never IP addresses
	}
	if t.crt != "" {
		options += " crt " + word(t.crt)
	}
	return options
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
