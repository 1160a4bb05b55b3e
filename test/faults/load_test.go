package faults

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/node/nodetest"
)

// TestPatroniIsNeverHarmed counts our connections to a Patroni: five idle ones freeze release 4.1,
// which has five workers (node.Client).
func TestPatroniIsNeverHarmed(t *testing.T) {
	const watched = time.Minute
	tests := []struct {
		name   string
		begin  func(*faulty)
		during func(*faulty) // at each glance; may be nil
		second int           // how often pg1 is asked in a second at most
		minute int           // and in a minute
		hangs  bool          // pg1's requests hang, so one may be open at a glance
	}{
		{"a settled primary", func(*faulty) {}, nil, 5, 60*4 + 30, false},
		{"a settled replica", func(s *faulty) { s.sim.Switchover("pg2"); time.Sleep(5 * time.Second) }, nil, 2, 70, false},
		{"many who ask", func(*faulty) {}, func(s *faulty) {
			s.everybody()
			s.passing("replica")
		}, 5, 60*4 + 30, false},
		{"a flood of refresh posts", func(*faulty) {}, func(s *faulty) {
			for range 50 {
				s.web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/node/pg1/refresh", nil))
			}
		}, 11, 60 * 11, false},
		{"two primaries for good", func(s *faulty) { s.sim.SplitBrain(false, "pg1", "pg2") }, nil, 11, 60 * 11, false},
		{"nobody leads for good", func(s *faulty) { s.sim.LoseDCS(false) }, nil, 11, 60 * 11, false},
		{"an error each time", func(s *faulty) { s.all(nodetest.Status500) }, nil, 11, 60 * 11, false},
		{"refused each time", func(s *faulty) { s.all(nodetest.Refuse) }, nil, 11, 60 * 11, false},
		// Each takes 3 s. The pauses between them are 1, 2, 4, 8, 8, ... s, or up to a tenth shorter.
		{"requests that hang", freeze, nil, 2, 9, true},
		{"requests that hang, a flood of refresh posts", freeze, func(s *faulty) {
			s.web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/node/pg1/refresh", nil))
		}, 2, 13, true}, // it names the node, which ends its backoff, but every 5 s at most
		{"connections that hang", func(s *faulty) { s.links.Store("pg1", noPackets) }, nil, 2, 60/3 + 1, true}, // no worker of Patroni does
		{"a byte per second", func(s *faulty) { s.sim.Node("pg1").SetFault(nodetest.Drip) }, nil, 2, 9, true},
		{"answers after 2.9 s", delay(2900 * time.Millisecond), nil, 2, 60*10/29 + 2, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := startFaulty(t, false)
				test.begin(s)
				n := s.sim.Node("pg1")
				s.forgetDials()
				for begun := time.Now(); time.Since(begun) < watched; time.Sleep(glance) {
					if test.during != nil {
						test.during(s)
					}
					synctest.Wait()
					if open := n.Open(); open > 1 || open > 0 && !test.hangs {
						t.Fatalf("%d connections are open, and nobody asks anything", open)
					}
				}
				if n.MaxOpen() > 1 {
					t.Errorf("%d connections at once, want one", n.MaxOpen())
				}
				if polls := s.busiest("pg1"); polls > test.second {
					t.Errorf("asked %d times in a second, want at most %d", polls, test.second)
				}
				polls := s.connected("pg1")
				if polls > test.minute || polls == 0 {
					t.Errorf("asked %d times in %s, want at most %d", polls, watched, test.minute)
				}
				t.Logf("asked %d times in %s, at most %d in a second", polls, watched, s.busiest("pg1"))
			})
		})
	}
}
