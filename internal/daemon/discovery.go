package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"

	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/internal/config"
	"patroniglue/internal/metrics"
)

// discovered is what the DCS says of members, and what became of that. All but
// watcher and problems belongs to watchConfig's goroutine, so that a reload and a
// discovery never race.
type discovered struct {
	d        *Daemon
	watcher  *discovery.Watcher
	problems atomic.Pointer[[]string] // that are of no node, in a fixed order
	book     discovery.Book
	seen     *discovery.Snapshot // that the book has
	told     map[string]bool     // problems that were logged, and are still there
	silent   bool                // was logged
	unkept   bool                // the book may differ from the file
	kept     keptFile
}

// found is who is to be watched besides the configured nodes.
type found struct {
	members []discovery.Member
	pending string // why there may be others; "" = there are not
}

func newDiscovered(d *Daemon) *discovered {
	return &discovered{d: d, watcher: discovery.NewWatcher(func(scope, leader string) {
		_ = d.sup.RefreshLeader(scope, leader) // an error is a scope that is not watched, yet
	})}
}

// edition is a book with what it was made of.
type edition struct {
	discovery.Book
	seen   *discovery.Snapshot
	status discovery.Status
}

// reread gives the book as cfg has it: with what was listed last, by its rules.
func (f *discovered) reread(cfg *config.Config, now time.Time) edition {
	e := edition{f.book, f.watcher.Snapshot(), f.watcher.Status()}
	if !cfg.Discovery.On() {
		return edition{}
	}
	if e.seen != nil {
		e.Read(e.seen, rulesOf(&cfg.Discovery), now)
	} else {
		e.Resolve(rulesOf(&cfg.Discovery)) // those from the file
	}
	return e
}

// restore reads the members that were known when the file was written, so that a
// start while etcd is out of reach has some. Like etcd it only says whom to ask.
func (f *discovered) restore() {
	before := f.d.plan.Load()
	name := before.cfg.Discovery.File
	if name == "" {
		return
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var e edition
	if err == nil {
		err = e.UnmarshalJSON(text)
	}
	var p *plan
	if err == nil {
		e.Resolve(rulesOf(&before.cfg.Discovery))
		p, err = before.with(e.found(before.cfg), f.d.metrics)
	}
	if err != nil {
		f.d.log.Error().Err(err).Str("file", name).Msg("discovery: the members that were known are not read")
		return
	}
	f.kept = keptFile{name, text, nil}
	f.use(e)
	f.d.watch(p)
	f.d.log.Info().Str("file", name).Int("members", len(e.Members)).Msg("discovery: the members that were known are watched")
}

// keep writes the members that are known to the file, if they are others. What
// cannot be written is tried again at the next look.
func (f *discovered) keep() {
	name := f.d.plan.Load().cfg.Discovery.File
	if name == "" || f.seen == nil || !f.unkept && name == f.kept.name {
		return
	}
	text, err := f.book.MarshalJSON()
	if err == nil && (name != f.kept.name || !bytes.Equal(text, f.kept.text)) {
		err = renameio.WriteFile(name, text, 0o644, renameio.IgnoreUmask())
	}
	if err != nil {
		if f.kept.err == nil {
			f.d.log.Error().Err(err).Str("file", name).Msg("discovery: the members that are known are not kept")
		}
		f.kept.err = err
		return
	}
	f.unkept, f.kept = false, keptFile{name, text, nil}
}

// keptFile is what stands in the file, as far as is known.
type keptFile struct {
	name string
	text []byte
	err  error // of the last try to write it
}

func (e *edition) found(cfg *config.Config) found {
	f := found{members: e.Members}
	if e.seen == nil && len(e.Members) == 0 {
		f.pending = pendingText(cfg, e.status)
	}
	return f
}

// use makes e the book.
func (f *discovered) use(e edition) {
	f.book, f.seen, f.unkept = e.Book, e.seen, true
	var problems []string
	if e.seen != nil {
		problems = slices.Clone(e.seen.Problems)
	}
	told := make(map[string]bool)
	for i := range e.Members {
		if m := &e.Members[i]; m.Problem != "" {
			text := fmt.Sprintf("%s/%s: %s", m.Scope, m.Name, m.Problem)
			if m.API != nil {
				problems = append(problems, text) // of others their verdict tells
			} else {
				f.tell(text, told)
			}
		}
	}
	for _, text := range problems {
		f.tell(text, told)
	}
	for _, text := range slices.Sorted(maps.Keys(f.told)) {
		if !told[text] {
			f.d.log.Info().Str("problem", text).Msg("discovery: no problem any more")
		}
	}
	f.told = told
	f.problems.Store(&problems)
}

// maxTold bounds how many problems are logged one by one.
const maxTold = 1000

func (f *discovered) tell(text string, told map[string]bool) {
	if len(told) >= maxTold {
		return
	}
	told[text] = true
	if !f.told[text] {
		f.d.log.Warn().Str("problem", text).Msg("discovery: something that the DCS lists cannot be used")
	}
}

// look takes in what is new: from the DCS, or because time went by.
func (f *discovered) look(now time.Time) {
	before := f.d.plan.Load()
	if !before.cfg.Discovery.On() {
		return
	}
	status := f.watcher.Status()
	f.logStatus(status, now)
	e := edition{f.book, f.seen, status}
	if s := f.watcher.Snapshot(); s != nil && s != f.seen {
		e.seen = s
		e.Read(s, rulesOf(&before.cfg.Discovery), now)
	}
	forgotten := e.Forget(now, f.answered)
	next := e.found(before.cfg)
	if e.seen == f.seen && len(forgotten) == 0 && next.pending == before.clusters.Pending {
		return
	}
	was := f.book.Members
	f.use(e)
	p, err := before.with(next, f.d.metrics)
	if err != nil { // of the configuration, which was valid
		f.d.log.Error().Err(err).Msg("discovery: what was found is not used")
		return
	}
	if changed := discovery.Changes(was, e.Members); len(changed) > 0 {
		f.d.watch(p)
		f.d.log.Info().Int("members", len(e.Members)).Strs("changed", changed).Msg("discovery: other members are watched")
	} else if next.pending != before.clusters.Pending {
		f.d.watch(p)
	}
	if p.http.MaxConns != before.http.MaxConns || p.agents.MaxConns != before.agents.MaxConns {
		f.d.http.Apply(p.http)
		f.d.agents.Apply(p.agents)
		for _, note := range p.notes {
			if !slices.Contains(before.notes, note) {
				f.d.log.Warn().Str("file", f.d.path).Msg(note)
			}
		}
	}
}

// answered tells when a node last answered as the member that it is to be.
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

// logStatus says once that etcd is not heard, and once that it is again.
func (f *discovered) logStatus(s discovery.Status, now time.Time) {
	switch since, silent := silence(&s, now); {
	case silent && !f.silent:
		f.silent = true
		f.d.log.Error().Err(s.Err).Time("since", since).Msg("discovery: etcd is not heard, members stay as known")
	case s.Live && f.silent:
		f.silent = false
		f.d.log.Info().Msg("discovery: etcd is heard")
	}
}

// silence says since when etcd is not heard. Before its first answer an error
// suffices: nobody has to wait for more of them.
func silence(s *discovery.Status, now time.Time) (since time.Time, silent bool) {
	since, silent = s.Stale(now)
	return since, silent || !s.Live && s.Heard.IsZero() && s.Err != nil
}

// reasons are what of discovery is wrong at now.
func (f *discovered) reasons(now time.Time) (reasons []cluster.Reason) {
	if !f.d.plan.Load().cfg.Discovery.On() {
		return nil
	}
	level := cluster.Warning
	add := func(code, text string) {
		reasons = append(reasons, cluster.Reason{Code: code, Level: level, Text: text})
	}
	if len(f.d.sup.Views()) == 0 {
		level = cluster.Critical // nobody is answered for
	}
	s := f.watcher.Status()
	since, silent := silence(&s, now)
	switch pending := f.d.sup.Pending(); {
	case pending != "":
		add(cluster.CodeDiscoveryStale, pending)
	case silent:
		text := "discovery: etcd is not heard since " + since.UTC().Format("2006-01-02 15:04:05 UTC") + ", members stay as known"
		if s.Err != nil {
			text += ": " + s.Err.Error()
		}
		add(cluster.CodeDiscoveryStale, text)
	}
	if problems := f.problems.Load(); problems != nil {
		const most = 10
		for _, text := range (*problems)[:min(len(*problems), most)] {
			add(cluster.CodeDiscoveryProblem, "discovery: "+text)
		}
		if more := len(*problems) - most; more > 0 {
			add(cluster.CodeDiscoveryProblem, fmt.Sprintf("discovery: %d more problems, which the log tells", more))
		}
	}
	return reasons
}

// state is that of it which metrics show, nil while nothing is discovered.
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

// pendingText says why members may not be known yet.
func pendingText(cfg *config.Config, s discovery.Status) string {
	switch {
	case !cfg.Discovery.On():
		return ""
	case s.Err != nil:
		return "discovery: no answer from etcd yet: " + s.Err.Error()
	}
	return "discovery: no answer from etcd yet"
}
