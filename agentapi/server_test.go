package agentapi

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/node"
)

// askerFunc is an Asker.
type askerFunc func(context.Context, cluster.Question) (cluster.Answer, error)

func (f askerFunc) Ask(ctx context.Context, q cluster.Question) (cluster.Answer, error) {
	return f(ctx, q)
}

// AskNow is for a caller that does not wait: it has no answer to a question that does not end.
func (f askerFunc) AskNow(q cluster.Question) (cluster.Answer, bool) {
	a, err := f(context.Background(), q)
	return a, err == nil
}

var loopback = netip.MustParseAddrPort("127.0.0.1:40000")

// pg1IsPrimary knows pg1, the primary, and no other node.
func pg1IsPrimary(_ context.Context, q cluster.Question) (cluster.Answer, error) {
	c, err := node.ParseCheck(q.Check, q.Query)
	switch {
	case q.Node != "pg1":
		return cluster.Answer{}, errors.New(`unknown node "` + q.Node + `"`)
	case err != nil:
		return cluster.Answer{}, err
	case c.Writes():
		return cluster.Answer{Check: c, Verdict: node.Verdict{Outcome: node.Pass, Label: "primary"}}, nil
	default:
		return cluster.Answer{Check: c, Verdict: node.Verdict{Outcome: node.OtherRole, Label: "primary"}}, nil
	}
}

const (
	isPrimary = "ready up 100% #primary\n"
	noRequest = `maint down #no request: want agent-send "node/check\n"` + "\n"
	tooLong   = "maint down #request longer than 512 bytes\n"
)

// memoryListener is a net.Listener without sockets: they would keep a synctest
// bubble from going idle.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	fail   chan error // what Accept fails with
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{}), fail: make(chan error)}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case err := <-l.fail:
		return nil, err
	case c := <-l.conns:
		return c, nil
	}
}

func (l *memoryListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{} }

// memoryConn is the server's end; it counts what the server does with it.
type memoryConn struct {
	net.Conn
	peer   netip.AddrPort
	mu     sync.Mutex
	writes int
	closed time.Time
}

func (c *memoryConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.peer) }

func (c *memoryConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *memoryConn) Close() error {
	c.mu.Lock()
	if c.closed.IsZero() {
		c.closed = time.Now()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// dialFrom connects; it returns both ends, or nil when the listener is closed.
func (l *memoryListener) dialFrom(peer string) (net.Conn, *memoryConn) {
	here, there := net.Pipe()
	conn := &memoryConn{Conn: there, peer: netip.MustParseAddrPort(peer)}
	select {
	case l.conns <- conn:
		return here, conn
	case <-l.closed:
		return nil, nil
	}
}

func (l *memoryListener) dial() (net.Conn, *memoryConn) { return l.dialFrom("192.0.2.1:1234") }

// serve runs s on a memoryListener; stop ends it and waits.
func serve(t *testing.T, s *Server, q *cluster.Question) (l *memoryListener, stop func()) {
	t.Helper()
	l = newMemoryListener()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, func() *cluster.Question { return q }) }()
	return l, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := s.Conns(); n != 0 {
			t.Errorf("%d connections are open after Serve", n)
		}
	}
}

// readLine reads one line and nothing else.
func readLine(t *testing.T, c net.Conn) string {
	t.Helper()
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	if err != nil {
		t.Errorf("reading the answer: %v", err)
	}
	return string(buf[:n])
}

func newServer(ask askerFunc) *Server { return New(Config{Asker: ask, Log: zerolog.Nop()}) }

// A dedicated port needs no question, and the fast path waits for none. A peer which
// may not connect, or has to wait for the node's first poll, is left to Serve.
func TestAnswerFast(t *testing.T) {
	asks, known := 0, true
	s := New(Config{Asker: nowFunc(func(q cluster.Question) (cluster.Answer, bool) {
		asks++
		a, err := pg1IsPrimary(context.Background(), q)
		return a, err == nil && known
	}), Log: zerolog.Nop()})
	q := &cluster.Question{Node: "pg1", Check: "primary"}
	if got := string(s.AnswerFast(q, loopback, nil, nil)); got != isPrimary {
		t.Errorf("%q, want %q", got, isPrimary)
	}
	for w, n := range s.Answers() {
		if want := map[string]uint64{"ready up": 1}[w]; n != want {
			t.Errorf("%d answers are %q, want %d", n, w, want)
		}
	}
	known = false
	if got := s.AnswerFast(q, loopback, nil, nil); got != nil {
		t.Errorf("of a node that nobody knows: %q", got)
	}
	known = true
	s.Apply(Settings{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	asks = 0
	for _, request := range []string{"", "pg1/primary\n"} {
		if got := s.AnswerFast(q, loopback, []byte(request), nil); got != nil || asks > 0 {
			t.Errorf("a peer that is not allowed got %q", got)
		}
	}
}

// The peer is wrapped for the log, and the names in a request are copied; there is nothing else that an agent check would
// leave behind.
func TestAnswerFastAllocations(t *testing.T) {
	a, err := pg1IsPrimary(t.Context(), cluster.Question{Node: "pg1", Check: "primary"})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Asker: nowFunc(func(cluster.Question) (cluster.Answer, bool) { return a, true }), Log: zerolog.Nop()})
	out := make([]byte, 0, MaxLine)
	for _, tt := range []struct {
		name, request string
		q             *cluster.Question
		most          float64
	}{
		{"a dedicated port", "", &cluster.Question{Node: "pg1", Check: "primary"}, 1},
		{"a shared one", "pg1/primary\n", nil, 3},
	} {
		request := []byte(tt.request)
		if n := testing.AllocsPerRun(100, func() { s.AnswerFast(tt.q, loopback, request, out) }); n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v: every agent check would pay for more, and for their collection", tt.name, n, tt.most)
		}
	}
}

// nowFunc is an Asker whose Ask must not be called.
type nowFunc func(cluster.Question) (cluster.Answer, bool)

func (f nowFunc) AskNow(q cluster.Question) (cluster.Answer, bool) { return f(q) }
func (nowFunc) Ask(context.Context, cluster.Question) (cluster.Answer, error) {
	panic("nobody waits")
}

func TestShared(t *testing.T) {
	type part struct {
		wait time.Duration // before it
		text string
	}
	const ms = time.Millisecond
	var bytewise, dribble []part
	for i := range len("pg1/primary\n") {
		bytewise = append(bytewise, part{50 * ms, "pg1/primary\n"[i : i+1]})
	}
	for range 20 {
		dribble = append(dribble, part{75 * ms, "x"})
	}
	for _, tt := range []struct {
		name string
		send []part
		want string
		at   time.Duration // since connect
	}{
		{"LF", []part{{0, "pg1/primary\n"}}, isPrimary, 0},
		{"CRLF", []part{{0, "pg1/primary\r\n"}}, isPrimary, 0},
		{"literal", []part{{0, `pg1/primary\n`}}, isPrimary, 0},
		{"literal in two parts", []part{{0, `pg1/primary\`}, {90 * ms, "n"}}, isPrimary, 90 * ms},
		{"no end", []part{{0, "pg1/primary"}}, isPrimary, 100 * ms},
		{"no end, in two parts", []part{{0, "pg1/"}, {75 * ms, "primary"}}, isPrimary, 175 * ms},
		{"byte by byte", bytewise, isPrimary, 600 * ms},
		{"late, as after lost packets", []part{{950 * ms, "pg1/primary\n"}}, isPrimary, 950 * ms},
		{"nothing", nil, noRequest, time.Second},
		{"empty line", []part{{0, "\n"}}, noRequest, 0},
		{"512 bytes", []part{{0, "pg1/" + strings.Repeat("x", 508) + "\n"}}, "maint down #unknown check \"" + strings.Repeat("x", 89) + "...\n", 0},
		{"512 bytes and a literal in two parts", []part{{0, "pg2/" + strings.Repeat("x", 508) + `\`}, {10 * ms, "n"}}, "maint down #unknown node \"pg2\"\n", 10 * ms},
		{"513 bytes", []part{{0, "pg1/" + strings.Repeat("x", 509)}}, tooLong, 0},
		{"513 bytes and LF", []part{{0, "pg1/" + strings.Repeat("x", 509) + "\n"}}, tooLong, 0},
		{"flood of 1 MB", []part{{0, strings.Repeat("x", 1_000_000)}}, tooLong, 0},
		{"slower than the deadline", dribble, "maint down #malformed request: want node/check or cluster/node/check (got \"xxxxxxxxxxxxx\")\n", time.Second},
		{"two lines", []part{{0, "pg1/primary\npg2/primary\n"}}, isPrimary, 0},
		{"two lines in two parts", []part{{0, "pg1/primary\n"}, {0, "pg2/primary\n"}}, isPrimary, 0},
		{"unknown node", []part{{0, "pgX/primary\n"}}, "maint down #unknown node \"pgX\"\n", 0},
		{"parameter", []part{{0, "pg1/replica?lag=nonsense\n"}}, "maint down #parameter lag: ", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(pg1IsPrimary)
				l, stop := serve(t, s, nil)
				client, server := l.dial()
				start := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for _, p := range tt.send {
						time.Sleep(p.wait)
						if _, err := io.WriteString(client, p.text); err != nil {
							return
						}
					}
				}()
				got := readLine(t, client)
				if got != tt.want && (strings.HasSuffix(tt.want, "\n") || !strings.HasPrefix(got, tt.want)) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if len(tt.send) == 1 { // the fast path gives the same answer, or none
					fast := s.AnswerFast(nil, loopback, []byte(tt.send[0].text), nil)
					if must := tt.want == isPrimary && tt.name != "no end" && tt.send[0].wait == 0; fast != nil && string(fast) != got || must && fast == nil {
						t.Errorf("at once: %q, want %q", fast, got)
					}
				}
				checkLine(t, []byte(got))
				if d := time.Since(start); d != tt.at {
					t.Errorf("answered after %v, want %v", d, tt.at)
				}
				if tt.at < time.Second {
					<-sent // the rest is read, not refused
				}
				client.Close()
				<-sent
				stop()
				if server.writes != 1 {
					t.Errorf("%d writes, want 1", server.writes)
				}
			})
		})
	}
}

func TestDedicated(t *testing.T) {
	for name, send := range map[string]string{"nothing": "", "a line": "pgX/replica\n", "no end": "x", "a lot": strings.Repeat("x", 500_000)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(pg1IsPrimary)
				l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
				start := time.Now()
				client, server := l.dial()
				sent := make(chan error, 1)
				go func() { _, err := io.WriteString(client, send); sent <- err }()
				if got := readLine(t, client); got != isPrimary {
					t.Errorf("got %q, want %q", got, isPrimary)
				}
				if send != "" {
					if err := <-sent; err != nil {
						t.Errorf("sending: %v", err)
					}
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("took %v, want 0s", d)
				}
				client.Close()
				stop()
				if server.writes != 1 {
					t.Errorf("%d writes, want 1", server.writes)
				}
			})
		})
	}
}

// The side that closes first has the TIME_WAIT.
func TestPeerClosesFirst(t *testing.T) {
	for _, tt := range []struct {
		name         string
		peer, server time.Duration // when they close
	}{
		{"peer closes", 700 * time.Millisecond, 700 * time.Millisecond},
		{"peer never closes", 5 * time.Second, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(pg1IsPrimary)
				l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
				client, server := l.dial()
				readLine(t, client)
				start := time.Now()
				time.Sleep(tt.peer)
				client.Close()
				stop()
				if d := server.closed.Sub(start); d != tt.server {
					t.Errorf("the server closed after %v, want %v", d, tt.server)
				}
			})
		})
	}
}

func TestFloodAfterTheAnswerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pg1IsPrimary)
		l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
		client, _ := l.dial()
		readLine(t, client)
		n, err := client.Write(make([]byte, 8<<20))
		if !errors.Is(err, io.ErrClosedPipe) || n < 1<<20 || n > 1<<20+requestBuffer {
			t.Errorf("wrote %d bytes, %v, want about 1 MiB and %v", n, err, io.ErrClosedPipe)
		}
		stop()
	})
}

func TestPeerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pg1IsPrimary)
		l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
		start := time.Now()
		l.dial()
		synctest.Wait()
		stop()
		if d := time.Since(start); d != time.Second {
			t.Errorf("gave up after %v, want 1s", d)
		}
		if n := s.Unanswered(); n != 1 {
			t.Errorf("%d connections without an answer, want 1", n)
		}
	})
}

func TestStop(t *testing.T) {
	// waits is the Supervisor before a node's first poll: it answers also when its context ends, but then without knowing.
	waits := func(ctx context.Context, q cluster.Question) (cluster.Answer, error) {
		<-ctx.Done()
		return cluster.Answer{Verdict: node.Verdict{Outcome: node.Fault, Label: "not polled yet"}}, nil
	}
	t.Run("accepting ends at once, handlers are waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(pg1IsPrimary)
			l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
			client, _ := l.dial()
			readLine(t, client)
			stopped := make(chan time.Time)
			start := time.Now()
			go func() { stop(); stopped <- time.Now() }()
			synctest.Wait()
			if c, _ := l.dial(); c != nil {
				t.Error("accepted a connection after the end")
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("it took %v to stop accepting", d)
			}
			if d := (<-stopped).Sub(start); d != closeTimeout {
				t.Errorf("stopped after %v, want %v", d, closeTimeout)
			}
		})
	})
	t.Run("no guess at the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(waits)
			l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
			client, _ := l.dial()
			synctest.Wait()
			stop()
			if _, err := client.Read(make([]byte, 10)); err != io.EOF {
				t.Errorf("reading: %v, want EOF", err)
			}
			if n := s.Unanswered(); n != 1 {
				t.Errorf("%d connections without an answer, want 1", n)
			}
		})
	})
	t.Run("no guess after AskTimeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(waits)
			l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
			start := time.Now()
			client, _ := l.dial()
			if _, err := client.Read(make([]byte, 10)); err != io.EOF {
				t.Errorf("reading: %v, want EOF", err)
			}
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("closed after %v, want 5s", d)
			}
			stop()
		})
	})
}

func TestAllow(t *testing.T) {
	for _, tt := range []struct {
		allow, peer string
		want        bool
	}{
		{"", "203.0.113.9:1", true},
		{"10.0.0.0/8", "10.1.2.3:1", true},
		{"10.0.0.0/8", "[::ffff:10.1.2.3]:1", true},
		{"10.0.0.0/8", "11.1.2.3:1", false},
		{"10.0.0.0/8", "[fd00::1]:1", false},
		{"::ffff:10.0.0.0/104", "10.1.2.3:1", true},
		{"::ffff:10.0.0.0/104", "11.1.2.3:1", false},
		{"10.0.0.0/8 fe80::/10", "[fe80::1%eth0]:1", true},
		{"192.0.2.0/24 10.0.0.7/32", "10.0.0.7:1", true},
	} {
		t.Run(tt.allow+" "+tt.peer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(pg1IsPrimary)
				var allow []netip.Prefix
				for p := range strings.FieldsSeq(tt.allow) {
					allow = append(allow, netip.MustParsePrefix(p))
				}
				s.Apply(Settings{Allow: allow})
				l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
				client, server := l.dialFrom(tt.peer)
				got, _ := io.ReadAll(client)
				client.Close()
				stop()
				want, refused := isPrimary, uint64(0)
				if !tt.want {
					want, refused = "", 1
				}
				if string(got) != want || server.writes != len(want)/len(isPrimary) || s.Refused() != refused {
					t.Errorf("got %q in %d writes, refused %d; want %q, refused %d", got, server.writes, s.Refused(), want, refused)
				}
			})
		})
	}
	s := New(Config{Settings: Settings{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}})
	if s.allowed(&net.UnixAddr{Name: "x"}) {
		t.Error("allowed a peer without an IP address")
	}
}

// New settings and questions apply from the next connection on: which peers may
// connect, and what a port answers.
func TestApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pg1IsPrimary)
		l := newMemoryListener()
		ctx, cancel := context.WithCancel(context.Background())
		question := &cluster.Question{Node: "pg1", Check: "primary"} // changed between connections only
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, l, func() *cluster.Question { return question }) }()
		ask := func(want string) {
			t.Helper()
			c, _ := l.dial()
			go io.WriteString(c, "pg1/primary\n")
			got, _ := io.ReadAll(c)
			c.Close()
			if string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			synctest.Wait()
		}
		ask(isPrimary)
		question = &cluster.Question{Node: "pg2", Check: "primary"}
		ask("") // a question that cannot be answered yet, or any more: HAProxy keeps what it knows
		question = nil
		ask(isPrimary)
		s.Apply(Settings{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		ask("")
		s.Apply(Settings{})
		ask(isPrimary)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Asker: askerFunc(pg1IsPrimary), Settings: Settings{MaxConns: 2}})
		l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
		first, _ := l.dial()
		readLine(t, first)
		second, _ := l.dial()
		readLine(t, second)
		third, _ := l.dial()
		if got := readLine(t, third); got != isPrimary {
			t.Errorf("the third connection got %q, want %q", got, isPrimary)
		}
		if _, err := first.Read(make([]byte, 10)); err != io.EOF {
			t.Errorf("the first connection: %v, want EOF: it waits for longest", err)
		}
		if s.Conns() != 2 || s.Overflowed() != 1 {
			t.Errorf("%d open, %d overflowed, want 2 and 1", s.Conns(), s.Overflowed())
		}
		second.Close()
		synctest.Wait()
		fourth, _ := l.dial()
		if got := readLine(t, fourth); got != isPrimary {
			t.Errorf("got %q, want %q", got, isPrimary)
		}
		stop()
	})
}

func TestAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pg1IsPrimary)
		l, stop := serve(t, s, &cluster.Question{Node: "pg1", Check: "primary"})
		var got []time.Duration
		l.fail <- syscall.EMFILE
		for range 10 {
			start := time.Now()
			l.fail <- syscall.EMFILE
			got = append(got, time.Since(start))
		}
		for i, d := range got {
			if want := min(5*time.Millisecond<<i, time.Second); d != want {
				t.Errorf("pause %d: %v, want %v", i, d, want)
			}
		}
		client, _ := l.dial()
		if got := readLine(t, client); got != isPrimary {
			t.Errorf("got %q, want %q", got, isPrimary)
		}
		client.Close()
		l.fail <- syscall.EMFILE
		start := time.Now()
		stop()
		if d := time.Since(start); d != 0 {
			t.Errorf("stopping took %v while backing off", d)
		}
	})
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcome := node.Pass
		s := newServer(func(context.Context, cluster.Question) (cluster.Answer, error) {
			return answer(t, "replica", outcome, "x"), nil
		})
		l, stop := serve(t, s, nil)
		for _, outcome = range []node.Outcome{node.Pass, node.Pass, node.OtherRole, node.Lagging, node.Excluded, node.Transient, node.Fault} {
			client, _ := l.dial()
			io.WriteString(client, "pg1/replica\n")
			readLine(t, client)
			client.Close()
			synctest.Wait()
		}
		stop()
		want := map[string]uint64{"ready up": 2, "drain up": 1, "maint down": 3, "ready down": 1}
		if got := maps.Collect(s.Answers()); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
