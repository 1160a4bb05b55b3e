package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	tick  = 20 * time.Millisecond // between two attempts of a client
	limit = 15 * time.Second      // for one attempt
)

// outcome is what became of an attempt.
type outcome int

const (
	served   outcome = iota
	closed           // refused, reset or closed before PostgreSQL said a word
	stopping         // "the database system is shutting down", or the session was ended by that
	starting         // "the database system is starting up" and its like
	readOnly         // the write reached a node in recovery
	nowhere          // libpq asked every node, and none is what it wants
	timeout
	other
	outcomes
)

var outcomeNames = [outcomes]string{"served", "closed", "shutting down", "starting up", "read-only", "no primary", "timeout", "other"}

// attempt is one connection of a client.
type attempt struct {
	id         string
	began      time.Time
	ended      time.Time // when the answer was there, or the error
	outcome    outcome
	err        error
	onPrimary  bool // a read was answered by a node that is not in recovery
	onRecovery bool // and by one that is
}

// client opens a connection each tick.
type client struct {
	name   string
	config *pgconn.Config
	reads  bool

	mu       sync.Mutex
	attempts []attempt // guarded by mu; in the order in which they ended
}

// newClient makes a client of that libpq connection string. pgconn follows libpq in trying several hosts in their order
// and in target_session_attrs, except that it always asks the server, where libpq is told by PostgreSQL 14 and newer.
func newClient(name, conninfo string, reads bool) (*client, error) {
	config, err := pgconn.ParseConfig(conninfo + " user=app dbname=app sslmode=disable connect_timeout=15")
	if err != nil {
		return nil, fmt.Errorf("making client %s: %w", name, err)
	}
	return &client{name: name, config: config, reads: reads}, nil
}

// drive starts an attempt of every client each tick until ctx ends, and waits for those under way.
func drive(ctx context.Context, clients ...*client) {
	var wg sync.WaitGroup
	defer wg.Wait()
	start := time.Now()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(start.Add(time.Duration(n) * tick))):
		}
		for _, c := range clients {
			wg.Go(func() { c.try(n) })
		}
	}
}

func (c *client) try(n int) {
	a := attempt{id: fmt.Sprintf("%s %d", c.name, n), began: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var conn *pgconn.PgConn
	if conn, a.err = pgconn.ConnectConfig(ctx, c.config); a.err == nil {
		if c.reads {
			var recovery string
			recovery, a.err = query(ctx, conn, "select pg_is_in_recovery()")
			a.onPrimary, a.onRecovery = recovery == "f", recovery == "t"
		} else {
			_, a.err = query(ctx, conn, "insert into lab (said) values ('"+a.id+"')")
		}
	}
	a.ended = time.Now()
	a.outcome = classify(a.err)
	c.mu.Lock()
	c.attempts = append(c.attempts, a)
	c.mu.Unlock()
	if conn != nil {
		conn.Close(ctx)
	}
}

// steady reports whether the last n attempts, and n there must be since, were served within d each.
func (c *client) steady(since time.Time, n int, d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.attempts) - 1; i >= 0 && n > 0; i, n = i-1, n-1 {
		if a := c.attempts[i]; a.began.Before(since) || a.outcome != served || a.ended.Sub(a.began) > d {
			return false
		}
	}
	return n == 0
}

// query returns the first field of the first row, if there is one.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// classify sorts an attempt's error. Of the errors of several hosts PostgreSQL's own word counts most.
func classify(err error) outcome {
	if err == nil {
		return served
	}
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	pg, fromPostgres := errors.AsType[*pgconn.PgError](err)
	network, fromNetwork := errors.AsType[net.Error](err)
	switch {
	case fromPostgres && pg.Code == "25006": // read_only_sql_transaction
		return readOnly
	case fromPostgres && (pg.Code == "57P01" || pg.Code == "57P03" && strings.Contains(pg.Message, "shutting down")):
		return stopping // admin_shutdown, cannot_connect_now
	case fromPostgres && pg.Code == "57P03":
		return starting
	case fromPostgres:
		return other
	case is(context.DeadlineExceeded), fromNetwork && network.Timeout():
		return timeout
	case is(syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed):
		return closed
	case is(pgconn.ErrReadOnlyConnection, pgconn.ErrPrimaryConnection, pgconn.ErrStandbyConnection):
		return nowhere
	}
	return other
}
