package listen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echo answers one line, and names the peer.
func echo(peer netip.AddrPort, request, out []byte) []byte {
	if !bytes.HasSuffix(request, []byte("\n")) {
		return nil
	}
	return fmt.Appendf(out, "%s said %s", peer, request)
}

// listenFast listens with Fast.
func listenFast(t *testing.T, addr string, linger time.Duration, answer Answer) net.Listener {
	t.Helper()
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Fast(tcp, linger, answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// others yields what Accept returns, until the listener is closed.
func others(t *testing.T, ln net.Listener) <-chan net.Conn {
	t.Helper()
	all, done := make(chan net.Conn, 100), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept: %v", err)
				}
				return
			}
			all <- c
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return all
}

// asHAProxy connects so that the question comes with the handshake's last packet.
func asHAProxy(t *testing.T, addr, question string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_QUICKACK, 0) })
		return err
	}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, question); err != nil {
		t.Fatal(err)
	}
	return c
}

// A request that came with its connection is answered, with the peer's address, and
// the connection is closed. Accept does not return it.
func TestFastAnswers(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		ln := listenFast(t, addr, 0, echo)
		all := others(t, ln)
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		for _, host := range map[string][]string{"127.0.0.1:0": {"127.0.0.1"}, "[::1]:0": {"::1"}, ":0": {"127.0.0.1", "::1"}}[addr] {
			for i := range 20 {
				question := fmt.Sprintf("question %d\n", i)
				c := asHAProxy(t, net.JoinHostPort(host, port), question)
				got, err := io.ReadAll(c)
				own := c.LocalAddr().(*net.TCPAddr).AddrPort()
				if !strings.HasSuffix(string(got), " said "+question) || err != nil {
					t.Fatalf("%s, %s: %q, %v", addr, host, got, err)
				}
				peer := netip.MustParseAddrPort(strings.TrimSuffix(string(got), " said "+question))
				if peer.Port() != own.Port() || peer.Addr().Unmap() != own.Addr().Unmap() {
					t.Errorf("%s: the answer's peer is %s, want %s", addr, peer, own)
				}
			}
		}
		select {
		case c := <-all:
			t.Errorf("%s: Accept returned %s", addr, c.RemoteAddr())
		default:
		}
	}
}

// A request that is not answered reaches the caller of Accept, with every byte.
func TestFastLeavesOthers(t *testing.T) {
	long := strings.Repeat("x", maxRequest) + "\n"
	ln := listenFast(t, "127.0.0.1:0", 0, echo)
	all := others(t, ln)
	for _, question := range []string{"", "half", long, strings.Repeat(long, 30)} {
		c := asHAProxy(t, ln.Addr().String(), question)
		server := <-all
		if server.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("peer %s, want %s", server.RemoteAddr(), c.LocalAddr())
		}
		io.WriteString(c, " and more\n")
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(server)
		if string(got) != question+" and more\n" || err != nil {
			t.Errorf("%.20q: %d bytes, %.20q, %v", question, len(got), got, err)
		}
		if _, err := io.WriteString(server, "answer"); err != nil {
			t.Error(err)
		}
		server.Close()
		if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
			t.Errorf("%.20q: %q, %v", question, got, err)
		}
	}
}

// A connection on which nothing is sent delays no other one.
func TestFastWaitsForNobody(t *testing.T) {
	ln := listenFast(t, "127.0.0.1:0", 0, echo)
	all := others(t, ln)
	for range 50 {
		asHAProxy(t, ln.Addr().String(), "")
	}
	if got, err := io.ReadAll(asHAProxy(t, ln.Addr().String(), "hello\n")); !bytes.HasSuffix(got, []byte("hello\n")) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for range 50 {
		(<-all).Close()
	}
}

// The peer has time to close first; after that the connection is closed.
func TestFastLingers(t *testing.T) {
	const linger = 300 * time.Millisecond
	ln := listenFast(t, "127.0.0.1:0", linger, echo)
	all := others(t, ln)
	c := asHAProxy(t, ln.Addr().String(), "hello\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); !strings.HasSuffix(line, "hello\n") || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	begun := time.Now()
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the answer: %v, want %v", err, io.EOF)
	}
	if took := time.Since(begun); took < linger/2 {
		t.Errorf("closed after %s, want not before %s", took, linger)
	}
	// However many peers do not close: their connections are closed, and no file stays open.
	before := openFiles(t)
	for range 3 * maxLingering {
		c := asHAProxy(t, ln.Addr().String(), "hello\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if now := openFiles(t); now > before+4*maxLingering+10 { // those of this end are among them
		t.Errorf("%d files are open, %d before", now, before)
	}
	if len(all) > 0 {
		t.Errorf("Accept returned %d connections", len(all))
	}
}

// The side that closes first has to remember the connection for a minute. With as
// many connections as there are checks, that should not be our side where the peer
// closes as soon as it has its answer.
func TestFastLeavesNoTimeWait(t *testing.T) {
	ln := listenFast(t, "127.0.0.1:0", time.Minute, echo)
	all := others(t, ln)
	for range 20 {
		c := asHAProxy(t, ln.Addr().String(), "hello\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0) // a reset, as HAProxy's
		c.Close()
	}
	ln.Close()
	if len(all) > 0 {
		t.Errorf("Accept returned %d connections", len(all))
	}
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	local := fmt.Sprintf(" 0100007F:%04X ", ln.Addr().(*net.TCPAddr).Port)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.Contains(line, local) && len(fields) > 3 && fields[3] == "06" {
			t.Errorf("in TIME_WAIT: %s", line)
		}
	}
}

// A stop or a reload closes the port at once: nobody can connect to it any more, its
// address is free, and no file stays open.
func TestFastCloses(t *testing.T) {
	before := openFiles(t)
	addr := "127.0.0.1:0"
	for range 50 {
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("listening on the address again: %v", err)
		}
		ln, err := Fast(tcp, time.Minute, echo)
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr().String()
		var accepts atomic.Bool
		done := make(chan error, 1)
		go func() {
			accepts.Store(true)
			_, err := ln.Accept()
			done <- err
		}()
		c := asHAProxy(t, addr, "hello\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Error("it listens after Close")
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		ln.Close() // and again
	}
	if now := openFiles(t); now > before+2 {
		t.Errorf("%d files are open, %d before", now, before)
	}
}

// Without a free file descriptor Accept fails, so that Patient can wait. When there
// is one again, Accept works again.
func TestFastWithoutFiles(t *testing.T) {
	var limit, low syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	ln := listenFast(t, "127.0.0.1:0", 0, echo)
	c := asHAProxy(t, ln.Addr().String(), "hello\n")
	spare, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	next := spare.Fd() // the first free one
	spare.Close()
	low = syscall.Rlimit{Cur: uint64(next), Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	_, err = ln.Accept()
	if e := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Accept: %v, want %v", err, syscall.EMFILE)
	}
	others(t, ln)
	if got, err := io.ReadAll(c); !bytes.HasSuffix(got, []byte("hello\n")) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// Listeners of other kinds are left as they are.
func TestFastOfOthers(t *testing.T) {
	ln := new(failing)
	if got, err := Fast(ln, 0, echo); got != ln || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
