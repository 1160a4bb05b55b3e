package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patroniglue/node/nodetest"
)

// small is a simulated cluster of pg1, pg2 and pg3, the program as a process of
// its own, and a real HAProxy with what "patroniglue haproxy" prints. pg1 leads.
type small struct {
	sim        *nodetest.Cluster
	dir        string // has c.toml, haproxy.cfg and admin.sock
	http       string // of the program, host:port
	writes     string // where HAProxy takes connections for the primary, host:port
	agents     *relay // between HAProxy and the program's agent port
	supervisor *exec.Cmd
	haproxy    *exec.Cmd
}

func startSmall(t *testing.T, flags ...string) *small {
	t.Helper()
	return startSmallEdited(t, func(printed string) string { return printed }, flags...)
}

func startSmallEdited(t *testing.T, edit func(printed string) string, flags ...string) *small {
	t.Helper()
	requireProgram(t, "haproxy")
	agent := freePort(t)
	s := &small{sim: newSimulated(t, "pg1", "pg2", "pg3"), dir: t.TempDir(), http: freePort(t), agents: startRelay(t, agent)}
	text := fmt.Sprintf("[frontend]\nhost = '127.0.0.1'\nport = %s\n[cache]\nttl = '2s'\n", portOf(s.http)) + fastPolls + nodesOf(s.sim, "")
	for i, n := range s.sim.Nodes() {
		text = replace(t, text, fmt.Sprintf("10.0.0.%d:5432", 11+i), listenAs(t, n.Name()))
	}
	s.write(t, "c.toml", text+fmt.Sprintf("[agent]\nlisten = '%s'\n", agent))
	s.write(t, "relayed.toml", text+fmt.Sprintf("[agent]\nlisten = '%s'\n", s.agents.addr))

	flags = append([]string{"-config", s.path("relayed.toml"), "haproxy", "-socket", s.path("admin.sock"), "-user", "", "-stats-port", "0",
		"-bind", "127.0.0.1", "-write-port", portOf(freePort(t)), "-read-port", portOf(freePort(t))}, flags...)
	var stdout, stderr bytes.Buffer
	if code := command(t.Context(), flags, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	s.write(t, "haproxy.cfg", edit(stdout.String()))
	s.writes = writePort.FindStringSubmatch(stdout.String())[1]
	s.startSupervisor(t)
	s.startHAProxy(t)
	t.Cleanup(func() {
		for _, c := range []*exec.Cmd{s.haproxy, s.supervisor} {
			c.Process.Kill()
			c.Wait()
			if t.Failed() {
				t.Logf("%s said:\n%s", filepath.Base(c.Path), c.Stderr)
			}
		}
	})
	return s
}

var writePort = regexp.MustCompile(`(?m)^listen pg_rw\n  bind (\S+)$`)

// listenAs stands in for PostgreSQL: it tells its name to whoever connects.
func listenAs(t *testing.T, name string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, name)
			c.Close()
		}
	}()
	return ln.Addr().String()
}

// writesTo is the database that a new connection for the primary reaches, "" for none.
func (s *small) writesTo() string {
	c, err := net.DialTimeout("tcp", s.writes, 5*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	name, _ := io.ReadAll(c) // refused is none
	return string(name)
}

func (s *small) path(name string) string { return filepath.Join(s.dir, name) }

func (s *small) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *small) startSupervisor(t *testing.T) {
	t.Helper()
	s.supervisor = launch(t, builtBinary(t), "-config", s.path("c.toml"))
}

func (s *small) startHAProxy(t *testing.T, args ...string) {
	t.Helper()
	s.haproxy = launch(t, requireProgram(t, "haproxy"), append([]string{"-db", "-f", s.path("haproxy.cfg")}, args...)...)
}

// reload is what systemctl reload haproxy does.
func (s *small) reload(t *testing.T) {
	t.Helper()
	old := s.haproxy
	s.startHAProxy(t, "-sf", strconv.Itoa(old.Process.Pid))
	old.Wait()
}

func launch(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stderr = new(bytes.Buffer)
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// end ends a process and waits for it.
func end(t *testing.T, c *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	c.Wait()
}

// relay passes connections on until it is cut, and listens again when mended.
type relay struct {
	addr, to string
	ln       net.Listener
}

func startRelay(t *testing.T, to string) *relay {
	r := &relay{addr: "127.0.0.1:0", to: to}
	r.mend(t)
	t.Cleanup(r.cut)
	return r
}

func (r *relay) mend(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.ln, r.addr = ln, ln.Addr().String()
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}

func (r *relay) cut() { r.ln.Close() }

// shows waits until HAProxy has these servers in the states that are wanted.
func (s *small) shows(t *testing.T, want map[string]string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error { return s.differs(want) })
}

// keeps is shows, and that nothing undoes it while HAProxy asks its agents five
// times and its checks once.
func (s *small) keeps(t *testing.T, want map[string]string) {
	t.Helper()
	s.shows(t, want)
	for end := time.Now().Add(1200 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := s.differs(want); err != nil {
			t.Fatalf("it does not stay: %v", err)
		}
	}
}

func (s *small) differs(want map[string]string) error {
	got, err := s.states()
	if err != nil {
		return err
	}
	maps.DeleteFunc(got, func(server, _ string) bool { return want[server] == "" })
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("HAProxy's show stat (-want +got)\n%s", diff)
	}
	return nil
}

// stateWord takes "DOWN (agent)" for DOWN, and "UP 1/2", where a check has failed
// once, for UP.
var stateWord = regexp.MustCompile(`^no check|^\S+`)

func (s *small) states() (map[string]string, error) {
	answer, err := s.says("show stat")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(strings.TrimSpace(answer), "# "))).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("reading %q: %w", answer, err)
	}
	got := make(map[string]string)
	for _, row := range rows[1:] {
		if proxy, server := row[0], row[1]; server != "FRONTEND" && server != "BACKEND" {
			got[proxy+"/"+server] = stateWord.FindString(row[17])
		}
	}
	return got, nil
}

func (s *small) says(command string) (string, error) {
	c, err := net.Dial("unix", s.path("admin.sock"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// servers writes down what pg1, pg2 and pg3 are for writes, then for reads. What
// HAProxy calls "no check" is NONE here.
func servers(write, read string) map[string]string {
	m := make(map[string]string)
	for proxy, words := range map[string]string{"pg_rw": write, "pg_ro": read} {
		for i, word := range strings.Fields(words) {
			m[fmt.Sprintf("%s/pg%d", proxy, i+1)] = strings.Replace(word, "NONE", "no check", 1)
		}
	}
	return m
}

var normal = servers("UP MAINT MAINT", "MAINT UP UP")

// TestWhichChecks is the proof of that table in docs/haproxy.md, for the choices
// that we do not print.
func TestWhichChecks(t *testing.T) {
	t.Run("HTTP only", func(t *testing.T) {
		t.Parallel()
		agent := regexp.MustCompile(`(?m)^  default-server (disabled|agent-check.*)\n| agent-send ".*"`)
		s := startSmallEdited(t, func(printed string) string {
			return strings.ReplaceAll(agent.ReplaceAllString(printed, ""), "/health\n", "/replica\n")
		})
		s.keeps(t, servers("UP DOWN DOWN", "DOWN UP UP"))
		s.sim.Switchover("pg2")
		s.keeps(t, servers("DOWN UP DOWN", "UP DOWN UP"))
		end(t, s.supervisor, os.Kill)
		s.keeps(t, servers("DOWN DOWN DOWN", "DOWN DOWN DOWN"))
	})
	t.Run("agent only", func(t *testing.T) {
		t.Parallel()
		check := regexp.MustCompile(`(?m)^  (default-server check|option httpchk|http-check).*\n`)
		s := startSmallEdited(t, func(printed string) string { return check.ReplaceAllString(printed, "") })
		inService := servers("NONE MAINT MAINT", "MAINT NONE NONE")
		s.keeps(t, inService)
		end(t, s.supervisor, os.Kill)
		s.sim.Kill("pg1")
		s.keeps(t, inService) // which is why nobody should
		if got := s.writesTo(); got != "pg1" {
			t.Errorf("a write reached %q, want the dead pg1", got)
		}
	})
}

// TestWhenAPartDies is the proof of that table in docs/haproxy.md, for the rows
// that need no real database.
func TestWhenAPartDies(t *testing.T) {
	primaryOut, allOut := servers("DOWN MAINT MAINT", "DOWN UP UP"), servers("DOWN MAINT MAINT", "MAINT DOWN DOWN")
	tests := []struct {
		name  string
		flags []string
		steps func(t *testing.T, s *small)
	}{
		{"supervisor killed", nil, func(t *testing.T, s *small) {
			end(t, s.supervisor, os.Kill)
			s.keeps(t, allOut)
			s.startSupervisor(t)
			s.keeps(t, normal)
		}},
		{"supervisor killed with -direct", []string{"-direct"}, func(t *testing.T, s *small) {
			end(t, s.supervisor, os.Kill)
			s.keeps(t, normal)
			s.sim.Switchover("pg2") // which nobody tells HAProxy
			s.keeps(t, servers("DOWN MAINT MAINT", "MAINT DOWN UP"))
			s.startSupervisor(t)
			s.keeps(t, servers("MAINT UP MAINT", "UP MAINT UP"))
		}},
		{"supervisor stopped", nil, func(t *testing.T, s *small) {
			end(t, s.supervisor, syscall.SIGTERM)
			s.keeps(t, allOut)
		}},
		{"supervisor frozen", nil, func(t *testing.T, s *small) {
			s.signal(t, syscall.SIGSTOP)
			s.keeps(t, allOut)
			s.signal(t, syscall.SIGCONT)
			s.keeps(t, normal)
		}},
		{"agent port alone dead", nil, func(t *testing.T, s *small) {
			s.agents.cut()
			s.keeps(t, normal)
			s.sim.Switchover("pg2")
			s.keeps(t, servers("DOWN MAINT MAINT", ""))
			s.agents.mend(t)
			s.keeps(t, servers("MAINT UP MAINT", "UP MAINT UP"))
		}},
		{"HAProxy killed", nil, func(t *testing.T, s *small) {
			end(t, s.haproxy, os.Kill)
			s.startHAProxy(t)
			s.keeps(t, normal)
		}},
		{"primary frozen or out of reach", nil, func(t *testing.T, s *small) {
			s.sim.Node("pg1").Freeze()
			s.keeps(t, primaryOut)
			s.sim.Node("pg1").Thaw()
			s.keeps(t, normal)
		}},
		{"replica frozen or out of reach", nil, func(t *testing.T, s *small) {
			s.sim.Node("pg2").Freeze()
			s.keeps(t, servers("UP DOWN MAINT", "MAINT DOWN UP"))
			s.sim.Node("pg2").Thaw()
			s.keeps(t, normal)
		}},
		{"primary lost", nil, func(t *testing.T, s *small) {
			s.sim.Kill("pg1")
			s.keeps(t, primaryOut)
			s.sim.Failover("pg2")
			s.keeps(t, servers("DOWN UP MAINT", "DOWN MAINT UP"))
		}},
		{"DCS lost with failsafe", nil, func(t *testing.T, s *small) {
			s.sim.LoseDCS(true)
			s.keeps(t, normal)
			s.sim.RestoreDCS()
			s.keeps(t, normal)
		}},
		{"DCS lost", nil, func(t *testing.T, s *small) {
			s.sim.LoseDCS(false)
			s.keeps(t, servers("MAINT MAINT MAINT", "UP UP UP"))
			s.sim.RestoreDCS()
			s.keeps(t, normal)
		}},
		{"two primaries", nil, func(t *testing.T, s *small) {
			before := s.sim.Node("pg2").State()
			s.sim.SplitBrain(false, "pg1", "pg2")
			s.keeps(t, servers("DOWN DOWN MAINT", "MAINT MAINT UP"))
			s.sim.Node("pg2").Set(func(to *nodetest.State) { *to = before })
			s.keeps(t, normal)
		}},
		{"two primaries with -direct", []string{"-direct"}, func(t *testing.T, s *small) {
			s.sim.SplitBrain(false, "pg1", "pg2")
			s.keeps(t, servers("DOWN DOWN MAINT", "MAINT MAINT UP"))
			// The supervisor is gone and both were made ready by hand: the guard is what is left.
			end(t, s.supervisor, os.Kill)
			if _, err := s.says("set server pg_rw/pg1 agent up; set server pg_rw/pg2 agent up"); err != nil {
				t.Fatal(err)
			}
			s.keeps(t, servers("UP UP MAINT", "MAINT MAINT UP"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			s := startSmall(t, tt.flags...)
			s.keeps(t, normal)
			if to := s.writesTo(); to != "pg1" {
				t.Fatalf("a write reached %q, want pg1", to)
			}
			tt.steps(t, s)
			states, err := s.states()
			if err != nil {
				t.Fatal(err)
			}
			var up []string
			for name, state := range states {
				if server, ok := strings.CutPrefix(name, "pg_rw/"); ok && state == "UP" {
					up = append(up, server)
				}
			}
			want := ""
			if len(up) == 1 {
				want = up[0]
			}
			if to := s.writesTo(); to != want {
				t.Errorf("a write reached %q, want %q", to, want)
			}
		})
	}
}

func (s *small) signal(t *testing.T, what os.Signal) {
	t.Helper()
	if err := s.supervisor.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

// docBlock is a fenced block of docs/haproxy.md that a test uses: its first line
// is ```LANGUAGE NAME.
type docBlock struct {
	line int
	text string
}

// docBlocks gives the blocks of one language by name, and the names in order.
func docBlocks(t *testing.T, language string) (blocks map[string]docBlock, names []string) {
	t.Helper()
	data, err := os.ReadFile("docs/haproxy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks = make(map[string]docBlock)
	name, open := "", false
	for i, line := range strings.Split(string(data), "\n") {
		switch fence, found := strings.CutPrefix(line, "```"); {
		case found && open:
			name, open = "", false
		case found:
			lang, n, _ := strings.Cut(fence, " ")
			if n == "" {
				t.Errorf("docs/haproxy.md:%d: a block without a name: no test knows it", i+1)
			}
			if open = true; lang == language {
				if _, twice := blocks[n]; twice {
					t.Errorf("docs/haproxy.md:%d: two blocks are called %q", i+1, n)
				}
				name, names, blocks[n] = n, append(names, n), docBlock{line: i + 1}
			}
		case name != "":
			b := blocks[name]
			b.text += line + "\n"
			blocks[name] = b
		}
	}
	return blocks, names
}

// TestDocsRescue types what docs/haproxy.md says, block by block, and looks at
// what HAProxy makes of it. A comment such as "# pg_rw/pg1 is UP" is what must
// then be so, and stay so.
func TestDocsRescue(t *testing.T) {
	s := startSmall(t)
	s.shows(t, normal)
	blocks, names := docBlocks(t, "sh")
	steps := []struct {
		name          string
		before, after func(t *testing.T)
	}{
		{name: "look"},
		{name: "out"},
		{name: "back"},
		{name: "drain"},
		{name: "drained"},
		{name: "weight"},
		{name: "weighed"},
		{name: "gone", before: func(t *testing.T) { end(t, s.supervisor, os.Kill) }, after: func(t *testing.T) {
			for _, to := range []string{"pg2", "pg3", "pg1"} { // HAProxy follows Patroni
				s.sim.Switchover(to)
				want := servers("DOWN DOWN DOWN", "")
				want["pg_rw/"+to] = "UP"
				s.keeps(t, want)
				if got := s.writesTo(); got != to {
					t.Errorf("a write reached %q, want %s", got, to)
				}
			}
			s.startSupervisor(t)
			s.shows(t, normal)
		}},
		{name: "returned", after: func(t *testing.T) {
			s.sim.Switchover("pg2")
			s.keeps(t, servers("MAINT UP MAINT", "UP MAINT UP"))
			s.sim.Switchover("pg1")
		}},
		{name: "alone", before: func(t *testing.T) { end(t, s.supervisor, os.Kill) }, after: func(t *testing.T) {
			if got := s.writesTo(); got != "pg1" {
				t.Errorf("a write reached %q, want pg1", got)
			}
			s.startSupervisor(t)
		}},
		{name: "watched"},
		{name: "reload"},
	}
	replacements := []string{"/run/haproxy/admin.sock", s.path("admin.sock"), "127.0.0.1 port 8009", "127.0.0.1 port " + portOf(s.http)}
	for i, n := range s.sim.Nodes() {
		replacements = append(replacements, fmt.Sprintf("10.0.0.%d port 8008", 11+i), "127.0.0.1 port "+portOf(n.Addr()))
	}
	here := strings.NewReplacer(replacements...)
	ran := []string{"helper"}
	for _, step := range steps {
		ran = append(ran, step.name)
		t.Run(step.name, func(t *testing.T) {
			if step.before != nil {
				s.shows(t, normal)
				step.before(t)
			}
			block := blocks[step.name]
			if block.text == "" {
				t.Fatalf("docs/haproxy.md: no block ```sh %s", step.name)
			}
			s.types(t, here.Replace(blocks["helper"].text), here.Replace(block.text))
			if step.after != nil {
				step.after(t)
			}
		})
		if t.Failed() {
			return // the next would not begin as it should
		}
	}
	s.shows(t, normal)
	for _, name := range names {
		if !slices.Contains(ran, name) {
			t.Errorf("docs/haproxy.md:%d: no step runs this block", blocks[name].line)
		}
	}
}

var isState = regexp.MustCompile(`(pg_r[wo]/pg\d) is (no check|[A-Z]+)`)

// types runs a block, and stops at every comment that tells states.
func (s *small) types(t *testing.T, helper, block string) {
	t.Helper()
	var script strings.Builder
	flush := func() {
		out, err := exec.CommandContext(t.Context(), "bash", "-euc", helper+script.String()).CombinedOutput()
		if answer := strings.TrimSpace(string(out)); err != nil || !obeyed.MatchString(answer) {
			t.Fatalf("%v, it said %q:\n%s", err, answer, &script)
		}
		script.Reset()
	}
	for line := range strings.Lines(block) {
		want := make(map[string]string)
		if strings.HasPrefix(line, "#") {
			for _, m := range isState.FindAllStringSubmatch(line, -1) {
				want[m[1]] = m[2]
			}
		}
		switch {
		case line == "systemctl reload haproxy\n":
			flush()
			s.reload(t)
		case len(want) > 0:
			flush()
			s.keeps(t, want)
		default:
			script.WriteString(line)
		}
	}
	flush()
}

// obeyed: HAProxy answers a command that it obeys with an empty line, but what it
// is asked for. All else is an error.
var obeyed = regexp.MustCompile(`^$|^50 \(initial 100\)$|^# pxname,svname,status\n(?s:.*)pg_rw,pg1,UP`)

// TestDocsMovingOver: HAProxy takes every file of docs/haproxy.md, the linter
// says of the old ones what stands there, and the new one is what we print.
func TestDocsMovingOver(t *testing.T) {
	files, names := docBlocks(t, "haproxy")
	configs, _ := docBlocks(t, "toml")
	dir := t.TempDir()
	config := filepath.Join(dir, "c.toml")
	if err := os.WriteFile(config, []byte(configs["after"].text), 0o600); err != nil {
		t.Fatal(err)
	}
	program := func(args ...string) string {
		var out bytes.Buffer
		if code := command(t.Context(), append([]string{"-config", config, "haproxy"}, args...), &out, &out); code > 1 || strings.Contains(out.String(), "patroniglue: ") {
			t.Fatalf("exit code %d: %s", code, &out)
		}
		return out.String()
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "haproxy.cfg")
			if err := os.WriteFile(file, []byte(files[name].text), 0o600); err != nil {
				t.Fatal(err)
			}
			acceptedByHAProxy(t, file)
			got := strings.ReplaceAll(program("-lint", file), file, "haproxy.cfg")
			if name == "alive" {
				got = "" // it is no section for databases: nothing was judged
			}
			if strings.HasPrefix(name, "before-") == (got == "") {
				t.Errorf("-lint said %q", got)
			}
			if got != "" {
				docGolden(t, "```text "+name, got)
			}
		})
	}
	comments := regexp.MustCompile(`\A(#.*\n)+\n`)
	docGolden(t, "```haproxy after", strings.TrimRight(comments.ReplaceAllString(program(), ""), "\n")+"\n")
}

// docGolden compares got with the block that begins with a fence. -update writes it.
func docGolden(t *testing.T, fence, got string) {
	t.Helper()
	data, err := os.ReadFile("docs/haproxy.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), "\n"+fence+"\n")
	want, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("docs/haproxy.md: no block %q", fence)
	}
	if *update {
		if err := os.WriteFile("docs/haproxy.md", []byte(before+"\n"+fence+"\n"+got+"```\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("docs/haproxy.md, %s (go test -run %s -update . writes it) (-there +is):\n%s", fence, t.Name(), diff)
	}
}

// TestDocsOtherLoadBalancers asks as docs/haproxy.md says that others ask.
func TestDocsOtherLoadBalancers(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	all := startProgram(t, "c.toml", "[frontend]\n"+anyPort+"[cache]\nttl = '2s'\n"+fastPolls+nodesOf(sim, ""))

	// A supervisor of one node above the one of all.
	configs, _ := docBlocks(t, "toml")
	here := make(map[string]*program)
	for _, name := range []string{"pg1", "pg2"} {
		here[name] = startProgram(t, name+".toml", replace(t, configs["here"].text,
			`host = ""`, `host = "127.0.0.1"`, "port = 8010", "port = 0", "http://127.0.0.1:8009", "http://"+all.http, `"pg1"`, `"`+name+`"`, "/pg1", "/"+name))
	}
	answers := func(name string) string {
		var codes []string
		for _, path := range []string{"/primary", "/replica", "/read-only"} {
			resp, _ := ask(t, nil, "GET", "http://"+here[name].http+path)
			codes = append(codes, strconv.Itoa(resp.StatusCode))
		}
		return strings.Join(codes, " ")
	}
	both := func(what, pg1, pg2 string) {
		t.Helper()
		until(t, what, func() bool { return answers("pg1") == pg1 && answers("pg2") == pg2 })
	}
	both("pg1 leads", "200 503 200", "503 200 200")
	sim.Switchover("pg2")
	both("pg2 leads", "503 200 200", "200 503 200")
	sim.Switchover("pg1")
	both("pg1 leads again", "200 503 200", "503 200 200")
	sim.Node("pg1").Freeze()
	both("pg1 hangs", "503 503 503", "503 200 200")
	sim.Node("pg1").Thaw()
	both("pg1 goes on", "200 503 200", "503 200 200")

	// keepalived runs its script without a shell of its own; the URL is what counts.
	vrrp, _ := docBlocks(t, "keepalived")
	script := regexp.MustCompile(`script "(.*)"`).FindStringSubmatch(vrrp["vrrp"].text)
	if script == nil {
		t.Fatal("docs/haproxy.md: no script for keepalived")
	}
	for name, want := range map[string]bool{"pg1": true, "pg2": false} {
		line := replace(t, script[1], "127.0.0.1:8009", all.http, "/pg1/", "/"+name+"/")
		if err := exec.CommandContext(t.Context(), "sh", "-c", line).Run(); (err == nil) != want {
			t.Errorf("%s: %v, want success %t", line, err, want)
		}
	}

	f5, _ := docBlocks(t, "tmsh")
	monitors := regexp.MustCompile(`monitor http (\w+)_primary .* send "(.*)" recv "(.*)"`).FindAllStringSubmatch(f5["f5"].text, -1)
	if len(monitors) != 2 {
		t.Fatalf("docs/haproxy.md: %d monitors for F5, want 2", len(monitors))
	}
	for _, m := range monitors {
		answer := rawAnswer(t, all.http, strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(m[2]))
		if got, want := regexp.MustCompile(m[3]).MatchString(answer), m[1] == "pg1"; got != want {
			t.Errorf("monitor of %s: received %q, in service %t, want %t", m[1], answer, got, want)
		}
	}

	// Two that claim are what a supervisor of one node cannot see by itself.
	sim.SplitBrain(false, "pg1", "pg2")
	both("two claim", "503 503 503", "503 503 503")
}

func rawAnswer(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocsConfigurations: patroniglue takes every configuration that
// docs/haproxy.md shows.
func TestDocsConfigurations(t *testing.T) {
	configs, names := docBlocks(t, "toml")
	for _, name := range names {
		if _, err := parseConfig([]byte(configs[name].text), os.ReadFile); err != nil {
			t.Errorf("docs/haproxy.md:%d: %v", configs[name].line, err)
		}
	}
}

// TestDocsProofs: the tests that the documentation names exist.
func TestDocsProofs(t *testing.T) {
	var tests strings.Builder
	for _, dir := range []string{".", "cluster", "discovery"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	for _, doc := range []string{"docs/haproxy.md", "docs/reliability.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`(Test\\w+)(?:/([^`]+))?`").FindAllStringSubmatch(string(text), -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", doc)
		}
		for _, m := range named {
			if !strings.Contains(tests.String(), "func "+m[1]+"(t *testing.T)") {
				t.Errorf("%s: there is no test %s", doc, m[1])
			}
			if sub := strings.ReplaceAll(m[2], "_", " "); !strings.Contains(tests.String(), strconv.Quote(sub)) {
				t.Errorf("%s: %s has no subtest %q", doc, m[1], sub)
			}
		}
	}
}

// TestDocsAgentScript puts the program in the place of the script that answers
// READY and MAINT on each database machine. HAProxy's file stays as it was.
func TestDocsAgentScript(t *testing.T) {
	requireProgram(t, "haproxy")
	sim := newSimulated(t, "pg1", "pg2")
	configs, _ := docBlocks(t, "toml")
	files, _ := docBlocks(t, "haproxy")
	s := &small{sim: sim, dir: t.TempDir()}
	file := replace(t, files["before-script"].text, "/run/haproxy/admin.sock", s.path("admin.sock"),
		"agent-port 5555 ", "", " port 8008", "", "bind :5000", "bind "+freePort(t)) // on one machine each node has ports of its own
	for i, n := range sim.Nodes() {
		agent := freePort(t)
		text := replace(t, configs["script"].text, `"pg1"`, strconv.Quote(n.Name()), "http://127.0.0.1:8008", n.URL(), ":5555", agent)
		startProgram(t, n.Name()+".toml", "[frontend]\n"+anyPort+text)
		file = replace(t, file, fmt.Sprintf("10.0.0.%d:5432", 11+i), fmt.Sprintf("127.0.0.1:9 port %s agent-port %s", portOf(n.Addr()), portOf(agent)))
	}
	s.write(t, "haproxy.cfg", file)
	s.startHAProxy(t)
	t.Cleanup(func() { end(t, s.haproxy, os.Kill) })
	s.keeps(t, map[string]string{"primary/pg1": "UP", "primary/pg2": "MAINT"})
	sim.Switchover("pg2")
	s.keeps(t, map[string]string{"primary/pg1": "MAINT", "primary/pg2": "UP"})
}
