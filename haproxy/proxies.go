package haproxy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"patroniglue/internal/config"
)

// proxy is a listen section: a cluster's write side or its read side.
type proxy struct {
	Name         string
	Port         int
	Write        bool
	URI          string // of its check, after http-check's word for it
	Check, Agent string // options of all servers
	Servers      []server
}

type server struct{ Name, Address, Options string }

// options are those that all servers share.
type options struct{ check, agent string }

// cluster is a cluster of the configuration with its nodes.
type cluster struct {
	name  string
	nodes []config.Node
}

// chosenClusters returns the clusters in the order of the configuration, or the only one
// that is wanted.
func chosenClusters(cfg *config.Config, only string) ([]cluster, error) {
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

// checkNodes finds the nodes that lack what HAProxy has to know of them.
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

// names says how far names of nodes and clusters are needed.
type names struct {
	several  bool // clusters
	repeated bool // a node's name may stand for several nodes
}

func newNames(cfg *config.Config) names {
	n := names{
		several:  len(cfg.ClusterNames()) > 1,
		repeated: cfg.Discovery.On(), // a node that is discovered later may have the name of another
	}
	seen := make(map[string]bool)
	for _, node := range cfg.Nodes {
		n.repeated = n.repeated || seen[node.Name]
		seen[node.Name] = true
	}
	return n
}

// addProxies adds the two sides of a cluster, the i-th.
func (b *builder) addProxies(i int, c cluster, n names, shared options) {
	prefix := "pg"
	if n.several {
		prefix = c.name
	}
	// The supervisor routes by the node's name alone where that is unique.
	route, agentRoute := "/node/%[srv_name]", ""
	if n.repeated {
		route, agentRoute = "/cluster/"+c.name+route, c.name+"/"
	}
	if b.o.Direct {
		var err error
		route, err = directRoute(c.nodes)
		b.fail(err)
	}
	for _, p := range []proxy{
		{Name: prefix + "_rw", Port: b.o.WritePort + 2*i, Write: true},
		{Name: prefix + "_ro", Port: b.o.ReadPort + 2*i},
	} {
		p.URI, p.Check, p.Agent = b.uri(p, route), shared.check, shared.agent
		for _, node := range c.nodes {
			p.Servers = append(p.Servers, b.server(p, node, agentRoute))
		}
		b.file.Proxies = append(b.file.Proxies, p)
	}
}

// question is what a proxy's agents are asked.
func (p proxy) question() string {
	if p.Write {
		return "primary"
	}
	return "replica"
}

// uri is what a proxy's checks ask for.
func (b *builder) uri(p proxy, route string) string {
	question := p.question()
	if !p.Write && !b.o.Direct {
		question = "health" // a replica that the agent drains passes it, so that its open sessions may finish
	}
	word := "uri "
	if strings.Contains(route, "%") {
		word = "uri-lf "
	}
	return word + route + "/" + question
}

// server is a node in a proxy. agentRoute stands before its name when its agent is asked.
func (b *builder) server(p proxy, n config.Node, agentRoute string) server {
	s := server{Name: n.Name, Address: n.Postgres}
	if host, port, err := config.SplitAddress(n.Postgres); err == nil {
		s.Address = b.host(host) + ":" + strconv.Itoa(port)
	}
	if b.o.Direct {
		check, err := b.patroniCheck(n)
		s.Options += check
		if p.Write { // once for both sides
			b.fail(err)
		}
	}
	if b.o.Dedicated {
		host, port, _ := config.SplitAddress(n.Agent[p.question()]) // checkNodes reports a wrong one
		s.Options += b.agentAddress(host, port)
	} else {
		s.Options += fmt.Sprintf(` agent-send "%s%s/%s\n"`, agentRoute, n.Name, p.question())
	}
	return s
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
