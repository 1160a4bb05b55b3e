//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sample is one measurement of a variant in one mode.
type sample struct {
	perSecond float64 // checks answered
	p50, p99  time.Duration
	cost      time.Duration // processor time of the server per check; 0 = none was answered
	reached   float64       // requests that reached Patroni per second
	errors    int
}

// pair is a sample while Patroni works and one while it is frozen.
type pair struct{ works, frozen sample }

// measure measures a variant in its modes, and notes what it found.
func (b *bench) measure(ctx context.Context, v variant, note func(keep bool, p pair)) error {
	s, err := b.start(ctx, v)
	defer s.stop()
	if err != nil {
		return err
	}
	for _, keep := range []bool{false, true} {
		if keep && v.once {
			continue
		}
		l, err := b.load(v, keep)
		if err != nil {
			return err
		}
		warm := l
		warm.duration = l.duration / 5
		if _, err := warm.run(ctx); err != nil {
			return err
		}
		var p pair
		if p.works, err = s.sample(ctx, l); err != nil {
			return err
		}
		if p.frozen, err = b.frozen(ctx, s, l); err != nil {
			return err
		}
		fmt.Fprintf(b.log, "  %-10s %s, p99 %s; frozen: %s, p99 %s, %d errors\n", modes[keep],
			short(p.works.cost), short(p.works.p99), short(p.frozen.cost), short(p.frozen.p99), p.frozen.errors)
		note(keep, p)
	}
	return nil
}

// frozen is a sample while the node's Patroni is stopped. It returns when that one answers again.
func (b *bench) frozen(ctx context.Context, s server, l load) (_ sample, err error) {
	if err := b.lab.Freeze(ctx, b.node.Name, 0); err != nil {
		return sample{}, err
	}
	defer func() {
		thaw, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		err = errors.Join(err, b.lab.Thaw(thaw, b.node.Name))
		for err == nil {
			if _, err := b.askPatroni(thaw); err == nil {
				return
			}
			select {
			case <-thaw.Done():
				err = fmt.Errorf("thawing %s: it is no primary after 15 s", b.node.Name)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return s.sample(ctx, l)
}

// sample runs a load.
func (s server) sample(ctx context.Context, l load) (sample, error) {
	reached := s.reached()
	before, err := processorTime(s.pids...)
	if err != nil {
		return sample{}, err
	}
	o, err := l.run(ctx)
	if err != nil {
		return sample{}, err
	}
	after, err := processorTime(s.pids...)
	if err != nil {
		return sample{}, err
	}
	m := sample{perSecond: float64(o.inTime) / l.duration.Seconds(), errors: o.errors}
	if slices.Sort(o.latencies); len(o.latencies) > 0 {
		m.p50, m.p99 = quantile(o.latencies, 0.5), quantile(o.latencies, 0.99)
	}
	if o.answers > 0 {
		m.cost = (after - before) / time.Duration(o.answers)
	}
	if m.reached = m.perSecond; s.relay != nil {
		m.reached = float64(s.reached()-reached) / l.duration.Seconds()
	}
	return m, nil
}

func (s server) reached() int64 {
	if s.relay == nil {
		return 0
	}
	return s.relay.count.Load()
}

// quantile is that of sorted values, and one that occurred.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
