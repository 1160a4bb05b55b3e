package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"patroniglue/cluster"
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
func (d *daemon) watchConfig(ctx context.Context, hangups <-chan os.Signal) {
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
func (d *daemon) reload(ctx context.Context) {
	if d.path == "" {
		d.log.Warn().Msg("there is no configuration to load anew")
		return
	}
	defer d.tellReloading()()
	d.history.rotated()
	cfg, err := readConfigAt(d.path)
	if err == nil {
		err = d.apply(ctx, cfg)
	}
	d.reloads.note(&d.reloads.config, err)
	if err != nil {
		d.log.Error().Err(err).Msg("the configuration is not loaded anew: all stays as it was")
		return
	}
	d.reloads.clear(&d.reloads.files) // they were read, too
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
func (r *reloads) state() reloadState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return reloadState{successful: r.config == nil && r.files == nil, at: r.at, succeeded: r.succeeded, failed: r.failed}
}

// apply makes a valid configuration that of the daemon. What it leaves as it was
// is not touched; of the rest, new ports are opened before old ones are closed.
func (d *daemon) apply(ctx context.Context, cfg *config) error {
	before := d.plan.Load()
	book := d.discovered.reread(cfg, time.Now())
	p, err := newPlan(cfg, book.found(cfg), before, d.metrics)
	if err != nil {
		return &configError{path: d.path, err: err}
	}
	wanted := cfg.listeners()
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
	d.history.configure(cfg.History.File, cfg.History.Size)
	for _, note := range p.notes {
		d.log.Warn().Str("file", d.path).Msg(note)
	}
	d.log.Info().Strs("changed", cfg.since(before.cfg)).Stringer("http", d.ports.addrs(frontend)[0]).Msg("the configuration is loaded anew")
	return nil
}

// watch makes the nodes of a plan those that are watched.
func (d *daemon) watch(p *plan) {
	d.plan.Store(p)
	d.sup.Apply(p.clusters)
	d.metrics.keep(p.clusters.Clusters)
}

// changedFiles looks at the files that the configuration names: certificates are
// renewed without anybody telling us. What is still being written is left alone,
// until it is the same at two looks.
type changedFiles struct {
	seen, tried map[string][]byte
}

// look loads files that have changed, with the configuration as it was read last.
func (w *changedFiles) look(ctx context.Context, d *daemon) {
	cfg := d.plan.Load().cfg
	now := make(map[string][]byte)
	for name, content := range cfg.Files {
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() { // a pipe would give nothing, and wait
			content, err = os.ReadFile(name)
		}
		if err == nil {
			now[name] = content
		}
	}
	same := func(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }
	switch {
	case same(now, cfg.Files):
		w.seen, w.tried = nil, nil
		d.reloads.clear(&d.reloads.files)
		return
	case w.seen == nil || !same(now, w.seen):
		w.seen = now
		return
	case w.tried != nil && same(now, w.tried):
		return
	}
	w.tried = now
	fresh, err := parseFile(d.path, cfg.Text, func(name string) ([]byte, error) {
		if content, ok := now[name]; ok {
			return content, nil
		}
		return os.ReadFile(name)
	})
	if err == nil {
		err = d.apply(ctx, fresh)
	} else {
		err = &configError{path: d.path, err: err}
	}
	d.reloads.note(&d.reloads.files, err)
	if err != nil {
		d.log.Error().Err(err).Msg("files that the configuration names have changed and cannot be used: all stays as it was")
	}
}

// since says in words where c differs from the configuration before.
func (c *config) since(before *config) []string {
	changed := []string{}
	section := func(name string, was, is any) {
		if !reflect.DeepEqual(was, is) {
			changed = append(changed, name)
		}
	}
	section("[frontend]", before.Frontend, c.Frontend)
	section("[operator]", before.Operator, c.Operator)
	section("[backend]", before.Backend, c.Backend)
	section("[cache]", before.Cache, c.Cache)
	section("[checks]", before.Checks, c.Checks)
	section("[agent]", before.Agent, c.Agent)
	section("[history]", before.History, c.History)
	section("[limits]", before.Limits, c.Limits)
	section("[discovery]", before.Discovery, c.Discovery)
	nodes := func(c *config) map[string]*nodeConfig {
		all := make(map[string]*nodeConfig)
		for i := range c.Nodes {
			all[c.Nodes[i].Cluster+"/"+c.Nodes[i].Name] = &c.Nodes[i]
		}
		return all
	}
	was, is := nodes(before), nodes(c)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] == nil {
			changed = append(changed, name+" added")
		} else {
			section(name, was[name], is[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] == nil {
			changed = append(changed, name+" removed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if content, ok := before.Files[name]; ok && !bytes.Equal(content, c.Files[name]) {
			changed = append(changed, name)
		}
	}
	return changed
}
