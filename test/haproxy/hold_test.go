package haproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/haproxy"
	"patroniglue/internal/config"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// database stands in for a node's PostgreSQL: it answers a line with its name,
// and keeps the connection.
type database struct {
	name     string
	ln       net.Listener
	accepted atomic.Int64
}

func startDatabase(t testing.TB, name string) *database {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	d := &database{name: name, ln: ln}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			d.accepted.Add(1)
			go d.serve(conn)
		}
	}()
	return d
}

func (d *database) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if _, err := fmt.Fprintln(conn, d.name); err != nil {
			return
		}
	}
}

// holding is a simulated cluster, our program, and HAProxy between clients and
// databases as "patroniglue haproxy -hold" configures it.
type holding struct {
	suite     lab.Suite // whose HAProxy it is
	sim       *nodetest.Cluster
	databases map[string]*database
	dir       string // with haproxy.cfg and the Lua file
	socket    string
	addr      string // the write side
	haproxy   *exec.Cmd
	log       *harness.Log // what HAProxy says
}

func newHolding(t *testing.T, suite lab.Suite, hold time.Duration) *holding {
	t.Helper()
	h := &holding{suite: suite, sim: harness.NewSimulated(t, "pg1", "pg2"), databases: make(map[string]*database), dir: t.TempDir(), addr: harness.FreePort(t), log: new(harness.Log)}
	h.socket = filepath.Join(h.dir, "s")
	nodes := harness.NodesOf(h.sim, "")
	for i, n := range h.sim.Nodes() {
		h.databases[n.Name()] = startDatabase(t, n.Name())
		nodes = harness.Replace(t, nodes, fmt.Sprintf("10.0.0.%d:5432", 11+i), h.databases[n.Name()].ln.Addr().String())
	}
	agents := "127.0.0.1:0"
	text := "[frontend]\n" + harness.AnyPort + "[agent]\nlisten = '" + agents + "'\n" + harness.FastPolls + nodes
	p := harness.Start(t, "c.toml", text)
	// HAProxy has to be told the ports that the kernel chose.
	p.Config = harness.WriteFile(t, "c.toml", harness.Replace(t, text, agents, p.Agents[0], "port = 0", "port = "+harness.PortOf(p.HTTP)))
	code, stdout, stderr := p.Command(t, "haproxy", "-hold", hold.String(), "-o", h.dir, "-bind", "127.0.0.1", "-write-port", harness.PortOf(h.addr),
		"-read-port", harness.PortOf(harness.FreePort(t)), "-stats-port", "0", "-user", "", "-socket", h.socket)
	if code != 0 {
		t.Fatalf("patroniglue haproxy: exit code %d, %s%s", code, stdout, stderr)
	}
	return h
}

// start runs HAProxy and waits for the primary to be in service.
func (h *holding) start(t *testing.T) {
	t.Helper()
	file := filepath.Join(h.dir, "haproxy.cfg")
	harness.AcceptedByHAProxy(t, h.suite, file)
	h.haproxy = h.suite.Command(t.Context(), []string{h.dir}, "haproxy", "-W", "-f", file)
	h.haproxy.Stdout, h.haproxy.Stderr = h.log, h.log
	h.haproxy.Cancel = func() error { return h.haproxy.Process.Signal(syscall.SIGTERM) } // takes its workers with it
	h.haproxy.WaitDelay = 5 * time.Second
	if err := h.haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.haproxy.Cancel()
		h.haproxy.Wait()
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", h.log)
		}
	})
	h.untilServed(t, 1)
}

// untilServed waits until that many servers are in service for writes.
func (h *holding) untilServed(t *testing.T, servers int) {
	t.Helper()
	harness.Eventually(t, harness.Soon, func() error {
		got := h.stat("BACKEND", "act")
		return harness.Want(got == servers, "%d servers in service (got %v)", servers, got)
	})
}

func (h *holding) untilWaiting(t testing.TB, clients int) {
	t.Helper()
	harness.Eventually(t, harness.Soon, func() error {
		got := h.stat("FRONTEND", "scur")
		return harness.Want(got == clients, "%d connections in HAProxy (got %v)", clients, got)
	})
}

// says gives HAProxy's answer to commands.
func (h *holding) says(commands string) (string, error) {
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(conn, commands); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

func (h *holding) must(t testing.TB, commands string) {
	t.Helper()
	if answer, err := h.says(commands); err != nil || strings.TrimSpace(answer) != "" {
		t.Fatalf("HAProxy answers %q to %q: %v", answer, commands, err)
	}
}

// stat is a figure of pg_rw in "show stat", or -1.
func (h *holding) stat(row, column string) int {
	answer, err := h.says("show stat")
	if err != nil {
		return -1
	}
	var columns []string
	for line := range strings.Lines(answer) {
		fields := strings.Split(strings.TrimSpace(strings.TrimPrefix(line, "# ")), ",")
		if columns == nil {
			columns = fields
		}
		if len(fields) < 2 || fields[0] != "pg_rw" || fields[1] != row {
			continue
		}
		for i, name := range columns {
			if name == column {
				n, err := strconv.Atoi(fields[i])
				if err != nil {
					return -1
				}
				return n
			}
		}
	}
	return -1
}

// second puts a second server into service for writes, whatever it is.
func (h *holding) second(t *testing.T) {
	t.Helper()
	h.must(t, "disable agent pg_rw/pg2; disable health pg_rw/pg2; set server pg_rw/pg2 health up; set server pg_rw/pg2 state ready")
	h.untilServed(t, 2)
}

// client is a connection that has asked who is there.
type client struct {
	conn net.Conn
	t    testing.TB
}

func (h *holding) connect(t testing.TB) client {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "who\n"); err != nil {
		t.Fatal(err)
	}
	return client{conn, t}
}

func (h *holding) connectMany(t testing.TB, n int) []client {
	t.Helper()
	var clients []client
	for range n {
		clients = append(clients, h.connect(t))
	}
	return clients
}

// answer is the database's name, or "" for a connection that was closed. It waits
// longer than any hold of these tests, as on a busy machine HAProxy may lose a timer.
func (c client) answer() string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(40 * time.Second))
	line, err := bufio.NewReader(c.conn).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Errorf("waiting for an answer: %v", err)
	}
	return strings.TrimSpace(line)
}

// answers counts them.
func answers(clients []client) map[string]int {
	got := make(map[string]int)
	for _, c := range clients {
		got[c.answer()]++
	}
	return got
}

func wantAnswers(t *testing.T, clients []client, want map[string]int) {
	t.Helper()
	if got := answers(clients); !maps.Equal(got, want) {
		t.Errorf("databases that answered: got %v, want %v (\"\" = refused)", got, want)
	}
}

// accepted is how many connections have reached the databases.
func (h *holding) accepted() map[string]int64 {
	got := make(map[string]int64)
	for name, d := range h.databases {
		got[name] = d.accepted.Load()
	}
	return got
}

func (h *holding) wantAccepted(t *testing.T, want map[string]int64) {
	t.Helper()
	if got := h.accepted(); !maps.Equal(got, want) {
		t.Errorf("connections that reached the databases: got %v, want %v", got, want)
	}
}

// wantLogged waits for a line of HAProxy's log that says why many connections
// were refused. It is written at most once a second.
func (h *holding) wantLogged(t *testing.T, line string) {
	t.Helper()
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(strings.Contains(h.log.String(), "\n"+line+"\n"), "that HAProxy logs %s", line)
	})
	if n := strings.Count(h.log.String(), "\n"+line+"\n"); n > 5 {
		t.Errorf("logged %d times for 100 connections, want once a second: %s", n, line)
	}
}

// TestHold: while there is no primary nobody is refused.
func TestHold(t *testing.T) { harness.Core(t, testHold) }

func testHold(t *testing.T, suite lab.Suite) {
	const waiting, leaving = 2500, 500
	h := newHolding(t, suite, 20*time.Second)
	h.start(t)

	// Nothing passes while there are two.
	h.second(t)
	clients := h.connectMany(t, 20)
	h.untilWaiting(t, 20)
	h.wantAccepted(t, map[string]int64{"pg1": 0, "pg2": 0})
	h.must(t, "set server pg_rw/pg2 state maint; enable health pg_rw/pg2; enable agent pg_rw/pg2")
	wantAnswers(t, clients, map[string]int{"pg1": 20})

	// Thousands wait for the new primary. Those that give up do not reach it.
	h.sim.Kill("pg1")
	wantAnswers(t, clients, map[string]int{"": 20}) // cut, by on-marked-down
	h.untilServed(t, 0)
	clients = h.connectMany(t, waiting)
	h.untilWaiting(t, waiting)
	for _, c := range clients[:leaving] {
		c.conn.Close()
	}
	h.untilWaiting(t, waiting-leaving)
	clients = clients[leaving:]
	h.sim.Promote("pg2")
	wantAnswers(t, clients, map[string]int{"pg2": len(clients)})
	h.wantAccepted(t, map[string]int64{"pg1": 20, "pg2": int64(len(clients))})
	for _, c := range clients {
		c.conn.Close()
	}
	h.untilWaiting(t, 0)

	// A reload refuses those that wait, as the old process would never see a new
	// primary. The new one holds.
	h.sim.Kill("pg2")
	h.untilServed(t, 0)
	clients = h.connectMany(t, 100)
	h.untilWaiting(t, 100)
	if err := h.haproxy.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, clients, map[string]int{"": 100})
	h.wantLogged(t, "pg_rw: HAProxy stops or reloads: connections that wait for a primary are refused, to be tried again")
	h.untilWaiting(t, 0) // the new process answers
	clients = h.connectMany(t, 10)
	h.untilWaiting(t, 10)
	h.sim.Revive("pg1")
	h.sim.Promote("pg1")
	wantAnswers(t, clients, map[string]int{"pg1": 10})
	h.wantAccepted(t, map[string]int64{"pg1": 30, "pg2": waiting - leaving})
}

// TestHoldLimit: at its end connections are refused, and one line says why.
func TestHoldLimit(t *testing.T) { harness.Core(t, testHoldLimit) }

func testHoldLimit(t *testing.T, suite lab.Suite) {
	h := newHolding(t, suite, time.Second)
	h.start(t)
	h.sim.Kill("pg1")
	h.untilServed(t, 0)
	start := time.Now()
	clients := h.connectMany(t, 100)
	wantAnswers(t, clients, map[string]int{"": 100})
	if d := time.Since(start); d < time.Second {
		t.Errorf("refused after %v, want them held for 1s", d)
	}
	h.wantAccepted(t, map[string]int64{"pg1": 0, "pg2": 0})
	h.wantLogged(t, "pg_rw: 0 primaries, want 1: connections that waited for 1s are refused")
	h.sim.Promote("pg2")
	h.untilServed(t, 1)
	wantAnswers(t, []client{h.connect(t)}, map[string]int{"pg2": 1})
}

// TestHoldCostsNothing: with a primary no connection enters Lua; this Lua refuses
// them all. Without exactly one nothing passes, even when Lua fails.
func TestHoldCostsNothing(t *testing.T) { harness.Core(t, testHoldCostsNothing) }

func testHoldCostsNothing(t *testing.T, suite lab.Suite) {
	h := newHolding(t, suite, time.Second)
	const lua = `
local refuses = true
core.register_action("hold", { "tcp-req" }, function()
  if refuses then
    refuses = false
    return act.DENY
  end
  error("this is broken")
end, 1)
`
	if err := os.WriteFile(filepath.Join(h.dir, haproxy.LuaName), []byte(lua), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	wantAnswers(t, h.connectMany(t, 100), map[string]int{"pg1": 100})
	h.second(t)
	wantAnswers(t, h.connectMany(t, 2), map[string]int{"": 2})
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(strings.Contains(h.log.String(), "this is broken"), "that Lua has failed")
	})
	h.wantAccepted(t, map[string]int64{"pg1": 100, "pg2": 0})
}

// measured is HAProxy between this process and a database, without a supervisor:
// the socket decides who is in service.
func measured(b *testing.B, hold time.Duration) *holding {
	b.Helper()
	h := &holding{databases: map[string]*database{"pg1": startDatabase(b, "pg1")}, dir: b.TempDir(), addr: harness.FreePort(b), log: new(harness.Log)}
	h.socket = filepath.Join(h.dir, "s")
	cfg, err := config.Parse("c.toml", fmt.Appendf(nil, "[agent]\nlisten = ':5555'\n[[node]]\nname = 'pg1'\nurl = 'http://127.0.0.1:8008'\npostgres = '%s'\n", h.databases["pg1"].ln.Addr()), os.ReadFile)
	if err != nil {
		b.Fatal(err)
	}
	port := func(addr string) int {
		n, err := strconv.Atoi(harness.PortOf(addr))
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	text, err := haproxy.Render(cfg, haproxy.Options{AgentInter: 50 * time.Millisecond, WritePort: port(h.addr), ReadPort: port(harness.FreePort(b)), Bind: "127.0.0.1", Socket: h.socket, Hold: hold, Dir: h.dir})
	if err != nil {
		b.Fatal(err)
	}
	if err := haproxy.Write(h.dir, text, hold > 0, io.Discard); err != nil {
		b.Fatal(err)
	}
	h.haproxy = exec.CommandContext(b.Context(), harness.RequireProgram(b, "haproxy"), "-db", "-f", filepath.Join(h.dir, "haproxy.cfg"))
	h.haproxy.Stdout, h.haproxy.Stderr = h.log, h.log
	if err := h.haproxy.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		h.haproxy.Process.Kill()
		h.haproxy.Wait()
	})
	harness.Eventually(b, harness.Soon, func() error { return harness.Want(h.stat("BACKEND", "act") == 0, "that HAProxy answers") })
	h.must(b, "disable agent pg_rw/pg1; disable health pg_rw/pg1; set server pg_rw/pg1 health up")
	return h
}

// processor is the processor time of HAProxy's threads so far.
func (h *holding) processor(b *testing.B) time.Duration {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", h.haproxy.Process.Pid)) // nanoseconds, where stat has ticks of 10 ms
	if err != nil || len(files) == 0 {
		b.Fatalf("no processor time in /proc: %v", err)
	}
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// BenchmarkHold measures what a hold costs while there is a primary: HAProxy's
// processor time for a connection, in turns with and without.
func BenchmarkHold(b *testing.B) {
	const connections = 200 // a round
	sides := []*holding{measured(b, 0), measured(b, 10*time.Second)}
	for _, h := range sides {
		h.must(b, "set server pg_rw/pg1 state ready")
	}
	spent := make([]time.Duration, len(sides))
	rounds := 0
	for b.Loop() {
		for i := range sides {
			side := (i + rounds) % len(sides)
			before := sides[side].processor(b)
			for range connections {
				c := sides[side].connect(b)
				if got := c.answer(); got != "pg1" {
					b.Fatalf("got %q, want pg1", got)
				}
				c.conn.Close()
			}
			spent[side] += sides[side].processor(b) - before
		}
		rounds++
	}
	each := func(side int) float64 { return spent[side].Seconds() * 1e6 / float64(rounds*connections) }
	b.ReportMetric(each(0), "µs-without/conn")
	b.ReportMetric(each(1), "µs-with/conn")
	b.ReportMetric(each(1)/each(0), "ratio")
}

// BenchmarkHoldWaiting measures what those that wait cost, in percent of one
// processor, and when the last of them has its answer.
func BenchmarkHoldWaiting(b *testing.B) {
	for _, n := range []int{1, 100, 2000, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			h := measured(b, 10*time.Second)
			var waited, spent, last time.Duration
			rounds := 0
			for b.Loop() {
				clients := h.connectMany(b, n)
				h.untilWaiting(b, n)
				start, before := time.Now(), h.processor(b)
				time.Sleep(time.Second)
				spent += h.processor(b) - before
				waited += time.Since(start)
				start = time.Now()
				h.must(b, "set server pg_rw/pg1 state ready")
				if got := answers(clients); got["pg1"] != n {
					b.Fatalf("got %v, want %d by pg1", got, n)
				}
				last += time.Since(start)
				for _, c := range clients {
					c.conn.Close()
				}
				h.must(b, "set server pg_rw/pg1 state maint")
				h.untilWaiting(b, 0)
				rounds++
			}
			b.ReportMetric(100*spent.Seconds()/waited.Seconds(), "%processor")
			b.ReportMetric(last.Seconds()*1e3/float64(rounds), "ms-to-last-answer")
		})
	}
}
