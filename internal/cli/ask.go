package cli

import (
	"context"
	"time"

	"patroniglue/internal/client"
	"patroniglue/internal/config"
)

// How long the daemon may take to answer.
const (
	askTimeout    = 10 * time.Second
	statusTimeout = 8 * time.Second // for all answers together: check_nrpe gives up after 10 s, which Nagios shows as critical
)

// unansweredError is why the running daemon gave no answer. Its exit code is
// statusUnknown.
type unansweredError struct{ error }

func (e unansweredError) Error() string { return "asking the running daemon: " + e.error.Error() }

func (e unansweredError) Unwrap() error { return e.error }

// statusUnknown is the exit code when the daemon does not answer: UNKNOWN for Nagios.
const statusUnknown exitCode = 3

// askStatus asks with a client of its own: the certificate to trust may have been renewed
// since the last question.
func askStatus(ctx context.Context, cfg *config.Config, cluster string) (client.Status, error) {
	c, err := client.New(cfg)
	if err != nil {
		return client.Status{}, err
	}
	defer c.Close()
	return c.Status(ctx, cluster)
}
