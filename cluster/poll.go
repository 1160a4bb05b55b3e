package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"patroniglue/node"
)

// The times of polling.
const (
	settleFor   = time.Second      // how long a cluster must be settled before polling slows down
	unsettleFor = 60 * time.Second // how long a cluster is polled fast at a stretch
	backoffMax  = 8                // the most intervals between polls of a node that times out
	namedEvery  = 5 * time.Second  // how often the backoff of a node ends at most because something names the node
	settingsFor = 5 * time.Minute  // between two reads of Patroni's settings

	settingsRetry = 30 * time.Second // after a read that failed
)

// watch polls one node until ctx ends, with at most one request under way.
func (g *group) watch(ctx context.Context, n *tracked, spread time.Duration) error {
	client := g.client(n)
	h := fnv.New64a()
	h.Write([]byte(g.name + "/" + n.name))
	first := time.Duration(h.Sum64() % uint64(max(1, spread))) // the low bits of the hash, because the high ones differ little
	timer := time.NewTimer(first)
	defer timer.Stop()
	n.setPromise("waiting for its turn", first)
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
			wait := max(0, time.Until(due)) // a node whose client was replaced has no last poll
			timer.Reset(wait)
			n.setPromise("waiting for its turn", wait)
		}
	}
}

// turn polls n once, on a goroutine of its own: a poll needs several times the stack
// of the loop that waits for the next poll.
func (g *group) turn(ctx context.Context, n *tracked, client Poller) {
	var turn sync.WaitGroup
	turn.Go(func() {
		n.setPromise("a poll", client.Timeout())
		g.poll(ctx, n, client)
		if ctx.Err() != nil {
			return
		}
		n.setPromise("reading its settings", client.Timeout())
		g.readSettings(ctx, n, client)
	})
	turn.Wait()
}

// client returns the Poller of a node. A loop keeps its own: when Apply replaces the
// Poller, another loop polls with the new one.
func (g *group) client(n *tracked) Poller {
	g.mu.Lock()
	defer g.mu.Unlock()
	return n.cfg.Client
}

func (g *group) poll(ctx context.Context, n *tracked, client Poller) {
	began := time.Now()
	g.pollBegins(n, began)
	r, err := client.Poll(ctx)
	if ctx.Err() != nil {
		return // the node was removed, or its client was replaced: that is no failure of the node
	}
	g.awake()
	g.merge(n, began, r, err)
}

// due returns when n is to be polled next. ok is false before its first poll, whose
// time watch has set.
func (g *group) due(n *tracked) (at time.Time, ok bool) {
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
		at := n.ended.Add(jitter(n.cfg.Interval * time.Duration(min(1<<min(n.timeouts-1, 10), backoffMax))))
		if named := later(n.ended.Add(n.cfg.FastInterval/2), n.hurried.Add(namedEvery)); n.named && named.Before(at) {
			at = named // it may have come back as the new primary
		}
		return at, true
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
// something changed just now; an unsettled state that lasts is in d and the view.
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
		// Where only one node is watched, the primary may be an unwatched node. A node
		// that was not polled yet may be it, too, and is polled soon; at the start of a
		// large fleet, polling all others fast would delay its first poll.
		return !g.alone && v.polled()
	}
	n := g.byName[d.winner]
	return leader.Entry.Failures > 0 || n.blips > 0 || n.overdue(now) || !leader.Verdict(leaderCheck, now).Passes()
}

func (g *group) wakeAll() {
	for _, n := range g.nodes {
		n.wakeUp()
	}
}

func (n *tracked) wakeUp() {
	select {
	case n.wake <- struct{}{}:
	default: // the loop is woken already
	}
}

// refresh polls the whole cluster now, and ends the backoff of the node that is named.
// Many calls have the effect of one: no node is polled more often than every
// FastInterval, nor one that hangs because it was named more often than every
// namedEvery.
func (g *group) refresh(names func(*tracked) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.nodes {
		if (n.timeouts > 0 || !n.inflight.IsZero()) && names(n) {
			n.named = true
			n.wakeUp()
		}
	}
	g.hurryLocked(time.Now())
}

func (g *group) hurryLocked(now time.Time) {
	was := g.fast(now)
	g.unsettle(now, true)
	if !was {
		g.wakeAll()
	}
}

// readSettings reads ttl and loop_wait from n when that is due. It runs right after
// a poll of n, so that there is still one request at a time. It does not ask the
// leader: while a read hangs, the leader is not polled, and its stop is noticed
// late.
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
	switch f, ok := errors.AsType[*node.Failure](err); {
	case err == nil:
		g.settings, g.unread = s, ""
	case ok && f.Kind == node.KindDocument:
		g.settingsAt = now.Add(settingsRetry)
		g.unread = fmt.Sprintf("cache ttl %s cannot be compared with Patroni's: /config of %s: %v", g.ttl, n.name, err)
	default:
		g.settingsAt = now.Add(settingsRetry) // the next node may answer
		return
	}
	old := g.view.Load()
	v := *old
	v.At, v.Settings, v.Unsafe, v.Unread = time.Now(), g.settings, g.unsafe(), g.unread
	v.carryOver(old)
	g.view.Store(&v)
	g.subs.publish(diff(old, &v))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
