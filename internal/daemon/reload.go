package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/config"
	"patroniglue/internal/metrics"
)

// lookEvery is how often the files that the configuration names are read again.
const lookEvery = 2 * time.Second

// reloads is what became of loading the configuration anew.
type reloads struct {
	mu                sync.Mutex // guards the rest
	succeeded, failed uint64
	at                time.Time // of the last success; at first of the start
	config            error     // why the latest SIGHUP changed nothing; nil = it did
	files             error     // why files that changed by themselves are not used
}

// watchConfig loads the configuration anew at each SIGHUP, and the files that it
// names when they change, until ctx ends.
func (d *Daemon) watchConfig(ctx context.Context, hangups <-chan os.Signal) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	var files changedFiles
	for {
		select {
		case <-hangups:
			d.reload(ctx)
		case <-looks.C:
			files.look(ctx, d)
			d.discovered.look(time.Now())
			d.discovered.keep()
		case <-d.discovered.watcher.News():
			d.discovered.look(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// reload loads the configuration anew: all of it or, with an error, nothing.
func (d *Daemon) reload(ctx context.Context) {
	if d.path == "" {
		d.log.Warn().Msg("there is no configuration to load anew")
		return
	}
	defer d.tellReloading()()
	d.history.Rotated()
	cfg, err := config.Load(d.path)
	if err == nil {
		err = d.apply(ctx, cfg)
	}
	d.reloads.note(&d.reloads.config, err)
	if err != nil {
		d.log.Error().Err(err).Msg("the configuration is not loaded anew: all stays as it was")
		return
	}
	d.reloads.clear(&d.reloads.files) // they were read, too
	d.sup.Acknowledge()
}

// note says of an attempt what became of it; of is the field that it is about.
func (r *reloads) note(of *error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*of = err
	if err != nil {
		r.failed++
		return
	}
	r.succeeded++
	r.at = time.Now()
}

func (r *reloads) clear(of *error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*of = nil
}

// reasons are what of it is wrong now.
func (r *reloads) reasons() []cluster.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []cluster.Reason
	add := func(what string, err error) {
		if err == nil {
			return
		}
		lines := strings.Split(err.Error(), "\n")
		const most = 10
		if more := len(lines) - most; more > 0 {
			lines = append(lines[:most], fmt.Sprintf("and %d more", more))
		}
		reasons = append(reasons, cluster.Reason{Code: cluster.CodeReloadFailed, Level: cluster.Warning, Text: what + ": " + strings.Join(lines, "; ")})
	}
	add("the configuration is not loaded anew, what was before goes on", r.config)
	add("files that the configuration names have changed and cannot be used", r.files)
	return reasons
}

// state is that of it which metrics show.
func (r *reloads) state() metrics.ReloadState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return metrics.ReloadState{Successful: r.config == nil && r.files == nil, At: r.at, Succeeded: r.succeeded, Failed: r.failed}
}

// apply makes a valid configuration that of the daemon. What it leaves as it was
// is not touched; of the rest, new ports are opened before old ones are closed.
func (d *Daemon) apply(ctx context.Context, cfg *config.Config) error {
	before := d.plan.Load()
	book := d.discovered.reread(cfg, time.Now())
	p, err := newPlan(cfg, book.found(cfg), before, d.metrics)
	if err != nil {
		return &config.Error{Path: d.path, Err: err}
	}
	wanted := cfg.Addresses()
	ports, err := d.ports.prepare(ctx, wanted)
	if err != nil {
		return err
	}
	// From here on nothing can go wrong.
	d.discovered.use(book)
	d.watch(p)
	d.discovered.watcher.Apply(p.source)
	d.http.Apply(p.http)
	d.agents.Apply(p.agents)
	begun, leaving := d.ports.commit(ports, wanted)
	for _, o := range begun {
		d.serve(o)
	}
	for _, o := range leaving {
		o.stop()
		o.Close() // now, not soon: the next reload may come back to its address
	}
	d.history.Configure(cfg.History.File, cfg.History.Size)
	for _, note := range p.notes {
		d.log.Warn().Str("file", d.path).Msg(note)
	}
	d.log.Info().Strs("changed", cfg.Since(before.cfg)).Stringer("http", d.ports.addrs(config.FrontendHTTP)[0]).Msg("the configuration is loaded anew")
	return nil
}

// watch makes the nodes of a plan those that are watched.
func (d *Daemon) watch(p *plan) {
	d.plan.Store(p)
	d.sup.Apply(p.clusters)
	d.metrics.Keep(p.clusters.Clusters)
}
