package cli

import (
	"context"

	"patroniglue/internal/config"
	"patroniglue/internal/daemon"
)

// runDaemon is the program without a command.
func runDaemon(ctx context.Context, c *call, _ []string) error {
	path, cfg, err := config.FindAndLoad(c.config)
	if err != nil {
		return unfitError{err}
	}
	d, err := daemon.New(daemon.Options{Config: cfg, Path: path, Version: c.version, Log: c.newLogger()})
	if err != nil {
		return unfitError{err}
	}
	return d.Run(ctx)
}
