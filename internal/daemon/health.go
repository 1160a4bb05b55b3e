package daemon

import (
	"cmp"
	"context"
	"slices"
	"time"

	"patroniglue/cluster"
)

// reasons are what is wrong with the supervisor itself.
func (d *Daemon) reasons() []cluster.Reason {
	return slices.Concat(d.reloads.reasons(), d.discovered.reasons(time.Now()))
}

// logHealth says once what every cluster looks like when each node was polled:
// what was wrong before the start is no change, and would not be logged.
func (d *Daemon) logHealth() {
	now := time.Now()
	for _, v := range d.sup.Views() {
		h := v.Health(now)
		e := d.log.WithLevel(levelOfHealth(h.Level)).Str("cluster", v.Cluster).Str("leader", cmp.Or(v.Leader, "none")).Stringer("health", h.Level)
		if len(h.Reasons) > 0 {
			e = e.Str("reason", reasonsText(h.Reasons))
		}
		e.Msg("ready: every node was polled")
	}
}

// watchOwnHealth logs what begins to be wrong with the supervisor itself after
// before, and when it is over, until ctx ends.
func (d *Daemon) watchOwnHealth(ctx context.Context, before []cluster.Reason) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	for {
		select {
		case <-looks.C:
			before = d.logOwnHealth(before)
		case <-ctx.Done():
			return
		}
	}
}

// logOwnHealth logs what is new and what is gone since before, and gives what is so now.
func (d *Daemon) logOwnHealth(before []cluster.Reason) []cluster.Reason {
	now := d.http.OwnHealth(time.Now()).Reasons
	for _, r := range before {
		if !slices.Contains(now, r) {
			d.log.Info().Str("reason", r.Text).Msg("no longer wrong with the supervisor itself")
		}
	}
	for _, r := range now {
		if !slices.Contains(before, r) && r.Code != cluster.CodeReloadFailed { // which reload and look have logged
			d.log.WithLevel(levelOfHealth(r.Level)).Str("reason", r.Text).Msg("something is wrong with the supervisor itself")
		}
	}
	return now
}
