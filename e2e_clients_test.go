package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"patroniglue/contrib/lab"
)

// attempt is one connection of an application without a pool, with one statement.
type attempt struct {
	begun, ended time.Time
	node         string // that was reached, if any
	standby      bool   // that node takes no writes
	err          error
}

// try connects to addr and runs sql, which returns the server's port. Simple
// protocol, no retry: what an application sees.
func (e *endToEnd) try(addr, sql string) (a attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a.begun = time.Now()
	defer func() { a.ended = time.Now() }()
	conn, err := connect(ctx, addr, "app")
	if err != nil {
		a.err = err
		return a
	}
	defer conn.Close(ctx)
	// PostgreSQL 14 and newer say it to everybody who connects.
	a.standby = conn.ParameterStatus("in_hot_standby") == "on"
	a.node, a.err = e.query(ctx, conn, sql)
	if refused, ok := errors.AsType[*pgconn.PgError](a.err); ok && refused.Code == "25006" { // read_only_sql_transaction
		a.standby = true
	}
	return a
}

// knock connects, says nothing and goes: many of these cost PostgreSQL little.
func knock(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func connect(ctx context.Context, addr, user string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, fmt.Sprintf("postgres://%s@%s/app?sslmode=disable", user, addr))
}

// value runs sql and gives the first value of what it returns.
func value(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return "", fmt.Errorf("%q returned nothing", sql)
	}
	return string(results[0].Rows[0][0]), nil
}

// query runs sql, which returns the server's port, and gives that node.
func (e *endToEnd) query(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	port, err := value(ctx, conn, sql)
	if err != nil {
		return "", err
	}
	for _, n := range e.lab.Nodes {
		if strings.HasSuffix(n.SQL, ":"+port) {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("%q answered by port %q, want that of a node", sql, port)
}

// writes sends a stream of connections to the write port, each with a row that
// bears the name of the test.
func (e *endToEnd) writes(t *testing.T) *recorder[attempt] {
	sql := fmt.Sprintf("insert into lab (said) values ('%s') returning inet_server_port()", t.Name())
	return record(t, 3, 30*time.Millisecond, func() attempt { return e.try(e.lab.Write, sql) })
}

// reads sends one to the read port.
func (e *endToEnd) reads(t *testing.T) *recorder[attempt] {
	return record(t, 2, 30*time.Millisecond, func() attempt { return e.try(e.lab.Read, "select inet_server_port()") })
}

// servedSince waits for a successful attempt that began after a moment.
func servedSince(t *testing.T, limit time.Duration, r *recorder[attempt], since time.Time) attempt {
	t.Helper()
	var last attempt
	eventually(t, limit, func() error {
		for _, last = range r.soFar() {
			if last.err == nil && last.begun.After(since) {
				return nil
			}
		}
		return fmt.Errorf("no client is served: %w", last.err)
	})
	return last
}

// servedBy gives the nodes that served attempts begun after a moment, sorted.
func servedBy(attempts []attempt, since time.Time) []string {
	nodes := make(map[string]bool)
	for _, a := range attempts {
		if a.err == nil && a.begun.After(since) {
			nodes[a.node] = true
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// story is what a stream of connections came to.
type story struct {
	served    []attempt
	failed    map[string]int // by reason
	misrouted []attempt      // that reached a node of the wrong role
	nodes     []string       // that served, one after another
	gap       time.Duration  // the longest time between two that were served
}

// tell sorts attempts that want a standby or the primary.
func tell(attempts []attempt, standby bool) story {
	s := story{failed: make(map[string]int)}
	slices.SortFunc(attempts, func(a, b attempt) int { return a.ended.Compare(b.ended) })
	for _, a := range attempts {
		if a.err != nil {
			s.failed[why(a.err)]++
		}
		switch {
		case a.standby && !standby, a.err == nil && a.standby != standby:
			s.misrouted = append(s.misrouted, a)
		case a.err == nil:
			if n := len(s.served); n > 0 {
				s.gap = max(s.gap, a.ended.Sub(s.served[n-1].ended))
			}
			s.served = append(s.served, a)
			if len(s.nodes) == 0 || s.nodes[len(s.nodes)-1] != a.node {
				s.nodes = append(s.nodes, a.node)
			}
		}
	}
	return s
}

// why is short and the same for the same reason.
func why(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Code + " " + refused.Message
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "closed before any answer"
	}
	return err.Error()
}

func (s story) String() string {
	served := make(map[string]int)
	for _, a := range s.served {
		served[a.node]++
	}
	return fmt.Sprintf("served %v, misrouted %d, failed %v, longest gap %v", served, len(s.misrouted), s.failed, s.gap.Round(time.Millisecond))
}

// misroutedNone: no connection reached a node of the wrong role.
func misroutedNone(t *testing.T, what string, s story) {
	t.Helper()
	t.Logf("%s: %s", what, s)
	if len(s.served) == 0 {
		t.Errorf("%s: nobody was served", what)
	}
	if n := len(s.misrouted); n > 0 {
		t.Errorf("%s: %d connections reached a node of the wrong role, the first at %s", what, n, s.misrouted[0].begun.Format(clock))
	}
}

const clock = "15:04:05.000"

// kept: every row that a client was told is written is there.
func (e *endToEnd) kept(t *testing.T, on lab.Node, s story) {
	t.Helper()
	if len(s.served) == 0 {
		return // misroutedNone has told
	}
	first := slices.MinFunc(s.served, func(a, b attempt) int { return a.begun.Compare(b.begun) })
	got, err := e.lab.Query(t.Context(), on.SQL, fmt.Sprintf("select count(*) from lab where said = '%s' and at >= '%s'",
		t.Name(), first.begun.Format(time.RFC3339Nano)))
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := strconv.Atoi(got); err != nil || rows < len(s.served) {
		t.Errorf("%q rows on %s, but clients were told of %d", got, on.Name, len(s.served))
	}
}

// session is a connection that stays and is used all the time.
type session struct {
	node  string
	ended chan struct{} // closed when it was cut
	at    time.Time     // when; to be read when ended is closed
	err   error         // how, likewise
}

func (e *endToEnd) open(t *testing.T, addr string) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{ended: make(chan struct{})}
	conn, err := connect(ctx, addr, "app")
	if err == nil {
		s.node, err = e.query(ctx, conn, "select inet_server_port()")
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		for {
			if _, s.err = conn.Exec(ctx, "select 1").ReadAll(); s.err != nil {
				s.at = time.Now()
				conn.Close(ctx)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-s.ended
	})
	return s
}

// openOn opens a session on a certain node.
func (e *endToEnd) openOn(t *testing.T, addr, node string) *session {
	t.Helper()
	for range 10 {
		if s := e.open(t, addr); s.node == node {
			return s
		}
	}
	t.Fatalf("none of ten sessions through %s reached %s", addr, node)
	return nil
}

// isCut waits for the end of the session.
func (s *session) isCut(t *testing.T, limit time.Duration) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(limit):
		t.Fatalf("the session on %s is still alive after %v", s.node, limit)
	}
}

func (s *session) isAlive(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
		t.Errorf("the session on %s was cut at %s: %v", s.node, s.at.Format(clock), s.err)
	default:
	}
}
