package harness

import (
	"context"
	"testing"
	"time"
)

// Until waits for f.
func Until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// Eventually tries until f succeeds or the time is over.
func Eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("waited %v in vain: %v", limit, err)
		}
	}
}

// FirstTime gives the time after the first f that is true, zero when ctx ends
// before.
func FirstTime(ctx context.Context, every time.Duration, f func() bool) time.Time {
	tick := time.NewTicker(every)
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
