package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"patroniglue/discovery"
	"patroniglue/internal/config"
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
		if n.URL.Path == "" { // else it is one of several nodes behind another patroniglue
			c.owners[strings.ToLower(n.URL.Host)] = n.Cluster + "/" + n.Name
		}
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
	if owner := c.owners[strings.ToLower(m.API.Host)]; owner != "" { // one primary with two names would be two primaries
		return fmt.Sprintf("%s is not asked for it: it is the configured address of %s", m.API.Host, owner)
	}
	return ""
}

// DiscoverOnce adds to cfg's nodes the members that etcd lists now, for a command that
// needs them once. Members that cannot be polled are left out, which it writes to stderr.
func DiscoverOnce(ctx context.Context, cfg *config.Config, stderr io.Writer) error {
	settings, err := discoverySettings(cfg, &plan{})
	if err != nil {
		return err
	}
	s, err := discovery.Read(ctx, settings)
	if err != nil {
		return fmt.Errorf("reading members: %w", err)
	}
	for _, problem := range s.Problems {
		fmt.Fprintln(stderr, "patroniglue: discovery:", problem)
	}
	configured := configuredOf(cfg)
	var b discovery.Book
	b.Read(s, rulesOf(&cfg.Discovery), time.Now())
	for _, m := range b.Members {
		if configured.has(&m) {
			continue
		}
		if refusal := configured.refusal(&m); refusal != "" {
			fmt.Fprintf(stderr, "patroniglue: discovery: %s/%s is left out: %s\n", m.Scope, m.Name, refusal)
		} else {
			cfg.Nodes = append(cfg.Nodes, config.Node{
				Name: m.Name, Cluster: m.Scope, Scope: m.Scope, Member: m.Name, URL: m.API, Postgres: m.Postgres, Backend: cfg.Backend,
			})
		}
	}
	if len(cfg.Nodes) == 0 {
		return errors.New("reading members: want at least one that can be polled (got none)")
	}
	return nil
}
