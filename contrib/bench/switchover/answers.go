package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"patroniglue/contrib/lab"
)

// pace is between an answer and the next question: often enough to see a change, seldom enough to leave Patroni, which
// shares an interpreter with its REST API, what it needs.
const pace = 5 * time.Millisecond

// asker asks one /primary all the time.
type asker struct {
	url string

	mu      sync.Mutex
	passing bool      // guarded by mu: the latest answer was 200, of a primary that runs
	since   time.Time // guarded by mu: when the first such answer, or the first other one, was there
}

// ask asks until ctx ends. By one new connection a question: an idle one keeps one of Patroni's few workers busy.
func (a *asker) ask(ctx context.Context) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for ctx.Err() == nil {
		passes := passes(ctx, client, a.url)
		now := time.Now()
		a.mu.Lock()
		if a.since.IsZero() || passes != a.passing {
			a.passing, a.since = passes, now
		}
		a.mu.Unlock()
		if sleep(ctx, pace) != nil {
			return
		}
	}
}

// passes reports whether the answer is that of a primary which takes writes, as it says itself. The status alone does not
// say that: Patroni's is 200 from the lock on, before PostgreSQL is promoted, until it has stopped (api.py:322 of 4.1.4).
func passes(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var d struct{ Role, State string }
	return json.NewDecoder(resp.Body).Decode(&d) == nil && resp.StatusCode == http.StatusOK &&
		d.State == "running" && (d.Role == "primary" || d.Role == "master")
}

// became is when the answer became what it is, zero while it is not that.
func (a *asker) became(passing bool) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.passing != passing {
		return time.Time{}
	}
	return a.since
}

// delay is how much later than Patroni's own answer patroniglue's changed; below 0 it was earlier.
type delay struct{ in, out time.Duration }

// measureAnswers lets v see one event while all that happens is that both are asked who is the primary.
func (b *bench) measureAnswers(ctx context.Context, v variant) (delay, error) {
	if err := b.healthy(ctx); err != nil {
		return delay{}, err
	}
	p, err := b.start(ctx, v)
	defer p.stop()
	if err != nil {
		return delay{}, err
	}
	old, err := b.lab.Primary(ctx)
	if err != nil {
		return delay{}, err
	}

	asking, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	patroni, ours := make(map[string]*asker), make(map[string]*asker)
	for _, n := range b.lab.Nodes {
		if b.event == switchover && n.Name != old.Name && n.Name != b.after(old).Name {
			continue // nothing happens to it
		}
		patroni[n.Name] = &asker{url: n.URL + "/primary"}
		ours[n.Name] = &asker{url: "http://" + b.lab.HTTP + "/node/" + n.Name + "/primary"}
		wg.Go(func() { patroni[n.Name].ask(asking) })
		wg.Go(func() { ours[n.Name].ask(asking) })
	}
	if err := wait(ctx, over, "the primary to pass", func() error {
		if patroni[old.Name].became(true).IsZero() || ours[old.Name].became(true).IsZero() {
			return errors.New("want 200 of both")
		}
		return nil
	}); err != nil {
		return delay{}, err
	}
	// Until polls are as seldom as when nothing happens, and at no particular moment between two of them.
	if err := sleep(ctx, 2*time.Second+rand.N(time.Second)); err != nil {
		return delay{}, err
	}
	next, err := b.happen(ctx, v, p, old)
	if err != nil {
		return delay{}, err
	}
	var d delay
	if err := wait(ctx, over, "the answers to change", func() (err error) {
		d, err = delays(patroni, ours, old, next)
		return err
	}); err != nil {
		return delay{}, err
	}
	stop()
	if b.event == loseNode {
		return d, b.lab.StartNode(ctx, old.Name)
	}
	return d, nil
}

func delays(patroni, ours map[string]*asker, old, next lab.Node) (delay, error) {
	in, ourIn := patroni[next.Name].became(true), ours[next.Name].became(true)
	out, ourOut := patroni[old.Name].became(false), ours[old.Name].became(false)
	if in.IsZero() || ourIn.IsZero() || out.IsZero() || ourOut.IsZero() {
		return delay{}, fmt.Errorf("want that %s passes and %s does not, here and there", next.Name, old.Name)
	}
	return delay{in: ourIn.Sub(in), out: ourOut.Sub(out)}, nil
}

// answersTable is the table of the variants that were asked only.
func answersTable(results []result) [][]string {
	rows := [][]string{{"from Patroni's own answer to patroniglue's", "events", "new primary passes: median", "max", "old primary passes no more: median", "max"}}
	for _, r := range results {
		if len(r.delays) == 0 {
			continue
		}
		var in, out []time.Duration
		for _, d := range r.delays {
			in, out = append(in, d.in), append(out, d.out)
		}
		ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + " ms" }
		rows = append(rows, []string{r.variant.name + ": " + r.variant.what, strconv.Itoa(len(in)),
			ms(median(in)), ms(slices.Max(in)), ms(median(out)), ms(slices.Max(out))})
	}
	return rows
}
