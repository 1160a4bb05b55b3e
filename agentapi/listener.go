package agentapi

import (
	"context"
	"errors"
	"fmt"
	"net"

	"patroniglue/cluster"
)

// Listener is one address at which HAProxy finds an agent.
type Listener struct {
	// Addr is a TCP address such as ":5555".
	Addr string

	// Question is what a dedicated port answers on connect, whatever is or is
	// not sent there. Nil makes the port a shared one: the question is the line
	// that HAProxy's agent-send sends.
	Question *cluster.Question
}

// listen opens every address, or none.
func listen(ctx context.Context, ls []Listener) ([]net.Listener, error) {
	// A connection lives for seconds: keep-alive would only cost system calls.
	lc := net.ListenConfig{KeepAlive: -1}
	open := make([]net.Listener, 0, len(ls))
	for _, l := range ls {
		ln, err := lc.Listen(ctx, "tcp", l.Addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listening for agent checks on %q: %w", l.Addr, err), closeAll(open))
		}
		open = append(open, ln)
	}
	return open, nil
}

func closeAll(lns []net.Listener) error {
	var errs []error
	for _, ln := range lns {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
