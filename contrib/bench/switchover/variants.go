package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"patroniglue/contrib/lab"
)

// variant is one way to find the primary.
type variant struct {
	name, what string
	missing    string            // why it cannot be measured yet; "" = it can
	template   bool              // Patroni's HAProxy template, without patroniglue
	backend    map[string]string // keys of [backend]
	haproxy    []string          // flags of "patroniglue haproxy"
	edits      map[string]string // keywords of haproxy.cfg with another value
	discovery  bool              // etcd, whose leader key is watched
	callback   bool              // Patroni's on_role_change posts to /node/{node}/refresh
	announce   bool              // "patroniglue leaving NODE" right before the switchover
	asked      bool              // nobody connects, there is no HAProxy: how late patroniglue's answers are (answers.go)
}

const floorName, floorWhat = "a", "libpq, target_session_attrs, straight to the nodes: the floor"

// variants are what can be measured. An empty missing enables one.
var variants = []variant{
	{name: "b", what: "Patroni's HAProxy template", template: true},
	{name: "c", what: "patroniglue haproxy"},
	{name: "c100", what: "c with primary-interval = \"100ms\"", backend: map[string]string{"primary-interval": "100ms"}},
	{name: "hold", what: "patroniglue haproxy -hold 10s", haproxy: []string{"-hold", "10s"}},
	{name: "hold100", what: "hold with primary-interval = \"100ms\"", haproxy: []string{"-hold", "10s"}, backend: map[string]string{"primary-interval": "100ms"}},
	{name: "d", what: "hold with Patroni's on_role_change callback", haproxy: []string{"-hold", "10s"}, callback: true},
	{name: "e", what: "hold with \"patroniglue leaving\" before it", haproxy: []string{"-hold", "10s"}, announce: true},
	{name: "interval", what: "every node polled once a second, whatever happens", asked: true, backend: map[string]string{"primary-interval": "1s", "fast-interval": "1s"}},
	{name: "fast", what: "the defaults: the primary every 250 ms, while something is unsettled everybody every 100 ms", asked: true},
	{name: "callback", what: "fast with Patroni's on_role_change callback", asked: true, callback: true},
	{name: "watch", what: "fast with [discovery], which watches etcd's leader key", asked: true, discovery: true},
	{name: "slow", what: "polls of a fleet: each node every 2 s, while something is unsettled every 100 ms", asked: true, backend: map[string]string{"interval": "2s", "primary-interval": "2s", "timeout": "1s"}},
	{name: "slow-watch", what: "slow with [discovery], which watches etcd's leader key", asked: true, discovery: true, backend: map[string]string{"interval": "2s", "primary-interval": "2s", "timeout": "1s"}},
}

func variantNames() []string {
	var names []string
	for _, v := range variants {
		names = append(names, v.name)
	}
	return names
}

// callbackScript is what Patroni runs as on_role_change, all the time: so that variants without it have none, it does
// nothing without the file callback.on. Its arguments are those of lab.Options.Callback. %[1]s is the directory of the
// bench, with a copy of contrib/patroni-callback: Patroni's user may not enter the checkout.
const callbackScript = `#!/bin/sh
[ -e %[1]s/callback.on ] || exit 0
export PATRONIGLUE_NODE="$1" PATRONIGLUE_URLS="http://$2"
shift 2
exec %[1]s/patroni-callback "$@"
`

func findVariant(name string) (variant, error) {
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("want some of %s (got %q)", strings.Join(variantNames(), ", "), name)
}

// backendKeys are those of [backend] that -try takes; every other key is a keyword of haproxy.cfg.
var backendKeys = []string{"interval", "primary-interval", "fast-interval"}

// parseTry makes a variant of "NAME, KEY=VALUE, ...".
func parseTry(s string) (variant, error) {
	parts := strings.Split(s, ",")
	v, err := findVariant(strings.TrimSpace(parts[0]))
	if err != nil {
		return v, err
	}
	v.name, v.what = s, v.name+" with other settings"
	v.backend, v.edits = maps.Clone(v.backend), make(map[string]string)
	if v.backend == nil {
		v.backend = make(map[string]string)
	}
	for _, part := range parts[1:] {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || key == "" || value == "" {
			return v, fmt.Errorf("want NAME, KEY=VALUE, ... (got %q)", s)
		}
		switch {
		case slices.Contains(backendKeys, key):
			v.backend[key] = value
		case v.asked:
			return v, fmt.Errorf("%s has no HAProxy: want keys of [backend], some of %s (got %q)", parts[0], strings.Join(backendKeys, ", "), key)
		default:
			v.edits[key] = value
		}
	}
	return v, nil
}

// edit gives every keyword of haproxy.cfg another value. Comments keep theirs.
func edit(text string, edits map[string]string) (string, error) {
	lines := strings.Split(text, "\n")
	for _, key := range slices.Sorted(maps.Keys(edits)) {
		word := regexp.MustCompile(`(^|[ \t])` + regexp.QuoteMeta(key) + `([ \t]+\S+|$)`)
		found := false
		for i, line := range lines {
			if !strings.HasPrefix(line, "#") && word.MatchString(line) {
				lines[i], found = word.ReplaceAllString(line, "${1}"+key+" "+edits[key]), true
			}
		}
		if !found {
			return "", fmt.Errorf("editing haproxy.cfg: no keyword %q in it", key)
		}
	}
	return strings.Join(lines, "\n"), nil
}

// patroniTemplate is Patroni's extras/confd/templates/haproxy.tmpl (3.0.2; the same in 4.1) with this lab's addresses.
// Ours are the page, left out, and the log, by which the bench sees when a server goes up or down.
func patroniTemplate(l *lab.Lab) string {
	var b strings.Builder
	b.WriteString(`global
	maxconn 100
	log stdout format raw local0 notice

defaults
	log	global
	mode	tcp
	retries 2
	timeout client 30m
	timeout connect 4s
	timeout server 30m
	timeout check 5s
`)
	for _, p := range []struct{ name, bind, check string }{{lab.WriteBackend, l.Write, "primary"}, {lab.ReadBackend, l.Read, "replica"}} {
		fmt.Fprintf(&b, `
listen %s
	bind %s
	option httpchk HEAD /%s
	http-check expect status 200
	default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
`, p.name, p.bind, p.check)
		for _, n := range l.Nodes {
			fmt.Fprintf(&b, "\tserver %s %s maxconn 100 check port %s\n", n.Name, n.SQL, port(n.REST))
		}
	}
	return b.String()
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// daemonConfig is the lab's patroniglue.toml with a variant's settings.
func daemonConfig(text string, backend map[string]string) string {
	if len(backend) > 0 {
		text += "\n[backend]\n"
		for _, key := range slices.Sorted(maps.Keys(backend)) {
			text += fmt.Sprintf("%s = %q\n", key, backend[key])
		}
	}
	return text
}

// processes are those of one variant.
type processes struct {
	haproxy, daemon *process // daemon is nil for Patroni's template, haproxy where variants are asked only
	config          string   // the daemon's
}

// start starts what v needs. stop is to be called also when it fails.
func (b *bench) start(ctx context.Context, v variant) (p processes, err error) {
	dir := filepath.Join(b.dir, "run")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return p, err
	}
	config := filepath.Join(dir, "haproxy.cfg")
	text := patroniTemplate(b.lab)
	if !v.template {
		if p.config, err = b.writeDaemonConfig(dir, v); err != nil {
			return p, err
		}
		p.daemon, err = b.spawn("patroniglue", exec.Command(b.program, "-config", p.config))
		if err != nil {
			return p, err
		}
		if v.asked {
			return p, nil
		}
		if text, err = b.haproxyConfig(ctx, p.config, dir, v); err != nil {
			return p, err
		}
	}
	if text, err = edit(text, v.edits); err != nil {
		return p, err
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return p, err
	}
	p.haproxy, err = b.spawn("haproxy", b.lab.Suite.Command(context.Background(), []string{dir}, "haproxy", "-db", "-f", config))
	return p, err
}

func (b *bench) writeDaemonConfig(dir string, v variant) (string, error) {
	text, err := os.ReadFile(b.lab.Config)
	if err != nil {
		return "", err
	}
	config := daemonConfig(string(text), v.backend)
	if v.discovery {
		config += fmt.Sprintf("\n[discovery]\netcd = [\"http://%s\"]\nallow = [\"127.0.0.0/8\"]\n", b.lab.ETCD[0])
	}
	path := filepath.Join(dir, "patroniglue.toml")
	return path, os.WriteFile(path, []byte(config), 0o644)
}

// haproxyConfig is what "patroniglue haproxy" makes for the lab's ports.
func (b *bench) haproxyConfig(ctx context.Context, config, dir string, v variant) (string, error) {
	args := []string{"-config", config, "haproxy", "-bind", "127.0.0.1", "-user", "", "-socket", filepath.Join(dir, "haproxy.sock"),
		"-write-port", port(b.lab.Write), "-read-port", port(b.lab.Read), "-stats-port", port(b.lab.Stats)}
	if len(v.haproxy) > 0 {
		args = append(args, append(v.haproxy, "-o", dir)...)
	}
	out, err := b.command(ctx, args...)
	if err != nil || len(v.haproxy) == 0 {
		return string(out), err
	}
	text, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	return string(text), err
}

// command runs a subcommand of patroniglue.
func (b *bench) command(ctx context.Context, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running patroniglue %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

func (p processes) stop() {
	for _, p := range []*process{p.haproxy, p.daemon} {
		if p != nil {
			p.stop()
		}
	}
}

// process is a child whose lines are stamped when they arrive.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex
	rest  []byte // guarded by mu: a line without its end
	lines []line // guarded by mu
}

type line struct {
	at   time.Time
	text string
}

// spawn starts a child. It belongs to the lab, so that "lab down" ends it whatever becomes of this process.
func (b *bench) spawn(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "PATRONIGLUE_LAB="+b.lab.Dir)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = time.Second                           // for what it may leave behind
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for us; we end them
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) Write(data []byte) (int, error) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, data...)
	for {
		text, rest, ok := bytes.Cut(p.rest, []byte("\n"))
		if !ok {
			return len(data), nil
		}
		p.lines, p.rest = append(p.lines, line{now, string(text)}), rest
	}
}

// log returns the lines so far.
func (p *process) log() []line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// first is when the first line that has all words came, not before since.
func (p *process) first(since time.Time, words ...string) time.Time {
	for _, l := range p.log() {
		if !l.at.Before(since) && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(l.text, w) }) {
			return l.at
		}
	}
	return time.Time{}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}
