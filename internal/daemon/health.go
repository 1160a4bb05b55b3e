package daemon

import (
	"cmp"
	"context"
	"slices"
	"time"

	"patroniglue/cluster"
)

// reasons are the problems of the supervisor itself.
func (d *Daemon) reasons() []cluster.Reason {
	return slices.Concat(d.reloads.reasons(), d.discovered.reasons(time.Now()))
}

// logHealth logs the health of every cluster once, when every node was polled, and then
// the problems of the supervisor itself as they come and go, until ctx ends.
func (d *Daemon) logHealth(ctx context.Context) {
	if d.sup.WaitReady(ctx) != nil {
		return
	}
	problems := d.logProblems(nil)
	d.logClusters()
	refreshes := time.NewTicker(refreshEvery)
	defer refreshes.Stop()
	for {
		select {
		case <-refreshes.C:
			problems = d.logProblems(problems)
		case <-ctx.Done():
			return
		}
	}
}

// logClusters logs the health of every cluster. A problem that was there before the start
// is no change, so nothing else would log it.
func (d *Daemon) logClusters() {
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

// logProblems logs which problems of the supervisor itself are new and which are gone
// since before, and returns those that there are now.
func (d *Daemon) logProblems(before []cluster.Reason) []cluster.Reason {
	now := d.http.OwnHealth(time.Now()).Reasons
	for _, r := range before {
		if !slices.Contains(now, r) {
			d.log.Info().Str("reason", r.Text).Msg("supervisor problem resolved")
		}
	}
	for _, r := range now {
		if !slices.Contains(before, r) && r.Code != cluster.CodeReloadFailed { // the reload has logged it
			d.log.WithLevel(levelOfHealth(r.Level)).Str("reason", r.Text).Msg("supervisor problem")
		}
	}
	return now
}
