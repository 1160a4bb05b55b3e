package patroni

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"patroniglue/node"
	"patroniglue/test/harness"
)

// comparison is what both programs answered to a check, one right after the other.
type comparison struct {
	at            time.Time
	check         string
	first, second []string // nodes that pass
	two           bool     // each had a primary of its own
	err           error
}

// compare asks both about each check in turn, about primary each time.
func (d *sideBySide) compare(t *testing.T) *harness.Recorder[comparison] {
	checks, next := node.CheckNames(), 0
	ask := func(addr, check string) (nodes []string, err error) {
		a, err := d.Ask(addr, "GET", "/cluster/"+d.Lab.Scope+"/"+check)
		if err != nil {
			return nil, err
		}
		var body struct{ Nodes []string }
		err = json.Unmarshal(a.Body, &body)
		return body.Nodes, err
	}
	both := func(check string) (c comparison) {
		c = comparison{at: time.Now(), check: check}
		if c.first, c.err = ask(d.Lab.HTTP, check); c.err == nil {
			c.second, c.err = ask(d.second.HTTP, check)
		}
		if c.err == nil && check == "primary" && len(c.first) > 0 && len(c.second) > 0 && !slices.Equal(c.first, c.second) {
			// It may have changed in between. If not, here are two.
			again, err := ask(d.Lab.HTTP, check)
			c.two, c.err = slices.Equal(again, c.first), err
		}
		return c
	}
	return harness.Record(t, 1, 10*time.Millisecond, func() comparison {
		if next++; next%2 == 0 {
			return both("primary")
		}
		return both(checks[next/2%len(checks)])
	})
}

// agreeAgain is within which the two have to agree again while something changes:
// the interval of both and what their polls take, on a busy machine.
const agreeAgain = 5 * time.Second

// agreed: they never had two primaries, and never differed for long.
func (d *sideBySide) agreed(t *testing.T) {
	t.Helper()
	all := d.both.Stop()
	since := make(map[string]time.Time) // that they differ
	longest := make(map[string]time.Duration)
	differed := 0
	for _, c := range all {
		if c.err != nil {
			t.Errorf("%s: %v", c.check, c.err)
		}
		if c.two {
			t.Errorf("at %s the first program's primary is %v, the second one's %v", c.at.Format(time.StampMilli), c.first, c.second)
		}
		if slices.Equal(c.first, c.second) {
			delete(since, c.check)
			continue
		}
		differed++
		if since[c.check].IsZero() {
			since[c.check] = c.at
		}
		if took := c.at.Sub(since[c.check]); took > longest[c.check] {
			longest[c.check] = took
			if took > agreeAgain {
				t.Errorf("%s differs for %v: %v and %v", c.check, took, c.first, c.second)
			}
		}
	}
	if len(all) < 1000 {
		t.Errorf("they were compared %d times only", len(all))
	}
	t.Logf("%d answers compared, %d differed, each check at most so long: %v", len(all), differed, slices.Sorted(maps.Values(longest)))
}
