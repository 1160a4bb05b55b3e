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
