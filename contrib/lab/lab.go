// Package lab starts real Patroni clusters for end-to-end tests: etcd, three Patroni with PostgreSQL and, when asked
// for, patroniglue and HAProxy, all on loopback, by means of the script beside it.
//
// It is for tests that run inside this module's checkout: the script is looked for from the working directory upwards.
// What the script prints goes to Options.Log and, when it fails, into the error.
package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The parts of a lab, for Options.Parts. The members of three are ETCD+"1" to ETCD+"3".
const (
	ETCD       = "etcd"
	Patroni    = "patroni"
	Supervisor = "supervisor"
	HAProxy    = "haproxy"
)

// The backends of the lab's haproxy.cfg.
const (
	WriteBackend = "pg_rw"
	ReadBackend  = "pg_ro"
)

const (
	firstPort = 18000
	lastPort  = 19999
	blockSize = 20
	// lockPort is the offset of the port that a Lab listens on as long as it lives. Its HAProxy binds its ports seconds
	// after the block was found free: until then this one says that the block is taken.
	lockPort = 19
)

// Options says what Start makes. The zero value is a whole lab with a free block of ports.
type Options struct {
	// Dir is where everything of the lab lives: a directory that does not exist yet, or an empty one. Empty means a
	// temporary one. It is removed by Close. Not t.TempDir(): nobody but its owner may enter that, and PostgreSQL, which
	// refuses to be root, has to.
	Dir string
	// Port is the first of twenty ports between 18000 and 19999, see the table in the script. 0 means a free block; the
	// one at 18000 is left to people.
	Port int
	// Parts is what is started. Empty means all. Tests that run their own supervisor start ETCD and Patroni first, then
	// listen on the lab's HTTP and Agent addresses, and then Run(ctx, "haproxy", "start").
	Parts []string
	// Scope is the cluster's name. Empty means "main".
	Scope string
	// Suite is whose etcd, Patroni, PostgreSQL and HAProxy run. Empty means that of the environment variable LAB_SUITE, else
	// Bookworm.
	Suite Suite
	// Visible are directories that programs of Trixie and Forky see beside the lab's own and the checkout, such as that of
	// the hooks.
	Visible []string
	// ThreeETCD asks for an etcd of three members with TLS and authentication. The lab's patroniglue.toml then has a
	// [discovery] instead of its [[node]]s.
	ThreeETCD bool
	// Program is the patroniglue to run. Empty means that of the environment variable PATRONIGLUE, else the checkout's.
	Program string
	// Callback is a command line that Patroni runs as on_role_change, after putting the node's name for {node},
	// patroniglue's HTTP address for {http} and the path of its token for {token}. It appends "on_role_change", the role
	// and the scope. Empty means none.
	Callback string
	// BeforeStop is a command line that Patroni runs as before_stop, likewise. Bookworm's Patroni has no before_stop.
	BeforeStop string
	// Log receives what the script prints. nil means nowhere.
	Log io.Writer
}

// Node is one Patroni member. Addresses are HOST:PORT.
type Node struct {
	Name string
	REST string // Patroni's REST API
	URL  string // the same, as a URL
	SQL  string // PostgreSQL
	Data string // PostgreSQL's data directory
}

// Lab is a running lab. Its fields are read-only; addresses are HOST:PORT. Its methods may be called concurrently.
type Lab struct {
	Dir   string
	Port  int
	Scope string
	Suite Suite
	Nodes []Node

	ETCD  []string // one member, or three
	HTTP  string   // patroniglue's frontend
	Agent string   // patroniglue's shared agent port
	Write string   // HAProxy, to the primary
	Read  string   // HAProxy, to the replicas
	Stats string   // HAProxy's page

	Config        string // the path of patroniglue.toml
	Patronictl    string // the path of patronictl's configuration
	HAProxyConfig string // the path of haproxy.cfg
	HAProxySocket string // the path of HAProxy's stats socket

	script string
	env    []string // of the script
	psql   string
	lock   net.Listener // on lockPort
	log    *serialized
}

// serialized lets several commands print at once.
type serialized struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *serialized) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// Check returns an error that names the missing programs when this machine cannot run the given parts (all, when there
// are none), so that a test can skip.
func Check(ctx context.Context, parts ...string) error { return Options{Parts: parts}.Check(ctx) }

// Check returns an error that says what is missing when this machine cannot start a lab with these options. A root file
// system that is not made yet is not missing when it can be made.
func (o Options) Check(ctx context.Context) error {
	script, err := findScript("lab")
	if err != nil {
		return err
	}
	_, err = run(ctx, io.Discard, script, environ(o, o.Dir, cmp.Or(o.Port, firstPort)), "check")
	return err
}

// suite is what Suite says.
func (o Options) suite() Suite { return cmp.Or(o.Suite, Suite(os.Getenv("LAB_SUITE")), Bookworm) }

// Start makes a lab and waits until it works: the replicas stream and, when all parts were asked for, a write went
// through HAProxy to the primary. It takes 5 to 15 seconds, after a minute or two when the suite must be made. When it fails, or ctx ends, nothing stays behind.
func Start(ctx context.Context, o Options) (_ *Lab, err error) {
	script, err := findScript("lab")
	if err != nil {
		return nil, err
	}
	log := &serialized{w: cmp.Or[io.Writer](o.Log, io.Discard)}
	if err := o.suite().Make(ctx, log); err != nil {
		return nil, err
	}
	port, lock, err := claim(o.Port)
	if err != nil {
		return nil, err
	}
	dir := o.Dir
	defer func() {
		if err != nil {
			lock.Close()
			if o.Dir == "" && dir != "" {
				os.RemoveAll(dir)
			}
		}
	}()
	if dir == "" {
		if dir, err = os.MkdirTemp(fastest(), "patroniglue-lab-"); err != nil {
			return nil, fmt.Errorf("making the lab's directory: %w", err)
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("making the lab's directory: %w", err)
	}
	l := &Lab{
		Dir:    dir,
		Port:   port,
		Scope:  cmp.Or(o.Scope, "main"),
		Suite:  o.suite(),
		script: script,
		env:    environ(o, dir, port),
		lock:   lock,
		log:    log,
	}
	if err := l.readEnv(ctx); err != nil {
		return nil, err
	}
	if err := l.Run(ctx, "up"); err != nil {
		return nil, err
	}
	return l, nil
}

// readEnv fills l with what "lab env" says.
func (l *Lab) readEnv(ctx context.Context) error {
	out, err := run(ctx, io.Discard, l.script, l.env, "env")
	if err != nil {
		return err
	}
	env := make(map[string]string)
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			env[key] = value
		}
	}
	var missing []error
	get := func(key string) string {
		if env[key] == "" {
			missing = append(missing, fmt.Errorf("running \"lab env\": no %s", key))
		}
		return env[key]
	}
	address := func(key string) string { return net.JoinHostPort("127.0.0.1", get(key)) }
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		key := strings.ToUpper(name)
		rest := address(key + "_REST")
		l.Nodes = append(l.Nodes, Node{
			Name: name,
			REST: rest,
			URL:  "http://" + rest,
			SQL:  address(key + "_SQL"),
			Data: get(key + "_DATA"),
		})
	}
	l.ETCD = []string{address("ETCD")}
	if env["ETCD2"] != "" {
		l.ETCD = append(l.ETCD, address("ETCD2"), address("ETCD3"))
	}
	l.HTTP, l.Agent = address("HTTP"), address("AGENT")
	l.Write, l.Read, l.Stats = address("HAPROXY_WRITE"), address("HAPROXY_READ"), address("HAPROXY_STATS")
	l.Config, l.Patronictl = get("CONFIG"), get("PATRONICTL")
	l.HAProxyConfig, l.HAProxySocket = get("HAPROXY_CONFIG"), get("HAPROXY_SOCKET")
	l.psql = filepath.Join(get("PGBIN"), "psql")
	return errors.Join(missing...)
}

// Close stops every process of the lab and removes its directory. A second Close does nothing.
func (l *Lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := l.Run(ctx, "down")
	if closeErr := l.lock.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return err
}

// Node returns the node of that name: pg1, pg2 or pg3. It panics when there is none.
func (l *Lab) Node(name string) Node {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	panic("lab: no node " + strconv.Quote(name))
}

// Command returns one program of the lab's suite, not started, to which the lab's directory is visible.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return l.Suite.Command(ctx, []string{l.Dir}, name, args...)
}

// Run runs the script: Run(ctx, "haproxy", "reload"). When ctx ends the script is asked to stop and to clean up.
func (l *Lab) Run(ctx context.Context, args ...string) error {
	_, err := run(ctx, l.log, l.script, l.env, args...)
	return err
}

// Switchover makes the node to (any replica when empty) the primary, and returns when it is.
func (l *Lab) Switchover(ctx context.Context, to string) error {
	return l.Run(ctx, "switchover", to)
}

// Freeze stops Patroni of a node with SIGSTOP, or ETCD, or one member of it; PostgreSQL goes on. It thaws by itself after
// d; 0 means never.
// After a primary was frozen for longer than Patroni's ttl (20 s) do not count on which node is primary once it thaws:
// Patroni 3.0.2 may take the leader's key back from the one elected meanwhile (see the README).
func (l *Lab) Freeze(ctx context.Context, node string, d time.Duration) error {
	if d <= 0 {
		return l.Run(ctx, "freeze", node)
	}
	return l.Run(ctx, "freeze", node, strconv.FormatFloat(d.Seconds(), 'f', 3, 64))
}

// Thaw lets a frozen Patroni, or ETCD, go on.
func (l *Lab) Thaw(ctx context.Context, node string) error { return l.Run(ctx, "thaw", node) }

// KillPostgres kills the postmaster of a node with SIGKILL. Patroni starts it again, sooner or later.
func (l *Lab) KillPostgres(ctx context.Context, node string) error { return l.Run(ctx, "kill", node) }

// RestartPatroni kills Patroni of a node with SIGKILL and starts it again. PostgreSQL goes on meanwhile.
func (l *Lab) RestartPatroni(ctx context.Context, node string) error {
	return l.Run(ctx, "restart", node)
}

// StopNode stops Patroni and PostgreSQL of a node in good order, and waits for it.
func (l *Lab) StopNode(ctx context.Context, node string) error { return l.Run(ctx, "stop", node) }

// CrashNode kills Patroni and the postmaster of a node with SIGKILL, or ETCD, or one member of it.
func (l *Lab) CrashNode(ctx context.Context, node string) error { return l.Run(ctx, "crash", node) }

// StartNode starts what StopNode or CrashNode took away, and returns when it is a primary or a replica again, or etcd
// serves.
func (l *Lab) StartNode(ctx context.Context, node string) error { return l.Run(ctx, "start", node) }

// direct asks without a proxy and without keeping connections: five idle ones freeze a Patroni 4.1.
var direct = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true},
	Timeout:   2 * time.Second,
}

// Primary asks every Patroni and returns the one node that answers 200 to /primary. None or several are an error.
func (l *Lab) Primary(ctx context.Context) (Node, error) {
	var primaries []Node
	var names []string
	for _, n := range l.Nodes {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/primary", nil)
		if err != nil {
			return Node{}, err
		}
		resp, err := direct.Do(req)
		if err != nil {
			continue // stopped or frozen: no claim
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			primaries, names = append(primaries, n), append(names, n.Name)
		}
	}
	if len(primaries) != 1 {
		return Node{}, fmt.Errorf("looking for the primary: want one node that says it is, got %d %v", len(primaries), names)
	}
	return primaries[0], nil
}

// Query runs SQL by psql as the application's user, which owns table lab (id, at, said), and returns the rows with | as
// separator. addr is a Node's SQL, or the lab's Write or Read.
func (l *Lab) Query(ctx context.Context, addr, sql string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	cmd := l.Suite.Command(ctx, nil, "env", "-i", "LC_ALL=C.UTF-8", "HOME=/nonexistent",
		l.psql, "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql,
		"-d", fmt.Sprintf("host=%s port=%s user=app dbname=app connect_timeout=3", host, port))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("querying %s: %w: %s", addr, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Server is what HAProxy says of a server in a backend.
type Server struct {
	Backend string // WriteBackend or ReadBackend
	Name    string // the node's name
	Status  string // "UP", "UP 1/2", "DOWN", "DOWN (agent)", "MAINT", "DRAIN", "no check", ...
	Check   string // check_status, such as "L7OK"; empty while in MAINT
	Agent   string // agent_status, such as "L7OK" or "L4CON"
	Last    string // last_agt: what the agent said last
	Weight  int
	Current int               // sessions now
	Total   int               // sessions since the start
	Raw     map[string]string // every column of "show stat"
}

// Up reports whether HAProxy sends new connections there, weight apart.
func (s Server) Up() bool { return s.Status == "UP" || strings.HasPrefix(s.Status, "UP ") }

// HAProxyStat returns the servers of both backends, by "show stat" on the stats socket.
func (l *Lab) HAProxyStat(ctx context.Context) ([]Server, error) {
	out, err := l.HAProxyCommand(ctx, "show stat")
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(out, "# ")))
	r.LazyQuotes = true
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading \"show stat\": %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("reading \"show stat\": empty answer")
	}
	var servers []Server
	for _, row := range rows[1:] {
		raw := make(map[string]string, len(row))
		for i, value := range row {
			raw[rows[0][i]] = value
		}
		if raw["type"] != "2" { // 0 frontend, 1 backend, 2 server, 3 listener
			continue
		}
		number := func(column string) int {
			n, _ := strconv.Atoi(raw[column]) // empty is 0
			return n
		}
		servers = append(servers, Server{
			Backend: raw["pxname"],
			Name:    raw["svname"],
			Status:  raw["status"],
			Check:   strings.TrimPrefix(raw["check_status"], "* "), // a check is in progress
			Agent:   strings.TrimPrefix(raw["agent_status"], "* "),
			Last:    raw["last_agt"],
			Weight:  number("weight"),
			Current: number("scur"),
			Total:   number("stot"),
			Raw:     raw,
		})
	}
	return servers, nil
}

// HAProxyCommand sends one command to HAProxy's stats socket (level admin) and returns the answer.
func (l *Lab) HAProxyCommand(ctx context.Context, command string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", l.HAProxySocket)
	if err != nil {
		return "", fmt.Errorf("asking HAProxy %q: %w", command, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", fmt.Errorf("asking HAProxy %q: %w", command, err)
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", fmt.Errorf("asking HAProxy %q: %w", command, err)
	}
	out, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("asking HAProxy %q: %w", command, cmp.Or(ctx.Err(), err))
	}
	return string(out), nil
}

// findScript looks for a script beside this file in the directory of go.mod, from the working directory upwards.
func findScript(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for contrib/lab/%s: %w", name, err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			script := filepath.Join(dir, "contrib", "lab", name)
			if _, err := os.Stat(script); err != nil {
				return "", fmt.Errorf("looking for contrib/lab/%s: %w", name, err)
			}
			return script, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("looking for contrib/lab/%s: no go.mod from the working directory upwards", name)
		}
		dir = parent
	}
}

// claim returns a free block of ports (that of port, when it is not 0) with the listener that keeps it.
func claim(port int) (int, net.Listener, error) {
	if port != 0 {
		lock, err := listen(port + lockPort)
		if err != nil {
			return 0, nil, fmt.Errorf("claiming ports %d to %d: %w", port, port+lockPort, err)
		}
		return port, lock, nil
	}
	const blocks = (lastPort + 1 - firstPort) / blockSize
	// Test binaries of several packages run at once: they should not all try the same block.
	start := rand.N(blocks - 1)
	for i := range blocks - 1 {
		port := firstPort + blockSize*(1+(start+i)%(blocks-1))
		if lock, ok := tryBlock(port); ok {
			return port, lock, nil
		}
	}
	return 0, nil, fmt.Errorf("claiming %d ports: no free block between %d and %d", blockSize, firstPort, lastPort)
}

// tryBlock binds every port of a block, the lock first, and keeps only the lock.
func tryBlock(port int) (net.Listener, bool) {
	lock, err := listen(port + lockPort)
	if err != nil {
		return nil, false
	}
	for offset := range lockPort {
		ln, err := listen(port + offset)
		if err != nil {
			lock.Close()
			return nil, false
		}
		ln.Close()
	}
	return lock, true
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

func environ(o Options, dir string, port int) []string {
	parts := o.Parts
	if len(parts) == 0 {
		parts = []string{ETCD, Patroni, Supervisor, HAProxy}
	}
	env := append(os.Environ(),
		"LAB_DIR="+dir,
		"LAB_PORT="+strconv.Itoa(port),
		"LAB_PARTS="+strings.Join(parts, " "),
		"LAB_SCOPE="+cmp.Or(o.Scope, "main"),
		"LAB_SUITE="+o.suite().String(),
		"LAB_CLAIMED="+strconv.Itoa(port),
		"LAB_VISIBLE="+strings.Join(o.Visible, ":"),
	)
	if o.ThreeETCD {
		env = append(env, "LAB_ETCD=3")
	}
	if o.Callback != "" {
		env = append(env, "LAB_CALLBACK="+o.Callback)
	}
	if o.BeforeStop != "" {
		env = append(env, "LAB_BEFORE_STOP="+o.BeforeStop)
	}
	if o.Program != "" {
		env = append(env, "PATRONIGLUE="+o.Program)
	}
	return env
}

// run runs the script and returns what it printed on stdout and stderr.
func run(ctx context.Context, log io.Writer, script string, env []string, args ...string) (string, error) {
	var out bytes.Buffer
	w := io.MultiWriter(&out, log)
	cmd := exec.CommandContext(ctx, script, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = w, w
	// The script cleans up after SIGTERM; only one that does not is killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return out.String(), fmt.Errorf("running \"lab %s\": %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Build builds patroniglue from this checkout into dir and returns the program's path.
func Build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "patroniglue")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", program, "patroniglue")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building patroniglue: %w\n%s", err, out)
	}
	return program, nil
}
