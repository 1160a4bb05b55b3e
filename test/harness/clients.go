package harness

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

// Attempt is one connection of an application without a pool, with one statement.
type Attempt struct {
	Begun, Ended time.Time
	Node         string // that was reached, if any
	Standby      bool   // that node takes no writes
	Err          error
}

// Try connects to addr and runs sql, which returns the server's port. Simple
// protocol, no retry: what an application sees.
func (e *Cluster) Try(addr, sql string) Attempt { return e.TryWithin(5*time.Second, addr, sql) }

// TryWithin is Try with another limit than five seconds.
func (e *Cluster) TryWithin(limit time.Duration, addr, sql string) (a Attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	a.Begun = time.Now()
	defer func() { a.Ended = time.Now() }()
	conn, err := Connect(ctx, addr, "app")
	if err != nil {
		a.Err = err
		return a
	}
	defer conn.Close(ctx)
	// PostgreSQL 14 and newer say it to everybody who connects.
	a.Standby = conn.ParameterStatus("in_hot_standby") == "on"
	a.Node, a.Err = e.query(ctx, conn, sql)
	if refused, ok := errors.AsType[*pgconn.PgError](a.Err); ok && refused.Code == "25006" { // read_only_sql_transaction
		a.Standby = true
	}
	return a
}

// Knock connects, says nothing and goes: many of these cost PostgreSQL little.
func Knock(addr string) error {
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

func Connect(ctx context.Context, addr, user string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, fmt.Sprintf("postgres://%s@%s/app?sslmode=disable", user, addr))
}

// Value runs sql and gives the first value of what it returns.
func Value(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
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
func (e *Cluster) query(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	port, err := Value(ctx, conn, sql)
	if err != nil {
		return "", err
	}
	for _, n := range e.Lab.Nodes {
		if strings.HasSuffix(n.SQL, ":"+port) {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("%q answered by port %q, want that of a node", sql, port)
}

// Writes sends a stream of connections to the write port, each with a row that
// bears the name of the test.
func (e *Cluster) Writes(t *testing.T) *Recorder[Attempt] {
	sql := fmt.Sprintf("insert into lab (said) values ('%s') returning inet_server_port()", t.Name())
	return Record(t, 3, 30*time.Millisecond, func() Attempt { return e.Try(e.Lab.Write, sql) })
}

// Reads sends one to the read port.
func (e *Cluster) Reads(t *testing.T) *Recorder[Attempt] {
	return Record(t, 2, 30*time.Millisecond, func() Attempt { return e.Try(e.Lab.Read, "select inet_server_port()") })
}

// ServedSince waits for a successful attempt that began after a moment.
func ServedSince(t *testing.T, limit time.Duration, r *Recorder[Attempt], since time.Time) Attempt {
	t.Helper()
	var last Attempt
	Eventually(t, limit, func() error {
		for _, last = range r.SoFar() {
			if last.Err == nil && last.Begun.After(since) {
				return nil
			}
		}
		return fmt.Errorf("no client is served: %w", last.Err)
	})
	return last
}

// ServedBy gives the nodes that served attempts begun after a moment, sorted.
func ServedBy(attempts []Attempt, since time.Time) []string {
	nodes := make(map[string]bool)
	for _, a := range attempts {
		if a.Err == nil && a.Begun.After(since) {
			nodes[a.Node] = true
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// Story is what a stream of connections came to.
type Story struct {
	served    []Attempt
	Failed    map[string]int // by reason
	misrouted []Attempt      // that reached a node of the wrong role
	Nodes     []string       // that served, one after another
	gap       time.Duration  // the longest time between two that were served
}

// Tell sorts attempts that want a standby or the primary.
func Tell(attempts []Attempt, standby bool) Story {
	s := Story{Failed: make(map[string]int)}
	slices.SortFunc(attempts, func(a, b Attempt) int { return a.Ended.Compare(b.Ended) })
	for _, a := range attempts {
		if a.Err != nil {
			s.Failed[why(a.Err)]++
		}
		switch {
		case a.Standby && !standby, a.Err == nil && a.Standby != standby:
			s.misrouted = append(s.misrouted, a)
		case a.Err == nil:
			if n := len(s.served); n > 0 {
				s.gap = max(s.gap, a.Ended.Sub(s.served[n-1].Ended))
			}
			s.served = append(s.served, a)
			if len(s.Nodes) == 0 || s.Nodes[len(s.Nodes)-1] != a.Node {
				s.Nodes = append(s.Nodes, a.Node)
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

func (s Story) String() string {
	served := make(map[string]int)
	for _, a := range s.served {
		served[a.Node]++
	}
	return fmt.Sprintf("served %v, misrouted %d, failed %v, longest gap %v", served, len(s.misrouted), s.Failed, s.gap.Round(time.Millisecond))
}

// MisroutedNone: no connection reached a node of the wrong role.
func MisroutedNone(t *testing.T, what string, s Story) {
	t.Helper()
	t.Logf("%s: %s", what, s)
	if len(s.served) == 0 {
		t.Errorf("%s: nobody was served", what)
	}
	if n := len(s.misrouted); n > 0 {
		t.Errorf("%s: %d connections reached a node of the wrong role, the first at %s", what, n, s.misrouted[0].Begun.Format(Clock))
	}
}

const Clock = "15:04:05.000"

// Kept: every row that a client was told is written is there.
func (e *Cluster) Kept(t *testing.T, on lab.Node, s Story) {
	t.Helper()
	if len(s.served) == 0 {
		return // misroutedNone has told
	}
	first := slices.MinFunc(s.served, func(a, b Attempt) int { return a.Begun.Compare(b.Begun) })
	got, err := e.Lab.Query(t.Context(), on.SQL, fmt.Sprintf("select count(*) from lab where said = '%s' and at >= '%s'",
		t.Name(), first.Begun.Format(time.RFC3339Nano)))
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := strconv.Atoi(got); err != nil || rows < len(s.served) {
		t.Errorf("%q rows on %s, but clients were told of %d", got, on.Name, len(s.served))
	}
}

// Session is a connection that stays and is used all the time.
type Session struct {
	node  string
	ended chan struct{} // closed when it was cut
	At    time.Time     // when; to be read when ended is closed
	err   error         // how, likewise
}

func (e *Cluster) Open(t *testing.T, addr string) *Session {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Session{ended: make(chan struct{})}
	conn, err := Connect(ctx, addr, "app")
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
				s.At = time.Now()
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

// OpenOn opens a session on a certain node.
func (e *Cluster) OpenOn(t *testing.T, addr, node string) *Session {
	t.Helper()
	for range 10 {
		if s := e.Open(t, addr); s.node == node {
			return s
		}
	}
	t.Fatalf("none of ten sessions through %s reached %s", addr, node)
	return nil
}

// IsCut waits for the end of the session.
func (s *Session) IsCut(t *testing.T, limit time.Duration) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(limit):
		t.Fatalf("the session on %s is still alive after %v", s.node, limit)
	}
}

func (s *Session) IsAlive(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
		t.Errorf("the session on %s was cut at %s: %v", s.node, s.At.Format(Clock), s.err)
	default:
	}
}
