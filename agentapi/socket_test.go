package agentapi

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster"
)

// start opens and serves s until the test ends.
func start(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func dial(t testing.TB, addr net.Addr) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

// bothKinds is a server with a shared and a dedicated port on loopback.
func bothKinds() *Server {
	return New(Config{Asker: askerFunc(pg1IsPrimary), Listeners: []Listener{
		{Addr: "127.0.0.1:0"},
		{Addr: "127.0.0.1:0", Question: &cluster.Question{Node: "pg1", Check: "replica"}},
	}})
}

func TestSockets(t *testing.T) {
	s := bothKinds()
	start(t, s)
	shared, dedicated := s.Addrs()[0], s.Addrs()[1]
	const isOther = "maint down #primary\n"
	for _, tt := range []struct {
		name      string
		addr      net.Addr
		send      string
		halfClose bool
		want      string
	}{
		{"shared", shared, "pg1/primary\n", false, isPrimary},
		{"shared, half-closed without an end", shared, "pg1/primary", true, isPrimary},
		{"shared, half-closed without a word", shared, "", true, noRequest},
		{"shared, nothing", shared, "", false, noRequest},
		{"shared, flood", shared, strings.Repeat("x", 1_000_000), false, tooLong},
		{"dedicated", dedicated, "", false, isOther},
		{"dedicated, half-closed", dedicated, "", true, isOther},
		{"dedicated, flood", dedicated, strings.Repeat("x", 1_000_000), false, isOther},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, tt.addr)
			begin := time.Now()
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Errorf("sending: %v", err)
			}
			if tt.halfClose {
				c.CloseWrite()
			}
			if got := readLine(t, c); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if d := time.Since(begin); tt.halfClose && d >= requestIdle {
				t.Errorf("answered after %v: the end of input should have ended the request", d)
			}
		})
	}
}

func TestReset(t *testing.T) {
	s := bothKinds()
	start(t, s)
	for range 50 {
		for _, addr := range s.Addrs() {
			early := dial(t, addr) // gone before the answer
			io.WriteString(early, "pg1/pri")
			early.SetLinger(0)
			early.Close()
			late := dial(t, addr) // gone after it, as HAProxy does
			io.WriteString(late, "pg1/primary\n")
			readLine(t, late)
			late.SetLinger(0)
			late.Close()
		}
	}
	c := dial(t, s.Addrs()[0])
	io.WriteString(c, "pg1/primary\n")
	if got := readLine(t, c); got != isPrimary {
		t.Errorf("got %q, want %q", got, isPrimary)
	}
}

func TestOpenAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	s := New(Config{Listeners: []Listener{{Addr: free.Addr().String()}, {Addr: taken.Addr().String()}}})
	addr := taken.Addr().String()
	want := `listening for agent checks on "` + addr + `": listen tcp ` + addr + ": bind: address already in use"
	if err := s.Open(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if n := len(s.Addrs()); n != 0 {
		t.Errorf("%d addresses are open, want none", n)
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the first address stayed open: %v", err)
	}
	again.Close()

	s = bothKinds()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Serve(t.Context()); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
}

// BenchmarkCheck is an agent-check as HAProxy makes it: connect, ask, read,
// reset. The client's allocations are in its figures.
func BenchmarkCheck(b *testing.B) {
	for name, i := range map[string]int{"shared": 0, "dedicated": 1} {
		b.Run(name, func(b *testing.B) {
			s := bothKinds()
			start(b, s)
			addr := s.Addrs()[i].(*net.TCPAddr)
			buf := make([]byte, MaxLine)
			b.ReportAllocs()
			for b.Loop() {
				c, err := net.DialTCP("tcp", nil, addr)
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(c, "pg1/primary\n")
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
				c.SetLinger(0)
				c.Close()
			}
		})
	}
}
