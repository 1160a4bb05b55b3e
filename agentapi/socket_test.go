package agentapi

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"patroniglue/cluster"
)

// start serves s until the test ends, on a shared port and, with a question, on
// a dedicated one, both on loopback.
func start(t testing.TB, s *Server, dedicated *cluster.Question) (addrs []net.Addr) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	for _, q := range []*cluster.Question{nil, dedicated} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, ln.Addr())
		served.Go(func() {
			if err := s.Serve(ctx, ln, func() *cluster.Question { return q }); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		served.Wait()
	})
	return addrs
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
func bothKinds(t testing.TB) (addrs []net.Addr) {
	t.Helper()
	return start(t, New(Config{Asker: askerFunc(pg1IsPrimary)}), &cluster.Question{Node: "pg1", Check: "replica"})
}

func TestSockets(t *testing.T) {
	addrs := bothKinds(t)
	shared, dedicated := addrs[0], addrs[1]
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
	addrs := bothKinds(t)
	for range 50 {
		for _, addr := range addrs {
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
	c := dial(t, addrs[0])
	io.WriteString(c, "pg1/primary\n")
	if got := readLine(t, c); got != isPrimary {
		t.Errorf("got %q, want %q", got, isPrimary)
	}
}

// BenchmarkCheck is an agent-check as HAProxy makes it: connect, ask, read,
// reset. The client's allocations are in its figures.
func BenchmarkCheck(b *testing.B) {
	for name, i := range map[string]int{"shared": 0, "dedicated": 1} {
		b.Run(name, func(b *testing.B) {
			addr := bothKinds(b)[i].(*net.TCPAddr)
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
