package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"patroniglue/discovery"
	"patroniglue/internal/config"
	"patroniglue/internal/metrics"
)

// discovered has what discovery found, and installs it. All but watcher and problems is
// owned by the goroutine of runReloads, so that a reload and a refresh never race.
type discovered struct {
	d        *Daemon
	watcher  *discovery.Watcher
	problems atomic.Pointer[[]string] // in a fixed order; without those of members that are not polled, because their verdicts have them
	current  edition                  // that is installed
	logged   problemLog
	silent   bool            // etcd does not answer, which was logged
	file     *discovery.File // where the members are saved; nil = not used yet
	unsaved  bool            // the file may differ from the current edition
	failing  bool            // saving fails, which was logged
}

// edition is a book with what it was made from.
type edition struct {
	discovery.Book
	snapshot *discovery.Snapshot // nil = none yet: the book is empty, or from the file
	status   discovery.Status
}

// found is what discovery found.
type found struct {
	members []discovery.Member // to poll besides the configured nodes
	pending string             // why there may be others; "" = there are none
}

func newDiscovered(d *Daemon) *discovered {
	return &discovered{d: d, logged: problemLog{log: d.log}, watcher: discovery.NewWatcher(func(scope, leader string) {
		_ = d.sup.RefreshLeader(scope, leader) // an error: this scope is not polled yet
	})}
}

// editionFor makes an edition for another configuration: of what was listed last, with
// the new rules.
func (f *discovered) editionFor(cfg *config.Config, now time.Time) edition {
	if !cfg.Discovery.On() {
		return edition{}
	}
	e := edition{f.current.Book, f.watcher.Snapshot(), f.watcher.Status()}
	if e.snapshot != nil {
		e.Read(e.snapshot, rulesOf(&cfg.Discovery), now)
	} else {
		e.Resolve(rulesOf(&cfg.Discovery)) // members from the file
	}
	return e
}

// found is what the edition has for a plan.
func (e *edition) found(cfg *config.Config) found {
	f := found{members: e.Members}
	if e.snapshot == nil && len(e.Members) == 0 {
		f.pending = pendingText(cfg, e.status)
	}
	return f
}

// restore installs the members in the file.
func (f *discovered) restore() {
	before := f.d.plan.Load()
	path := before.cfg.Discovery.File
	if path == "" {
		return
	}
	f.file = discovery.NewFile(path)
	book, err := f.file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	e := edition{Book: book}
	var p *plan
	if err == nil {
		e.Resolve(rulesOf(&before.cfg.Discovery))
		p, err = before.withMembers(e.found(before.cfg), f.d.metrics)
	}
	if err != nil {
		f.d.log.Error().Err(err).Str("file", path).Msg("discovery: cannot read the saved members")
		return
	}
	f.install(e)
	f.d.installMembers(p)
	f.d.log.Info().Str("file", path).Int("members", len(e.Members)).Msg("discovery: polling the saved members")
}

// saveFile saves the members to the file, unless it has them. A failure is logged when
// it begins, and saving is tried again at the next refresh.
func (f *discovered) saveFile() {
	path := f.d.plan.Load().cfg.Discovery.File
	if path == "" || f.current.snapshot == nil {
		return
	}
	if f.file == nil || f.file.Path() != path {
		f.file, f.unsaved = discovery.NewFile(path), true
	}
	if !f.unsaved {
		return
	}
	err := f.file.Save(&f.current.Book)
	if err != nil && !f.failing {
		f.d.log.Error().Err(err).Str("file", path).Msg("discovery: cannot save the members")
	}
	f.unsaved, f.failing = err != nil, err != nil
}

// install makes e the current edition, and logs its problems.
func (f *discovered) install(e edition) {
	f.current, f.unsaved = e, true
	var problems, unpolled []string
	if e.snapshot != nil {
		problems = slices.Clone(e.snapshot.Problems)
	}
	for i := range e.Members {
		m := &e.Members[i]
		text := fmt.Sprintf("%s/%s: %s", m.Scope, m.Name, m.Problem)
		switch {
		case m.Problem == "":
		case m.API == nil:
			unpolled = append(unpolled, text) // its verdict has the problem
		default:
			problems = append(problems, text)
		}
	}
	f.problems.Store(&problems)
	f.logged.update(slices.Concat(unpolled, problems))
}

// refresh installs what has changed: because etcd lists something else, or because time
// went by.
func (f *discovered) refresh(now time.Time) {
	before := f.d.plan.Load()
	if !before.cfg.Discovery.On() {
		return
	}
	e, changed := f.nextEdition(before.cfg, now)
	f.logStatus(e.status, now)
	found := e.found(before.cfg)
	if !changed && found.pending == before.clusters.Pending {
		return
	}
	changes := discovery.Changes(f.current.Members, e.Members)
	f.install(e)
	p, err := before.withMembers(found, f.d.metrics)
	if err != nil { // the configuration was valid before
		f.d.log.Error().Err(err).Msg("discovery: cannot use the members that etcd lists")
		return
	}
	if len(changes) == 0 && found.pending == before.clusters.Pending {
		return
	}
	f.d.installMembers(p)
	if len(changes) > 0 {
		f.d.log.Info().Int("members", len(e.Members)).Strs("changed", changes).Msg("discovery: members changed")
	}
}

// nextEdition is the current edition with the latest snapshot and without members whose
// time is over, and whether it differs.
func (f *discovered) nextEdition(cfg *config.Config, now time.Time) (e edition, changed bool) {
	e = edition{f.current.Book, f.current.snapshot, f.watcher.Status()}
	if s := f.watcher.Snapshot(); s != nil && s != e.snapshot {
		e.snapshot, changed = s, true
		e.Read(s, rulesOf(&cfg.Discovery), now)
	}
	forgotten := e.Forget(now, f.answered)
	return e, changed || len(forgotten) > 0
}

// installMembers installs a plan that differs from the present one by its members. With
// them the limits of connections change, where the number of files is short.
func (d *Daemon) installMembers(p *plan) {
	before := d.plan.Load()
	d.install(p)
	if p.http.MaxConns == before.http.MaxConns && p.agents.MaxConns == before.agents.MaxConns {
		return
	}
	d.http.Apply(p.http)
	d.agents.Apply(p.agents)
	d.logNotes(slices.DeleteFunc(slices.Clone(p.notes), func(note string) bool { return slices.Contains(before.notes, note) }))
}

// answered is when a node last answered as the member that it has to be; zero = never.
func (f *discovered) answered(scope, name string) time.Time {
	v, err := f.d.sup.View(scope)
	if err != nil {
		return time.Time{}
	}
	if m := v.Member(name); m != nil && m.Entry.Known && m.Refused == "" {
		return m.Entry.Began
	}
	return time.Time{}
}

// state is discovery's state as metrics show it; nil while it is off.
func (f *discovered) state() *metrics.DiscoveryState {
	p := f.d.plan.Load()
	if p.source == nil {
		return nil
	}
	s := &metrics.DiscoveryState{Status: f.watcher.Status()}
	for i := range p.members {
		if p.members[i].Unlisted.IsZero() {
			s.Listed++
		} else {
			s.Unlisted++
		}
	}
	if problems := f.problems.Load(); problems != nil {
		s.Problems = len(*problems)
	}
	return s
}

// pendingText is why members may not be known yet; "" = discovery is off.
func pendingText(cfg *config.Config, s discovery.Status) string {
	switch {
	case !cfg.Discovery.On():
		return ""
	case s.Err != nil:
		return "discovery: no answer from etcd yet: " + s.Err.Error()
	}
	return "discovery: no answer from etcd yet"
}
