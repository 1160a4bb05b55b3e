package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// TestFaultsBehindHAProxy: what HAProxy makes of them, and that clients get to
// no other database meanwhile.
func TestFaultsBehindHAProxy(t *testing.T) {
	t.Parallel()
	harness.Matrix(t, testFaultsBehindHAProxy)
}

func testFaultsBehindHAProxy(t *testing.T, suite lab.Suite) {
	const together = 6 // they mostly wait, so more than there are cores
	var running sync.WaitGroup
	places := make(chan struct{}, together)
	for _, f := range faults {
		if f.haproxy == "" {
			continue
		}
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.Run(f.name, func(t *testing.T) { f.playBehindHAProxy(t, suite) })
		})
	}
	running.Wait()
}

func (f *fault) playBehindHAProxy(t *testing.T, suite lab.Suite) {
	h := harness.StartSmall(t, suite)
	h.Shows(t, harness.Normal)
	s := &faulty{T: t, sim: h.Sim}
	f.begin(s)
	write, read, _ := strings.Cut(f.haproxy, " / ")
	h.Keeps(t, harness.Servers(write, read))
	serving := map[bool]string{true: "pg" + fmt.Sprint(1+slices.Index(strings.Fields(write), "UP"))}[strings.Contains(write, "UP")]
	if to := h.WritesTo(); to != serving {
		t.Errorf("a write reached %q, want %q", to, serving)
	}
	if f.end == nil {
		f.end = (*faulty).recovers
	}
	f.end(s)
	if f.passes[len(f.passes)-1] == "pg1" {
		h.Shows(t, harness.Normal)
	}
}
