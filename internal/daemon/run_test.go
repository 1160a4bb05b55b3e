package daemon

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/errgroup"
)

// A part that fails ends all others, and its error names it.
func TestPartFails(t *testing.T) {
	var d Daemon
	running, ctx := errgroup.WithContext(t.Context())
	d.running = running
	d.begin(ctx, part{"others", func(ctx context.Context) error { <-ctx.Done(); return nil }})
	d.begin(ctx, part{"history", func(context.Context) error { return errors.New("no more room") }})
	if err := d.running.Wait(); err == nil || err.Error() != "history: no more room" {
		t.Errorf("%v, want history: no more room", err)
	}
}
