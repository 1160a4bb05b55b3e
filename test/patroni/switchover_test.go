package patroni

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// switchover: never two primaries, and the new one is ours at most 300 ms after
// it is Patroni's.
func (e suite) switchover(t *testing.T) {
	const rounds, limit = 3, 300 * time.Millisecond
	var delays []time.Duration
	for i := range rounds {
		c := e.Healthy(t)
		to := c.Replicas[i%len(c.Replicas)]
		w := e.Watch(t)
		delay, err := e.timeSwitchover(t.Context(), to)
		e.Healthy(t)
		samples := w.Stop()
		if err != nil {
			t.Fatalf("from %s to %s: %v", c.Primary.Name, to.Name, err)
		}
		harness.NeverTwo(t, samples)
		t.Logf("from %s to %s: primary here %v after Patroni's own answer; %s", c.Primary.Name, to.Name, delay.Round(time.Millisecond), harness.Gap(samples))
		delays = append(delays, delay)
		e.HAProxyShows(t, e.Normal(e.Healthy(t)))
	}
	slices.Sort(delays)
	t.Logf("median %v of %v", delays[rounds/2], delays)
	if delays[rounds/2] > limit {
		t.Errorf("the new primary passed %v after Patroni's own answer (median of %v), want at most %v", delays[rounds/2], delays, limit)
	}
}

// timeSwitchover gives the time from Patroni's first answer that to is primary,
// with a role that says so too, to ours.
func (e suite) timeSwitchover(ctx context.Context, to lab.Node) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	var patroni, ours time.Time
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		patroni = harness.FirstTime(ctx, 20*time.Millisecond, func() bool {
			a, err := e.Ask(to.REST, "GET", "/primary")
			if err != nil || a.Status != http.StatusOK {
				return false
			}
			var doc struct{ Role string }
			return json.Unmarshal(a.Body, &doc) == nil && (doc.Role == "primary" || doc.Role == "master")
		})
	})
	wg.Go(func() {
		ours = harness.FirstTime(ctx, 5*time.Millisecond, func() bool {
			a, err := e.Ask(e.Lab.HTTP, "HEAD", "/node/"+to.Name+"/primary")
			failed = cmp.Or(failed, err)
			return a.Status == http.StatusOK
		})
	})
	err := e.Lab.Switchover(ctx, to.Name)
	if err != nil {
		cancel()
	}
	wg.Wait()
	switch {
	case cmp.Or(err, failed) != nil:
		return 0, cmp.Or(err, failed)
	case patroni.IsZero() || ours.IsZero():
		return 0, fmt.Errorf("seen as primary: by Patroni %t, here %t", !patroni.IsZero(), !ours.IsZero())
	}
	return ours.Sub(patroni), nil
}
