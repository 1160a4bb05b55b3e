package daemon

import (
	"context"
	"time"

	"patroniglue/internal/config"
)

// refreshEvery is how often the files that the configuration names are read again.
const refreshEvery = 2 * time.Second

// runReloads reloads the configuration at each SIGHUP, and the files that it names when
// they change, and takes in what discovery reads, until ctx ends. All of this changes
// the plan and the ports, so one goroutine does it.
func (d *Daemon) runReloads(ctx context.Context) {
	refreshes := time.NewTicker(refreshEvery)
	defer refreshes.Stop()
	var files changedFiles
	for {
		select {
		case <-d.hangups:
			d.reload(ctx)
		case <-refreshes.C:
			d.reloadFiles(ctx, &files)
			d.discovered.refresh(time.Now())
			d.discovered.saveFile()
		case <-d.discovered.watcher.News():
			d.discovered.refresh(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the configuration again and applies it: all of it or, after an error,
// nothing.
func (d *Daemon) reload(ctx context.Context) {
	if d.path == "" {
		d.log.Warn().Msg("there is no configuration file to reload")
		return
	}
	defer d.notifyReloading()()
	d.history.Reopen()
	cfg, err := config.Load(d.path)
	if err == nil {
		err = d.apply(ctx, cfg)
	}
	d.reloads.record(err)
	if err != nil {
		d.log.Error().Err(err).Msg("reload failed, keeping the old configuration")
		return
	}
	d.sup.Acknowledge()
}

// reloadFiles applies changed files with the configuration as it was read last.
func (d *Daemon) reloadFiles(ctx context.Context, files *changedFiles) {
	cfg := d.plan.Load().cfg
	read, state := files.refresh(cfg.Files)
	switch state {
	case filesUnchanged:
		d.reloads.resolveFiles()
		return
	case filesUnsettled:
		return
	}
	changed, err := config.Parse(d.path, cfg.Text, read)
	if err == nil {
		err = d.apply(ctx, changed)
	}
	d.reloads.recordFiles(err)
	if err != nil {
		d.log.Error().Err(err).Msg("reload of changed files failed, keeping the old ones")
	}
}

// apply installs a valid configuration. What it does not change goes on untouched; new
// ports are opened before old ones are closed. After an error nothing has changed.
func (d *Daemon) apply(ctx context.Context, cfg *config.Config) error {
	before := d.plan.Load()
	e := d.discovered.editionFor(cfg, time.Now())
	p, err := newPlan(cfg, e.found(cfg), before, d.metrics)
	if err != nil {
		return &config.Error{Path: d.path, Err: err}
	}
	wanted := cfg.ListenAddresses()
	ports, err := d.ports.prepare(ctx, wanted)
	if err != nil {
		return err
	}
	// From here on nothing can fail.
	d.discovered.install(e)
	d.install(p)
	d.discovered.watcher.Apply(p.source)
	d.http.Apply(p.http)
	d.agents.Apply(p.agents)
	begun, leaving := d.ports.commit(ports, wanted)
	for _, o := range begun {
		d.serve(ctx, o)
	}
	for _, o := range leaving {
		o.stop()
		o.Close() // at once: the next reload may want its address again
	}
	d.history.Configure(cfg.History.File, cfg.History.Size)
	d.logNotes(p.notes)
	d.log.Info().Strs("changed", cfg.ChangesSince(before.cfg)).Stringer("http", d.ports.addrs(config.FrontendHTTP)[0]).Msg("configuration reloaded")
	return nil
}
