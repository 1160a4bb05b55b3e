package harness

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// Soon is the limit for what takes a moment, even on a busy machine.
const Soon = 20 * time.Second

// Eventually calls f until it returns nil. After the limit the test ends with f's last
// error, which says what was still missing. [Want] makes one from a condition.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("waited %v in vain: %v", limit, err)
		}
	}
}

// Want is nil where ok is true, and else an error that says what is wanted.
func Want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("want "+format, args...)
}

// FirstTime returns the time after the first f that is true, zero when ctx ends
// before. It calls f at most once in an interval.
func FirstTime(ctx context.Context, interval time.Duration, f func() bool) time.Time {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if f() {
			return time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}
		}
	}
}

// AwaitClosed waits until nobody listens at any of the addresses.
func AwaitClosed(t testing.TB, addrs ...string) {
	t.Helper()
	Eventually(t, Soon, func() error {
		for _, addr := range addrs {
			if !Refuses(addr) {
				return fmt.Errorf("%s accepts connections", addr)
			}
		}
		return nil
	})
}

// Refuses reports whether nobody listens at addr.
func Refuses(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}
