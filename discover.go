package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/node"
)

// discovered is what the DCS says of members, and what became of that. All but
// watcher and problems belongs to watchConfig's goroutine, so that a reload and a
// discovery never race.
type discovered struct {
	d        *daemon
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

func newDiscovered(d *daemon) *discovered {
	return &discovered{d: d, watcher: discovery.NewWatcher(func(scope string) {
		_ = d.sup.RefreshCluster(scope) // an error is a scope that is not watched, yet
	})}
}

// edition is a book with what it was made of.
type edition struct {
	discovery.Book
	seen   *discovery.Snapshot
	status discovery.Status
}

// reread gives the book as cfg has it: with what was listed last, by its rules.
func (f *discovered) reread(cfg *config, now time.Time) edition {
	e := edition{f.book, f.watcher.Snapshot(), f.watcher.Status()}
	if !cfg.Discovery.on() {
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
		err = replaceFile(name, text)
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

func (e *edition) found(cfg *config) found {
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
	if !before.cfg.Discovery.on() {
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
	if changed := since(was, e.Members); len(changed) > 0 {
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
	if !f.d.plan.Load().cfg.Discovery.on() {
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

// pendingText says why members may not be known yet.
func pendingText(cfg *config, s discovery.Status) string {
	switch {
	case !cfg.Discovery.on():
		return ""
	case s.Err != nil:
		return "discovery: no answer from etcd yet: " + s.Err.Error()
	}
	return "discovery: no answer from etcd yet"
}

func rulesOf(c *discoveryConfig) *discovery.Rules {
	r := &discovery.Rules{Scopes: c.Scopes, Allow: c.Allow, Rewrite: c.Rewrite}
	if c.APIPort != 0 {
		r.APIPort = strconv.Itoa(c.APIPort)
	}
	return r
}

// discoverySettings are as before where nothing differs that etcd is asked with.
func discoverySettings(cfg *config, before *plan) (*discovery.Settings, error) {
	d := &cfg.Discovery
	if !d.on() {
		return nil, nil
	}
	asks := func(c *config) discoveryConfig {
		d := c.Discovery
		d.Allow, d.APIPort, d.Rewrite, d.File = nil, 0, nil, ""
		return d
	}
	same := func(file string) bool { return string(before.cfg.Files[file]) == string(cfg.Files[file]) }
	if before.source != nil && reflect.DeepEqual(asks(before.cfg), asks(cfg)) && same(d.CAfile) && same(d.Certfile) && same(d.Keyfile) {
		return before.source, nil
	}
	s := &discovery.Settings{Endpoints: d.Etcd, Namespaces: d.Namespaces, Scopes: d.Scopes, Username: d.Username, Password: d.Password, TLS: &tls.Config{}}
	if d.CAfile != "" {
		pool, err := authorities(cfg.Files, d.CAfile)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		s.TLS.RootCAs = pool
	}
	if d.Certfile != "" {
		pair, err := tls.X509KeyPair(cfg.Files[d.Certfile], cfg.Files[d.Keyfile])
		if err != nil {
			return nil, fmt.Errorf("discovery: reading the client certificate: %w", err)
		}
		s.TLS.Certificates = []tls.Certificate{pair}
	}
	return s, nil
}

// static is what is configured, which wins over what is discovered.
type static struct {
	nodes     map[labels]bool
	addresses map[string]string // whose, by host:port
}

func staticOf(cfg *config) static {
	s := static{make(map[labels]bool), make(map[string]string)}
	for i := range cfg.Nodes {
		n := &cfg.Nodes[i]
		s.nodes[labels{n.Cluster, n.Name}] = true
		if n.URL.Path == "" { // else it is one of several behind another patroniglue
			s.addresses[strings.ToLower(n.URL.Host)] = n.Cluster + "/" + n.Name
		}
	}
	return s
}

// judge says why a member is not asked, "" when it is, or that it is configured.
func (s *static) judge(m *discovery.Member) (refused string, configured bool) {
	if s.nodes[labels{m.Scope, m.Name}] {
		return "", true
	}
	if m.API == nil {
		return cmp.Or(m.Problem, "its address was never known"), false
	}
	if of := s.addresses[strings.ToLower(m.API.Host)]; of != "" { // under two names one primary would be two
		return fmt.Sprintf("%s is not asked for it: it is that of %s, as configured", m.API.Host, of), false
	}
	return "", false
}

// discoverOnce adds to cfg's nodes those that the DCS lists now, for who makes
// something of them once. Who cannot be asked is left out, and that is said.
func discoverOnce(ctx context.Context, cfg *config, stderr io.Writer) error {
	settings, err := discoverySettings(cfg, &plan{})
	if err != nil {
		return err
	}
	s, err := discovery.Read(ctx, settings)
	if err != nil {
		return fmt.Errorf("reading members: %w", err)
	}
	for _, problem := range s.Problems {
		fmt.Fprintln(stderr, "patroniglue: discovery:", problem)
	}
	static := staticOf(cfg)
	var b discovery.Book
	b.Read(s, rulesOf(&cfg.Discovery), time.Now())
	for _, m := range b.Members {
		switch refused, configured := static.judge(&m); {
		case configured:
		case refused != "":
			fmt.Fprintf(stderr, "patroniglue: discovery: %s/%s is left out: %s\n", m.Scope, m.Name, refused)
		default:
			cfg.Nodes = append(cfg.Nodes, nodeConfig{
				Name: m.Name, Cluster: m.Scope, Scope: m.Scope, Member: m.Name, URL: m.API, Postgres: m.Postgres, backendConfig: cfg.Backend,
			})
		}
	}
	if len(cfg.Nodes) == 0 {
		return errors.New("reading members: want at least one that can be asked (got none)")
	}
	return nil
}

// since says in words who came, moved, went or changed otherwise.
func since(was, is []discovery.Member) (changed []string) {
	type key struct{ scope, name string }
	known := make(map[key]*discovery.Member, len(was))
	for i := range was {
		known[key{was[i].Scope, was[i].Name}] = &was[i]
	}
	n := 0
	note := func(m *discovery.Member, what string) {
		const most = 10
		if n++; n <= most {
			changed = append(changed, m.Scope+"/"+m.Name+" "+what)
		} else {
			changed = append(changed[:most], fmt.Sprintf("and %d more", n-most))
		}
	}
	address := func(m *discovery.Member) string {
		if m.API == nil {
			return "nowhere"
		}
		return m.API.Host
	}
	for i := range is {
		m := &is[i]
		old := known[key{m.Scope, m.Name}]
		delete(known, key{m.Scope, m.Name})
		switch {
		case old == nil:
			note(m, "appeared at "+address(m))
		case old.Unlisted.IsZero() && !m.Unlisted.IsZero():
			note(m, "is unlisted")
		case !old.Unlisted.IsZero() && m.Unlisted.IsZero():
			note(m, "came back at "+address(m))
		case address(old) != address(m):
			note(m, "moved from "+address(old)+" to "+address(m))
		case old.API != nil && old.API.Scheme != m.API.Scheme || old.Postgres != m.Postgres || old.Problem != m.Problem:
			note(m, "changed")
		}
	}
	for i := range was {
		if m := &was[i]; known[key{m.Scope, m.Name}] != nil {
			note(m, "is forgotten")
		}
	}
	return changed
}

// notAsked is who listed an address that cannot be asked, or may not.
type notAsked struct {
	why     string
	timeout time.Duration
}

func (n *notAsked) failure() error {
	return &node.Failure{Kind: node.KindOther, Err: errors.New(n.why)}
}

// Poll is part of cluster.Poller; it contacts nobody.
func (n *notAsked) Poll(context.Context) (node.Report, error) { return node.Report{}, n.failure() }

// Settings is part of cluster.Poller.
func (n *notAsked) Settings(context.Context) (node.Settings, error) {
	return node.Settings{}, n.failure()
}

// URL is part of cluster.Poller.
func (n *notAsked) URL() string { return "" }

// Timeout is part of cluster.Poller.
func (n *notAsked) Timeout() time.Duration { return n.timeout }

// onlyTo keeps a dialer from all other addresses: a name that is announced may
// resolve to anything, and to something else each time.
func onlyTo(allow []netip.Prefix) func(network, address string, c syscall.RawConn) error {
	rules := discovery.Rules{Allow: allow}
	return func(_, address string, _ syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(address)
		if err == nil && rules.Allows(addr.Addr()) {
			return nil
		}
		host, _, _ := strings.Cut(address, "%")
		return fmt.Errorf("%s is not asked: it is not in discovery.allow", host)
	}
}
