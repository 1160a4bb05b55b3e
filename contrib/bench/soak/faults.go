package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"patroniglue/node/nodetest"
)

// troubled is one cluster to which something always happens.
type troubled struct {
	*nodetest.Cluster
	name string
	truth
	happened *atomic.Uint64
}

// do changes something, and waits.
func (c *troubled) do(ctx context.Context, f func(), then time.Duration) bool {
	c.change(c.Cluster, f)
	c.happened.Add(1)
	select {
	case <-time.After(then):
		return true
	case <-ctx.Done():
		return false
	}
}

// misbehaviours of a REST API, each with PostgreSQL well behind it.
var misbehaviours = []nodetest.Fault{
	nodetest.Freeze, nodetest.Freeze, nodetest.Freeze, nodetest.Drip, nodetest.CloseEarly, nodetest.Empty, nodetest.Reset, nodetest.Garbage,
	nodetest.WrongShape, nodetest.Status500, nodetest.Redirect, nodetest.Refuse, nodetest.EndlessHeaders,
}

// trouble goes on until ctx ends: something happens, and then nothing for some
// seconds, so that there is something to be settled, too.
func (c *troubled) trouble(ctx context.Context, r *rand.Rand) {
	c.change(c.Cluster, func() {})
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(r.Int64N(int64(most-least)))
	}
	calm := func() time.Duration { return between(3*time.Second, 20*time.Second) }
	if !c.do(ctx, func() {}, calm()) {
		return
	}
	for ctx.Err() == nil {
		nodes := c.Nodes()
		r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		leader, next := c.Leader(), nodes[0]
		if leader == nil {
			leader = nodes[1]
		}
		if next == leader {
			next = nodes[1]
		}
		switch one := nodes[r.IntN(len(nodes))]; r.IntN(12) {
		case 0, 1: // a switchover: the old primary stops first
			_ = c.do(ctx, func() { leader.Set(func(s *nodetest.State) { s.State, s.SQL = "stopping", false }) }, between(0, 3*time.Second)) &&
				c.do(ctx, func() { c.Switchover(next.Name()) }, calm())
		case 2: // at once
			c.do(ctx, func() { c.Switchover(next.Name()) }, calm())
		case 3: // a promotion that takes its time
			_ = c.do(ctx, func() { c.BeginPromotion(next.Name()) }, between(0, 2*time.Second)) &&
				c.do(ctx, func() { c.Promote(next.Name()) }, calm())
		case 4: // a failover
			_ = c.do(ctx, func() { c.Kill(leader.Name()) }, between(time.Second, 8*time.Second)) &&
				c.do(ctx, func() { c.Promote(next.Name()) }, calm()) &&
				c.do(ctx, func() { c.Revive(leader.Name()) }, calm())
		case 5: // a member dies and comes back
			_ = c.do(ctx, func() { c.Kill(next.Name()) }, calm()) && c.do(ctx, func() { c.Revive(next.Name()) }, calm())
		case 6: // two primaries
			_ = c.do(ctx, func() { c.SplitBrain(false, leader.Name(), next.Name()) }, between(0, 6*time.Second)) &&
				c.do(ctx, func() { c.Promote(next.Name()) }, 0) && // the key says who
				c.do(ctx, func() { c.Switchover(leader.Name()) }, calm())
		case 7: // a frozen old primary, and a new one
			_ = c.do(ctx, func() { leader.Freeze() }, between(time.Second, 8*time.Second)) &&
				c.do(ctx, func() { c.Switchover(next.Name()) }, between(0, 8*time.Second)) &&
				c.do(ctx, func() { leader.Thaw() }, calm())
		case 8: // the DCS is gone, with failsafe mode
			_ = c.do(ctx, func() { c.LoseDCS(true) }, calm()) && c.do(ctx, c.RestoreDCS, calm())
		default:
			fault := misbehaviours[r.IntN(len(misbehaviours))]
			_ = c.do(ctx, func() { one.SetFault(fault) }, between(500*time.Millisecond, 10*time.Second)) && c.do(ctx, func() { one.Thaw() }, calm())
		}
	}
}
