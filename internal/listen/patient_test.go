package listen

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

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

func (l *failing) Close() error { return nil }

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
		ln := Patient(lack, zerolog.New(&log).Level(zerolog.InfoLevel))
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
