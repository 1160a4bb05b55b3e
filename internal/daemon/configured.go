package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"patroniglue/discovery"
	"patroniglue/internal/config"
	"patroniglue/node"
)

// memberOf names a node within its cluster.
type memberOf struct{ cluster, name string }

// static is what is configured, which wins over what is discovered.
type static struct {
	nodes     map[memberOf]bool
	addresses map[string]string // whose, by node.Address
}

func staticOf(cfg *config.Config) static {
	s := static{make(map[memberOf]bool), make(map[string]string)}
	for i := range cfg.Nodes {
		n := &cfg.Nodes[i]
		s.nodes[memberOf{n.Cluster, n.Name}] = true
		s.addresses[node.Address(n.URL)] = n.Cluster + "/" + n.Name
	}
	return s
}

// judge says why a member is not asked, "" when it is, or that it is configured.
func (s *static) judge(m *discovery.Member) (refused string, configured bool) {
	if s.nodes[memberOf{m.Scope, m.Name}] {
		return "", true
	}
	if m.API == nil {
		return cmp.Or(m.Problem, "its address was never known"), false
	}
	if of := s.addresses[node.Address(m.API)]; of != "" { // under two names one primary would be two
		return fmt.Sprintf("%s is not asked for it: it is that of %s, as configured", m.API.Host, of), false
	}
	return "", false
}

// discoverOnce adds to cfg's nodes those that the DCS lists now, for who makes
// something of them once. Who cannot be asked is left out, and that is said.
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
	static := staticOf(cfg)
	var b discovery.Book
	b.Read(s, rulesOf(&cfg.Discovery), time.Now())
	for _, m := range b.Members {
		switch refused, configured := static.judge(&m); {
		case configured:
		case refused != "":
			fmt.Fprintf(stderr, "patroniglue: discovery: %s/%s is left out: %s\n", m.Scope, m.Name, refused)
		default:
			cfg.Nodes = append(cfg.Nodes, config.Node{
				Name: m.Name, Cluster: m.Scope, Scope: m.Scope, Member: m.Name, URL: m.API, Postgres: m.Postgres, Backend: cfg.Backend,
			})
		}
	}
	if len(cfg.Nodes) == 0 {
		return errors.New("reading members: want at least one that can be asked (got none)")
	}
	return nil
}
