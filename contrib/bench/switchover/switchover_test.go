package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

var epoch = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// tried makes an attempt that began and ended so many milliseconds after the epoch.
func tried(began, ended int, o outcome) attempt {
	return attempt{began: epoch.Add(ms(began)), ended: epoch.Add(ms(ended)), outcome: o}
}

func TestAccount(t *testing.T) {
	tests := []struct {
		name     string
		attempts []attempt
		gap      time.Duration
		from, to int
		longest  time.Duration
		failed   int
	}{
		{name: "nothing"},
		{
			name:     "one",
			attempts: []attempt{tried(0, 5, served)},
			longest:  ms(5),
		},
		{
			name:     "failures between",
			attempts: []attempt{tried(0, 5, served), tried(20, 25, served), tried(40, 41, closed), tried(60, 61, readOnly), tried(80, 95, served), tried(100, 105, served)},
			gap:      ms(70), from: 25, to: 95, longest: ms(15), failed: 2,
		},
		{
			name:     "ended in another order than begun: the held one ends the gap last",
			attempts: []attempt{tried(20, 900, served), tried(0, 5, served), tried(40, 700, served)},
			gap:      ms(695), from: 5, to: 700, longest: ms(880),
		},
		{
			name:     "never served again: the gap lasts as long as somebody tried",
			attempts: []attempt{tried(0, 5, served), tried(20, 21, closed), tried(400, 3000, timeout)},
			gap:      ms(395), from: 5, to: 400, longest: ms(5), failed: 2,
		},
		{
			name:     "one that hangs, while others are served, makes no gap",
			attempts: []attempt{tried(0, 5, served), tried(20, 9000, timeout), tried(40, 45, served)},
			gap:      ms(40), from: 5, to: 45, longest: ms(5), failed: 1,
		},
		{
			name:     "failures before the first one count for no gap",
			attempts: []attempt{tried(0, 500, closed), tried(520, 525, served), tried(540, 545, served)},
			gap:      ms(20), from: 525, to: 545, longest: ms(5), failed: 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := account(tt.attempts)
			if got.gap != tt.gap || got.longest != tt.longest || got.failed() != tt.failed {
				t.Errorf("gap %v, longest %v, failed %d, want %v, %v, %d", got.gap, got.longest, got.failed(), tt.gap, tt.longest, tt.failed)
			}
			if tt.gap > 0 && (!got.from.Equal(epoch.Add(ms(tt.from))) || !got.to.Equal(epoch.Add(ms(tt.to)))) {
				t.Errorf("gap from %v to %v, want %d to %d ms", got.from.Sub(epoch), got.to.Sub(epoch), tt.from, tt.to)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	pg := func(code, message string) error {
		return &pgconn.PgError{Severity: "FATAL", Code: code, Message: message}
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	tests := []struct {
		err  error
		want outcome
	}{
		{nil, served},
		{refused, closed},
		{fmt.Errorf("failed to receive message: %w", io.ErrUnexpectedEOF), closed},
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, closed},
		{pg("57P03", "the database system is shutting down"), stopping},
		{pg("57P01", "terminating connection due to administrator command"), stopping},
		{pg("57P03", "the database system is starting up"), starting},
		{pg("25006", "cannot execute INSERT in a read-only transaction"), readOnly},
		{pg("53300", "sorry, too many clients already"), other},
		{&net.OpError{Op: "read", Net: "tcp", Err: timeoutError{}}, timeout},
		{errors.New("no such thing"), other},
		// Several hosts.
		{errors.Join(refused, pgconn.ErrReadOnlyConnection, pgconn.ErrReadOnlyConnection), closed},
		{errors.Join(pgconn.ErrReadOnlyConnection, pg("57P03", "the database system is shutting down")), stopping},
		{errors.Join(pgconn.ErrReadOnlyConnection, pgconn.ErrReadOnlyConnection), nowhere},
	}
	for _, tt := range tests {
		if got := classify(tt.err); got != tt.want {
			t.Errorf("classify(%v) = %s, want %s", tt.err, outcomeNames[got], outcomeNames[tt.want])
		}
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestTables(t *testing.T) {
	event := func(floor, variant, failed int) sample {
		return sample{
			floor:   tally{gap: ms(floor), longest: ms(4)},
			variant: tally{gap: ms(variant), longest: ms(variant / 2), count: [outcomes]int{closed: failed, readOnly: 1}},
			moments: []moment{
				{"stop", epoch},
				{"not seen", time.Time{}},
				{"good again", epoch.Add(ms(variant - 10))},
			},
		}
	}
	results := []result{
		{variant: variant{name: "x", what: "one"}, samples: []sample{event(1000, 1100, 5), event(2000, 2100, 3), event(1000, 1300, 4)}},
		{variant: variant{name: "y", what: "two", missing: "not written yet"}},
		{variant: variant{name: "z", what: "three", asked: true}, delays: []delay{{ms(90), ms(-700)}, {ms(10), ms(20)}, {ms(30), ms(-800)}}},
	}
	const want = `| variant | events | gap min | median | max | ÷ floor | worst | failed median | max | of all of them | writes misrouted | slowest served |
|---|---|---|---|---|---|---|---|---|---|---|---|
| a: libpq, target_session_attrs, straight to the nodes: the floor | 3 | 1.000 s | 1.000 s | 2.000 s |  |  | 0 | 0 |  | 0 | 0.004 s |
| x: one | 3 | 1.100 s | 1.300 s | 2.100 s | 1.10 | 1.30 | 5 | 6 | 12 closed, 3 read-only | 3 | 1.050 s |

y is not available: not written yet

Where the time goes: milliseconds after the first line, medians.

| moment | x |
|---|---|
| stop | 0 |
| good again | 1290 |

How late the answers are: below 0 patroniglue's was the first.

| from Patroni's own answer to patroniglue's | events | new primary passes: median | max | old primary passes no more: median | max |
|---|---|---|---|---|---|
| z: three | 3 | 30 ms | 90 ms | -700 ms | 20 ms |
`
	var got bytes.Buffer
	writeTables(&got, results, false, true)
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
}

// The words of PostgreSQL 15 and Patroni 3.0.2, in one file.
func TestParseLog(t *testing.T) {
	const text = `2026-01-02 15:04:05,461 INFO: Demoting self (graceful)
2026-01-02 15:04:05.484 UTC [8463] postgres: LOG:  received fast shutdown request
server signaled
		Is the server running on that host and accepting TCP/IP connections?
`
	want := []line{
		{epoch.Add(ms(461)), "INFO: Demoting self (graceful)"},
		{epoch.Add(ms(484)), "UTC [8463] postgres: LOG:  received fast shutdown request"},
	}
	if diff := cmp.Diff(want, parseLog(text, time.UTC), cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
}

func TestTry(t *testing.T) {
	v, err := parseTry("c100, agent-inter=50ms, option redispatch=1, fast-interval=50ms")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"primary-interval": "100ms", "fast-interval": "50ms"}
	if diff := cmp.Diff(want, v.backend); diff != "" {
		t.Errorf("[backend]: want - got +\n%s", diff)
	}
	const cfg = "# agent-inter 200ms\n  option redispatch\n  server a agent-inter 200ms weight 100\n"
	const edited = "# agent-inter 200ms\n  option redispatch 1\n  server a agent-inter 50ms weight 100\n"
	if got, err := edit(cfg, v.edits); err != nil || got != edited {
		t.Errorf("edit: %v\n%s\nwant\n%s", err, got, edited)
	}

	if _, err := edit(cfg, map[string]string{"agent-intre": "1s"}); err == nil || err.Error() != `editing haproxy.cfg: no keyword "agent-intre" in it` {
		t.Errorf("edit of an unknown keyword: %v", err)
	}
	for s, want := range map[string]string{
		"z, retries=1": "want some of " + strings.Join(variantNames(), ", ") + ` (got "z")`,
		"c, retries":   `want NAME, KEY=VALUE, ... (got "c, retries")`,
		"fast, rise=1": `fast has no HAProxy: want keys of [backend], some of interval, primary-interval, fast-interval (got "rise")`,
	} {
		if _, err := parseTry(s); err == nil || err.Error() != want {
			t.Errorf("parseTry(%q): %v, want %s", s, err, want)
		}
	}
}

func TestDaemonConfig(t *testing.T) {
	const want = "[frontend]\nport = 1\n\n[backend]\nprimary-interval = \"100ms\"\n"
	if got := daemonConfig("[frontend]\nport = 1\n", map[string]string{"primary-interval": "100ms"}); got != want {
		t.Errorf("daemonConfig:\n%s\nwant\n%s", got, want)
	}
}
