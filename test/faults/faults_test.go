package faults

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFaults: each fault has the outcome that the table says, in its time.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { f.play(startFaulty(t, f.tls)) })
		})
	}
}

// TestFaultsAreDocumented: docs/reliability.md has each of them.
func TestFaultsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if name := "`TestFaults/" + strings.ReplaceAll(f.name, " ", "_") + "`"; !strings.Contains(string(text), name) {
			t.Errorf("docs/reliability.md: no line has %s", name)
		}
	}
}

func (f *fault) play(s *faulty) {
	if passes, a := s.everybody(); passes != "pg1" {
		s.Fatalf("before: %q passes, pg1 is %+v", passes, a)
	}
	every := glance
	if f.rare {
		every = 4 * glance
	}
	var seen []string
	var last said
	see := func() string {
		passes, a := s.everybody()
		if last = a; len(seen) == 0 || seen[len(seen)-1] != passes {
			seen = append(seen, passes)
		}
		return passes
	}
	see()
	begun := time.Now()
	played := make(chan struct{})
	go func() {
		defer close(played)
		f.begin(s)
	}()
	synctest.Wait()
	var out time.Duration
	for lasts := f.lasts; ; {
		if passes := see(); passes != "pg1" && out == 0 {
			if out = time.Since(begun) + 1; out <= f.early || f.out == 0 || out > f.out+every {
				s.Errorf("pg1 is out of service %s after the fault (%s), want within %s, but not before %s", out, last.reason, f.out, f.early)
			}
		}
		select {
		case <-played:
			lasts -= every
		default: // it is still beginning
		}
		if lasts < 0 {
			break
		}
		time.Sleep(every)
	}
	if f.out > 0 && out == 0 {
		s.Errorf("pg1 is never out of service, want after %s", f.out)
	}
	if !strings.HasPrefix(last.reason, f.reason) {
		s.Errorf("HTTP says %q, want %q", last.reason, f.reason)
	}
	if !strings.HasPrefix(last.agent, f.agent) {
		s.Errorf("the agent says %q, want %q", last.agent, f.agent)
	}

	if f.end == nil {
		f.end = (*faulty).recovers
	}
	go f.end(s)
	final, ended, back := f.passes[len(f.passes)-1], time.Now(), time.Duration(-1)
	for time.Since(ended) < f.back+3*interval {
		if see() == final && back < 0 {
			back = time.Since(ended)
		}
		time.Sleep(every)
	}
	if back < 0 || back > f.back+every {
		s.Errorf("%s is in service %s after the end, want within %s", final, back, f.back)
	}
	if !slices.Equal(seen, f.passes) {
		s.Errorf("in service were %q, want %q", seen, f.passes)
	}
	for _, n := range s.sim.Nodes() {
		if n.MaxOpen() > 1 {
			s.Errorf("%s: %d connections at once", n.Name(), n.MaxOpen())
		}
	}
	s.Logf("out after %s, back after %s: %q, %q", out, back, last.reason, last.agent)
}
