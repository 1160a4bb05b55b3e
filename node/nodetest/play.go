package nodetest

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Step is one step of Play: the time to wait after the step before, and what to do then.
type Step struct {
	After time.Duration
	Do    func()
}

// Play executes the steps in order. It returns early with the context's cause when ctx ends, or with an error that wraps
// net.ErrClosed when the cluster is closed.
func (c *Cluster) Play(ctx context.Context, steps ...Step) error {
	for _, s := range steps {
		timer := time.NewTimer(s.After)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-c.done:
			timer.Stop()
			return fmt.Errorf("playing on cluster %q: %w", c.scope, net.ErrClosed)
		}
		s.Do()
	}
	return nil
}

// SwitchoverPhases are how long each part of a graceful switchover takes.
type SwitchoverPhases struct {
	Stopping  time.Duration // the old leader shuts down: /primary is still 200
	Gap       time.Duration // it is demoted and the leader key gone: /primary is 503 everywhere
	Promoting time.Duration // the new leader has the lock, but its role is still replica: /primary and /replica are 200
	Down      time.Duration // the new leader is there, the old one stopped
	Starting  time.Duration // the old one starts as a replica
}

// MeasuredSwitchover was measured on a small, idle cluster (release 4.1.4, ttl 20, loop_wait 3).
var MeasuredSwitchover = SwitchoverPhases{
	Stopping:  2040 * time.Millisecond,
	Gap:       250 * time.Millisecond,
	Promoting: 130 * time.Millisecond,
	Down:      1800 * time.Millisecond,
	Starting:  420 * time.Millisecond,
}

// SwitchoverSlowly is a graceful switchover with its phases. It returns when the old leader streams from the new one.
func (c *Cluster) SwitchoverSlowly(ctx context.Context, to string, p SwitchoverPhases) error {
	c.Node(to)
	leader := c.Leader()
	if leader == nil || leader.name == to {
		c.Switchover(to)
		return nil
	}
	old := leader.name
	return c.Play(ctx,
		Step{0, func() {
			c.change(func(w *world) {
				s := w.members[old]
				s.State, s.SQL = "stopping", false
			})
		}},
		Step{p.Stopping, func() {
			c.change(func(w *world) {
				w.members[old].Role = "demoted"
				w.lock("")
				w.unstream()
			})
		}},
		Step{p.Gap, func() { c.change(func(w *world) { w.lock(to) }) }},
		Step{p.Promoting, func() {
			c.change(func(w *world) {
				w.promote(to)
				w.stream()
			})
		}},
		Step{p.Down, func() { c.change(func(w *world) { w.demote(old) }) }},
		Step{p.Starting, func() {
			c.change(func(w *world) {
				s := w.members[old]
				s.State, s.SQL, s.Started = "running", true, time.Now()
				w.stream()
			})
		}},
	)
}

// FailoverPhases are how long each part of a failover takes.
type FailoverPhases struct {
	TTL       time.Duration // the killed leader's key is still there: no member answers 200
	Gap       time.Duration // the key is gone, and no other member has it yet
	Promoting time.Duration // the new leader has the lock, but its role is still replica
}

// MeasuredFailover combines a ttl of 20 s with the measured promotion.
var MeasuredFailover = FailoverPhases{TTL: 20 * time.Second, Gap: 250 * time.Millisecond, Promoting: 130 * time.Millisecond}

// FailoverSlowly kills the leader and makes another member the leader when the key has expired. Revive starts the killed
// member again.
func (c *Cluster) FailoverSlowly(ctx context.Context, to string, p FailoverPhases) error {
	c.Node(to)
	leader := c.Leader()
	if leader == nil || leader.name == to {
		c.Promote(to)
		return nil
	}
	return c.Play(ctx,
		Step{0, func() { c.Kill(leader.name) }},
		Step{p.TTL, c.Expire},
		Step{p.Gap, func() { c.change(func(w *world) { w.lock(to) }) }},
		Step{p.Promoting, func() {
			c.change(func(w *world) {
				w.promote(to)
				w.stream()
			})
		}},
	)
}

// CrashPhases are how long each state lasts after a leader's Postgres was killed.
type CrashPhases struct{ Unknown, Crashed, Starting time.Duration }

// MeasuredCrash was measured after kill -9 of the postmaster.
var MeasuredCrash = CrashPhases{Unknown: 3 * time.Second, Crashed: 200 * time.Millisecond, Starting: 1400 * time.Millisecond}

// CrashSlowly makes a member's Postgres crash and Patroni start it again. A leader keeps the lock: its /primary is 200 all the
// time, and only the state in the document shows the crash.
func (c *Cluster) CrashSlowly(ctx context.Context, name string, p CrashPhases) error {
	state := func(state string, sql bool) func() {
		return func() {
			c.change(func(w *world) {
				s := w.members[name]
				s.State, s.SQL = state, sql
				if w.leader == name {
					w.unstream()
				}
				w.stream()
			})
		}
	}
	c.Node(name)
	return c.Play(ctx,
		Step{0, state("running", false)}, // until the next HA loop only the failing query shows it
		Step{p.Unknown, state("crashed", false)},
		Step{p.Crashed, state("starting", false)},
		Step{p.Starting, state("running", true)},
	)
}

// FailsafeBlip plays the return of the DCS to a cluster in failsafe mode: for a moment (0.14 s were measured) the leader is a
// running primary without the lock; then all is as before.
func (c *Cluster) FailsafeBlip(ctx context.Context, blip time.Duration) error {
	leader := c.Leader()
	if leader == nil {
		return fmt.Errorf("playing on cluster %q: no leader", c.scope)
	}
	return c.Play(ctx,
		Step{0, func() {
			c.change(func(w *world) {
				for _, s := range w.members {
					s.DCS, s.Unlocked, s.Failsafe = true, true, true
				}
				w.members[leader.name].Lock = false
			})
		}},
		Step{blip, c.RestoreDCS},
	)
}
