package listen

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// pair returns a connection of the pool and its peer.
func pair(p *Pool) (in, peer net.Conn) {
	a, b := net.Pipe()
	return p.Add(a), b
}

// alive reports whether the other end is still open.
func alive(t *testing.T, peer net.Conn) bool {
	t.Helper()
	peer.SetReadDeadline(time.Now().Add(time.Second))
	_, err := peer.Read(make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return false
	case errors.Is(err, syscall.ETIMEDOUT), err != nil && strings.Contains(err.Error(), "timeout"):
		return true
	}
	t.Fatalf("reading: %v", err)
	return false
}

// A client that holds unused connections must not keep a check out: idle connections
// are closed, the longest idle first, and one that is used is not.
func TestLongestIdleGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(3)
		first, firstPeer := pair(p)
		second, secondPeer := pair(p)
		_, thirdPeer := pair(p)
		go first.Write([]byte("x")) // answered: the second waits for longest now
		if _, err := firstPeer.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_, fourthPeer := pair(p)
		for name, tt := range map[string]struct {
			peer net.Conn
			want bool
		}{"first": {firstPeer, true}, "second": {secondPeer, false}, "third": {thirdPeer, true}, "fourth": {fourthPeer, true}} {
			if got := alive(t, tt.peer); got != tt.want {
				t.Errorf("the %s connection is open: %v, want %v", name, got, tt.want)
			}
		}
		if p.Open() != 3 || p.Overflowed() != 1 {
			t.Errorf("%d open, %d gave way; want 3 and 1", p.Open(), p.Overflowed())
		}
		second.Close() // by its owner, who has seen the error
		if p.Open() != 3 {
			t.Errorf("%d open after one was closed twice, want 3", p.Open())
		}
		first.Close()
		if p.Open() != 2 {
			t.Errorf("%d open, want 2", p.Open())
		}
		pair(p)
		if p.Overflowed() != 1 {
			t.Errorf("one gave way though there was room")
		}
	})
}

func TestSetMax(t *testing.T) {
	p := NewPool(4)
	for range 4 {
		pair(p)
	}
	p.SetMax(2)
	pair(p)
	if p.Open() != 2 || p.Overflowed() != 3 {
		t.Errorf("%d open, %d gave way; want 2 and 3", p.Open(), p.Overflowed())
	}
	p.SetMax(0)
	pair(p)
	if p.Open() != 1 {
		t.Errorf("%d open, want 1 at least", p.Open())
	}
}

// failing is a listener that fails and then closes.
type failing struct {
	net.Listener
	errs []error
}

func (l *failing) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, net.ErrClosed
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	if err == nil {
		c, _ := net.Pipe()
		return c, nil
	}
	return nil, err
}

func (l *failing) Addr() net.Addr { return &net.TCPAddr{Port: 8009} }
func (l *failing) Close() error   { return nil }

// A lack of file descriptors that lasts for a night must not fill the disk with log
// lines, and connections must be accepted as soon as it ends.
func TestPatientBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		lack := new(failing)
		for range 100 {
			lack.errs = append(lack.errs, syscall.EMFILE)
		}
		lack.errs = append(lack.errs, nil, syscall.EMFILE, nil)
		ln := Patient(lack, zerolog.NewPool(&log).Level(zerolog.InfoLevel))
		begun := time.Now()
		if _, err := ln.Accept(); err != nil {
			t.Fatal(err)
		}
		// 5 + 10 + ... + 640 ms, then 92 times 1 s
		if took, want := time.Since(begun), 92*time.Second+1275*time.Millisecond; took != want {
			t.Errorf("it waited %v, want %v", took, want)
		}
		begun = time.Now()
		if _, err := ln.Accept(); err != nil || time.Since(begun) != minBackoff {
			t.Errorf("the next one took %v (%v), want %v", time.Since(begun), err, minBackoff)
		}
		if n := strings.Count(log.String(), `"level":"error","listener":":8009","error":"too many open files"`); n != 2 {
			t.Errorf("logged %d times in 93 s, want 2:\n%s", n, log.String())
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// A stop does not wait until there are file descriptors again.
func TestPatientCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lack := new(failing)
		for range 1000 {
			lack.errs = append(lack.errs, syscall.EMFILE)
		}
		ln := Patient(lack, zerolog.Nop())
		time.AfterFunc(10*time.Second+time.Millisecond, func() { ln.Close() })
		begun := time.Now()
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) || time.Since(begun) != 10*time.Second+time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
