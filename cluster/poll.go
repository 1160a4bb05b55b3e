package cluster

import (
	"context"
	"hash/fnv"
	"sync"
	"time"
)

// Bounds of polling.
const (
	settleFor   = time.Second      // how long all must be quiet before polling slows down again
	unsettleFor = 60 * time.Second // how long it may be fast in one go
	backoffMax  = 8                // intervals between polls of a node that times out
	settingsFor = 5 * time.Minute  // how long Patroni's settings are taken as known

	settingsRetry = 30 * time.Second // after they could not be read
)

// watch polls one node until ctx ends. There is never more than one request to
// it under way.
func (g *group) watch(ctx context.Context, n *tracked, spread time.Duration) error {
	client := g.client(n)
	h := fnv.New64a()
	h.Write([]byte(g.name + "/" + n.name))
	first := time.Duration(h.Sum64() % uint64(max(1, spread))) // its low bits: the high ones differ little
	timer := time.NewTimer(first)
	defer timer.Stop()
	n.promises("waiting for its turn", first)
	defer n.promise.Store(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-timer.C:
			if g.turn(ctx, n, client); ctx.Err() != nil {
				return nil
			}
		}
		if due, ok := g.due(n); ok {
			wait := max(0, time.Until(due)) // a node that is asked in another way from now on has no last poll
			timer.Reset(wait)
			n.promises("waiting for its turn", wait)
		}
	}
}

// turn asks n once, on a goroutine of its own: the stack that a poll needs is
// several times what the loop needs that waits for the next one.
func (g *group) turn(ctx context.Context, n *tracked, client Poller) {
	var turn sync.WaitGroup
	turn.Go(func() {
		n.promises("a poll", client.Timeout())
		g.poll(ctx, n, client)
		if ctx.Err() != nil {
			return
		}
		n.promises("reading its settings", client.Timeout())
		g.readSettings(ctx, n, client)
	})
	turn.Wait()
}

// client is by whom the node is asked; another one is another loop's.
func (g *group) client(n *tracked) Poller {
	g.mu.Lock()
	defer g.mu.Unlock()
	return n.cfg.Client
}

func (g *group) poll(ctx context.Context, n *tracked, client Poller) {
	began := time.Now()
	g.begin(n, began)
	r, err := client.Poll(ctx)
	if ctx.Err() != nil {
		return // nobody watches it any more, or not through this client: that is no failure of the node's
	}
	g.awake()
	g.merge(n, began, r, err)
}

// due says when n is to be polled next; false before its first poll, which is
// spread in time.
func (g *group) due(n *tracked) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !n.polled {
		return time.Time{}, false
	}
	jitter := func(d time.Duration) time.Duration { return time.Duration(float64(d) * n.jitter) }
	now := time.Now()
	switch {
	case n.timeouts > 0:
		// Polls that hang occupy Patroni's few workers.
		return n.ended.Add(jitter(n.cfg.Interval * time.Duration(min(1<<min(n.timeouts-1, 10), backoffMax)))), true
	case g.fast(now):
		return later(n.began.Add(n.cfg.FastInterval), n.ended.Add(n.cfg.FastInterval/2)), true
	case n.name == g.leader:
		return later(n.began.Add(jitter(n.cfg.PrimaryInterval)), n.ended.Add(n.cfg.FastInterval/2)), true
	}
	return later(n.began.Add(jitter(n.cfg.Interval)), n.ended.Add(n.cfg.FastInterval/2)), true
}

func (g *group) fast(now time.Time) bool {
	return !g.episode.IsZero() && now.Sub(g.unsettled) < settleFor && now.Sub(g.episode) < unsettleFor
}

// pace decides after an election how fast the cluster is polled. event says that
// something happened just now; what goes on, the decision and the view tell.
func (g *group) pace(now time.Time, d decision, event bool) {
	was := g.fast(now)
	if event || g.isUnsettled(d, now) {
		g.unsettle(now, event)
	} else if now.Sub(g.unsettled) >= settleFor {
		g.episode = time.Time{}
	}
	if !was && g.fast(now) {
		g.wakeAll()
	}
}

func (g *group) unsettle(now time.Time, event bool) {
	spent := !g.episode.IsZero() && now.Sub(g.episode) >= unsettleFor+settleFor
	if g.episode.IsZero() || event && spent {
		g.episode = now
	}
	g.unsettled = now
}

func (g *group) isUnsettled(d decision, now time.Time) bool {
	if d.judging || d.split {
		return true
	}
	v := g.view.Load()
	leader := v.Member(d.winner)
	if leader == nil {
		// Where one node only is watched, its cluster's primary may be another. One
		// that was not polled yet may be it, and is polled soon: at the start of a
		// fleet to ask all others again meanwhile would keep it from its turn.
		return !g.alone && v.polled()
	}
	n := g.byName[d.winner]
	return leader.Entry.Failures > 0 || n.blips > 0 || n.overdue(now) || !leader.Verdict(leaderCheck, now).Passes()
}

func (g *group) wakeAll() {
	for _, n := range g.nodes {
		select {
		case n.wake <- struct{}{}:
		default: // it is already to look
		}
	}
}

// refresh makes the whole cluster be polled now. It carries no state, and many
// of them are as one: nodes are never polled faster than every FastInterval.
func (g *group) refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hurryLocked(time.Now())
}

func (g *group) hurryLocked(now time.Time) {
	was := g.fast(now)
	g.unsettle(now, true)
	if !was {
		g.wakeAll()
	}
}

// readSettings asks n for ttl and loop_wait when that is due, right after a poll
// of it, so that there is still one request at a time. The leader is spared: an
// answer that hangs would hide that it stops.
func (g *group) readSettings(ctx context.Context, n *tracked, client Poller) {
	g.mu.Lock()
	now := time.Now()
	ask := n.entry.Failures == 0 && n.entry.Fresh(now) && n.refused == "" && (g.alone || n.name != g.leader) && !now.Before(g.settingsAt) && !g.fast(now)
	if ask {
		g.settingsAt = now.Add(settingsFor)
	}
	g.mu.Unlock()
	if !ask {
		return
	}
	s, err := client.Settings(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if n.gone {
		return
	}
	if err != nil {
		g.settingsAt = now.Add(settingsRetry) // the answer only warns
		return
	}
	old := g.view.Load()
	v := *old
	g.settings = s
	v.At, v.Settings, v.Unsafe = time.Now(), s, g.unsafe()
	v.follow(old)
	g.view.Store(&v)
	g.subs.publish(diff(old, &v))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
