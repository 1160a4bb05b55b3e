package cli

import (
	"context"

	"patroniglue/internal/config"
	"patroniglue/internal/daemon"
)

// runDaemon is the program without a command.
func runDaemon(ctx context.Context, c *call, _ []string) error {
	log := c.newLogger()
	path, cfg, err := config.FindAndLoad(c.config)
	if err != nil {
		return unfitError{err}
	}
	d, err := daemon.New(path, cfg, c.version, log)
	if err != nil {
		return unfitError{err}
	}
	for _, note := range d.Notes() {
		log.Warn().Str("file", path).Msg(note)
	}
	return d.Run(ctx)
}
