package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"patroniglue/node"
)

// Node is one [[node]]: one Patroni member.
type Node struct {
	// Name ("name") has letters, digits, ".", "_" and "-", and is unique in its
	// cluster. Required.
	Name string

	// Cluster ("cluster") is our name for the cluster. Default "default".
	Cluster string

	// Scope (also "cluster") is the Patroni scope that the node has to report. Default
	// "": it is not checked.
	Scope string

	// Member is the Patroni name that the node has to report: Name or, as in a legacy
	// file, "": it is not checked.
	Member string

	// URL is the address of Patroni's REST API, without a trailing slash: "url", or
	// "host" with "port" (default 8008) and the scheme. Required. It may have a path:
	// http://host:8009/node/pg1 is that node at another patroniglue.
	URL *url.URL

	// Postgres ("postgres") is the host:port of the database, for the generated
	// haproxy.cfg and for /cluster. Default "": not known.
	Postgres string

	// Agent ("agent") has the address of a dedicated agent port by check. Default
	// empty. Range over it in sorted order.
	Agent map[string]string

	// Backend is how this node is polled: by its own keys, and by [backend] where it has
	// none.
	Backend
}

// defaultCluster is the cluster of the nodes that name none.
const defaultCluster = "default"

func (n *Node) read(t *table) {
	n.readNames(t)
	n.readKeys(t)
	n.readURL(t)
	n.readPostgres(t)
	n.readAgent(t.table("agent"))
	t.rejectUnknown()
}

func (n *Node) readNames(t *table) {
	t.name("name", &n.Name)
	if !t.has("name") {
		t.reject("name", "want the name of the Patroni member")
	}
	n.Member = n.Name
	t.name("cluster", &n.Scope)
	n.Cluster = cmp.Or(n.Scope, defaultCluster)
}

func (n *Node) readPostgres(t *table) {
	t.text("postgres", &n.Postgres)
	if n.Postgres == "" || !t.isValid("postgres") {
		return
	}
	if host, port, err := SplitAddress(n.Postgres); err != nil || host == "" || port == 0 {
		t.reject("postgres", `want the host and the port of the database, such as "10.0.0.11:5432"`)
	}
}

// readAgent reads the table whose keys are checks.
func (n *Node) readAgent(t *table) {
	t.known, t.noun = node.CheckNames(), "check"
	for _, check := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(t.known, check) {
			continue // rejectUnknown reports it
		}
		var addr string
		t.listenAddress(check, &addr)
		if addr == "" {
			continue
		}
		if n.Agent == nil {
			n.Agent = map[string]string{}
		}
		n.Agent[check] = addr
	}
	t.rejectUnknown()
}

// readURL reads either url, or host and port with the scheme.
func (n *Node) readURL(t *table) {
	host, port := "", 8008
	var err error
	var raw string
	t.text("url", &raw)
	t.host("host", &host)
	t.integer("port", &port, 1, math.MaxUint16)
	switch {
	case !t.isValid("url") || !t.isValid("host") || !t.isValid("port"):
	case t.has("url"):
		for _, key := range []string{"host", "port", "scheme"} {
			if t.has(key) {
				t.reject(key, "want either url, or host with port and scheme")
			}
		}
		if n.URL, err = parseURL(raw); err != nil {
			t.reject("url", err.Error())
		}
	case host != "":
		n.URL = &url.URL{Scheme: n.Scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}
	default:
		t.reject("url", `want the address of Patroni's REST API, such as "http://10.0.0.11:8008"`)
	}
}

// parseURL parses the URL of an HTTP server. Its error says what is wanted.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !ValidHost(u.Hostname()) || u.Hostname() == "" {
		return nil, errors.New(`want http:// or https:// and a host, such as "http://10.0.0.11:8008"`)
	}
	if u.User != nil || strings.ContainsAny(raw, "?#") {
		return nil, errors.New("want a URL without user, query or fragment")
	}
	if _, port, err := SplitAddress(u.Host); strings.Contains(u.Host[strings.LastIndexByte(u.Host, ']')+1:], ":") && (err != nil || port == 0) {
		return nil, errors.New("want a port from 1 to 65535")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// checkNames requires that names are unique in their cluster, and that nodes without
// a cluster and nodes of a cluster of the same name are not mixed: it would be a
// surprise if the scope of only some of them was checked.
func (c *Config) checkNames(r *reader) {
	type member struct{ cluster, name string }
	seen := map[member]bool{}
	unnamed := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Scope == "" })
	for i, n := range c.Nodes {
		path := fmt.Sprintf("node[%d]", i+1)
		m := member{n.Cluster, n.Name}
		if n.Name != "" && seen[m] {
			r.addMistake(path+".name", "want unique names in a cluster, %q is there twice", n.Name)
		}
		seen[m] = true
		if n.Scope == defaultCluster && unnamed >= 0 {
			r.addMistake(path+".cluster", "want another name: nodes without a cluster, such as node[%d], are in %q (got %q)", unnamed+1, defaultCluster, n.Scope)
		}
	}
}

// checkURLs requires that each node is polled at an address of its own: under two names
// one Patroni would be two nodes, and as primary two that claim.
func (c *Config) checkURLs(r *reader) {
	seen := map[string]int{}
	for i, n := range c.Nodes {
		if n.URL == nil {
			continue // which is a mistake of its own
		}
		address := node.Address(n.URL)
		if j, taken := seen[address]; taken && c.Nodes[j].Name == n.Name && c.Nodes[j].Cluster == n.Cluster {
			continue // checkNames reports it
		} else if taken {
			r.addMistake(fmt.Sprintf("node[%d].url", i+1), "want another url for %q, it is that of node[%d], %q (got %q)", n.Name, j+1, c.Nodes[j].Name, n.URL)
			continue
		}
		seen[address] = i
	}
}

// ClusterNames returns the name of each cluster once, in the order of the file.
func (c *Config) ClusterNames() []string {
	var names []string
	seen := make(map[string]bool)
	for _, n := range c.Nodes {
		if !seen[n.Cluster] {
			seen[n.Cluster] = true
			names = append(names, n.Cluster)
		}
	}
	return names
}
