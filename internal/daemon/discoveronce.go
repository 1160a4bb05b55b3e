package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"patroniglue/discovery"
	"patroniglue/internal/config"
)

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
