package harness

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// Recorder does something again and again and keeps what came of it.
type Recorder[T any] struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	kept   []T // guarded by mu
}

// Record calls f from so many goroutines, each at most once in an interval,
// until stop or the end of the test.
func Record[T any](t *testing.T, goroutines int, interval time.Duration, f func() T) *Recorder[T] {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder[T]{cancel: cancel}
	t.Cleanup(func() { r.Stop() })
	for i := range goroutines {
		r.wg.Go(func() {
			time.Sleep(interval * time.Duration(i) / time.Duration(goroutines)) // they take turns
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for ctx.Err() == nil {
				r.keep(f())
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return r
}

func (r *Recorder[T]) keep(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, v)
}

// SoFar gives what has been kept, in the order in which it came.
func (r *Recorder[T]) SoFar() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

// Stop ends the recording and gives all of it. It may be called again.
func (r *Recorder[T]) Stop() []T {
	r.cancel()
	r.wg.Wait()
	return r.SoFar()
}
