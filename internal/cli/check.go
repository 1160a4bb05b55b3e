package cli

import (
	"context"
	"fmt"

	"patroniglue/internal/config"
	"patroniglue/internal/daemon"
)

// checkConfig validates the configuration as far as that is possible without opening
// a port.
func checkConfig(_ context.Context, c *call, _ []string) error {
	path, cfg, err := config.FindAndLoad(c.config)
	if err != nil {
		return err
	}
	if _, err := daemon.New(path, cfg, c.version, c.newLogger()); err != nil { // it reads the files that are named
		return err
	}
	for _, note := range cfg.Notes {
		fmt.Fprintf(c.stdout, "%s: note: %s\n", path, note)
	}
	discovery := ""
	if cfg.Discovery.On() {
		discovery = fmt.Sprintf(", others are discovered from %d endpoints of etcd", len(cfg.Discovery.Etcd))
	}
	_, err = fmt.Fprintf(c.stdout, "%s: ok, %s%s\n", path, count(len(cfg.Nodes), "node"), discovery)
	return err
}
