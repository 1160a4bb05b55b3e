package main

import (
	"testing"
	"time"
)

// The judge is worth what its own judgement is: each row is a story and what may
// be answered then.
func TestAllowed(t *testing.T) {
	epoch := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }
	is := func(seconds float64, says string, r reach) phase {
		return phase{from: at(seconds), sure: at(seconds + 0.01), says: says, reach: r}
	}
	vague := is(100, "", answers)
	vague.vague = true
	const (
		pass   = "pass"
		fail   = "fail"
		either = "either"
	)
	for _, tt := range []struct {
		name  string
		check string
		pg1   []phase
		pg2   []phase
		asked float64
		want  string
	}{
		{"a primary for long", "primary", []phase{is(0, "primary", answers)}, nil, 100, pass},
		{"a primary is no replica", "replica", []phase{is(0, "primary", answers)}, nil, 100, fail},
		{"a replica for long", "replica", []phase{is(0, "replica", answers)}, []phase{is(0, "primary", answers)}, 100, pass},
		{"just begun", "primary", []phase{is(0, "primary", answers)}, nil, 1, either},
		{"just promoted", "primary", []phase{is(0, "replica", answers), is(100, "primary", answers)}, nil, 101.9, either},
		{"promoted, and time enough to notice", "primary", []phase{is(0, "replica", answers), is(100, "primary", answers)}, nil, 102.1, pass},
		{"still a replica for somebody", "replica", []phase{is(0, "replica", answers), is(100, "primary", answers)}, nil, 101.9, either},
		{"no replica for anybody", "replica", []phase{is(0, "replica", answers), is(100, "primary", answers)}, nil, 102.1, fail},
		{"promoted, but another was primary a moment ago", "primary", []phase{is(0, "replica", answers), is(100, "primary", answers)},
			[]phase{is(0, "primary", answers), is(100, "replica", answers)}, 105, either},
		{"promoted, and nobody else was for long", "primary", []phase{is(0, "replica", answers), is(100, "primary", answers)},
			[]phase{is(0, "primary", answers), is(100, "replica", answers)}, 108, pass},
		{"two primaries", "primary", []phase{is(0, "primary", answers)}, []phase{is(0, "replica", answers), is(50, "primary", answers)}, 100, either},
		{"it hangs, not for long", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp)}, nil, 102.9, pass},
		{"it hangs for longer", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp)}, nil, 104, either},
		{"it hangs beyond the ttl", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp)}, nil, 105.1, fail},
		{"back after that, not yet asked again", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp), is(110, "primary", answers)}, nil, 121, either},
		{"back after that for long", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp), is(110, "primary", answers)}, nil, 122.1, pass},
		{"nothing listens", "primary", []phase{is(0, "primary", answers), is(100, "primary", refuses)}, nil, 101, either},
		{"nothing listens beyond the ttl", "primary", []phase{is(0, "primary", answers), is(100, "primary", refuses)}, nil, 105.1, fail},
		{"demoted while frozen: the ttl counts", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp), is(101, "replica", hangsUp)}, nil, 104.9, either},
		{"demoted while frozen: and ends", "primary", []phase{is(0, "primary", answers), is(100, "primary", hangsUp), is(101, "replica", hangsUp)}, nil, 105.1, fail},
		{"nobody knows", "primary", []phase{is(0, "primary", answers), vague}, nil, 200, either},
	} {
		t.Run(tt.name, func(t *testing.T) {
			story := truth{nodes: map[string][]phase{"pg1": tt.pg1, "pg2": tt.pg2}}
			mayPass, mayFail := story.allowed("pg1", tt.check, at(tt.asked), at(tt.asked+0.001))
			got := map[[2]bool]string{{true, true}: either, {true, false}: pass, {false, true}: fail}[[2]bool{mayPass, mayFail}]
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
