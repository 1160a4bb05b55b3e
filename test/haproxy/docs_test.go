package haproxy

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
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

	"patroniglue/contrib/lab"
	"patroniglue/internal/config"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// end ends a process and waits for it.
func end(t *testing.T, c *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	c.Wait()
}

// TestWhichChecks is the proof of that table in docs/haproxy.md, for the choices
// that we do not print.
func TestWhichChecks(t *testing.T) { harness.Matrix(t, testWhichChecks) }

func testWhichChecks(t *testing.T, suite lab.Suite) {
	t.Run("HTTP only", func(t *testing.T) {
		t.Parallel()
		agent := regexp.MustCompile(`(?m)^  default-server (disabled|agent-check.*)\n| agent-send ".*"`)
		s := harness.StartSmallEdited(t, suite, func(printed string) string {
			return strings.ReplaceAll(agent.ReplaceAllString(printed, ""), "/health\n", "/replica\n")
		})
		s.Keeps(t, harness.Servers("UP DOWN DOWN", "DOWN UP UP"))
		s.Sim.Switchover("pg2")
		s.Keeps(t, harness.Servers("DOWN UP DOWN", "UP DOWN UP"))
		end(t, s.Supervisor, os.Kill)
		s.Keeps(t, harness.Servers("DOWN DOWN DOWN", "DOWN DOWN DOWN"))
	})
	t.Run("agent only", func(t *testing.T) {
		t.Parallel()
		check := regexp.MustCompile(`(?m)^  (default-server check|option httpchk|http-check).*\n`)
		s := harness.StartSmallEdited(t, suite, func(printed string) string { return check.ReplaceAllString(printed, "") })
		inService := harness.Servers("NONE MAINT MAINT", "MAINT NONE NONE")
		s.Keeps(t, inService)
		end(t, s.Supervisor, os.Kill)
		s.Sim.Kill("pg1")
		s.Keeps(t, inService) // which is why nobody should
		if got := s.WritesTo(); got != "pg1" {
			t.Errorf("a write reached %q, want the dead pg1", got)
		}
	})
}

// TestWhenAPartDies is the proof of that table in docs/haproxy.md, for the rows
// that need no real database.
func TestWhenAPartDies(t *testing.T) { harness.Matrix(t, testWhenAPartDies) }

func testWhenAPartDies(t *testing.T, suite lab.Suite) {
	primaryOut, allOut := harness.Servers("DOWN MAINT MAINT", "DOWN UP UP"), harness.Servers("DOWN MAINT MAINT", "MAINT DOWN DOWN")
	tests := []struct {
		name  string
		flags []string
		steps func(t *testing.T, s *harness.Small)
	}{
		{"supervisor killed", nil, func(t *testing.T, s *harness.Small) {
			end(t, s.Supervisor, os.Kill)
			s.Keeps(t, allOut)
			s.StartSupervisor(t)
			s.Keeps(t, harness.Normal)
		}},
		{"supervisor killed with -direct", []string{"-direct"}, func(t *testing.T, s *harness.Small) {
			end(t, s.Supervisor, os.Kill)
			s.Keeps(t, harness.Normal)
			s.Sim.Switchover("pg2") // which nobody tells HAProxy
			s.Keeps(t, harness.Servers("DOWN MAINT MAINT", "MAINT DOWN UP"))
			s.StartSupervisor(t)
			s.Keeps(t, harness.Servers("MAINT UP MAINT", "UP MAINT UP"))
		}},
		{"supervisor stopped", nil, func(t *testing.T, s *harness.Small) {
			end(t, s.Supervisor, syscall.SIGTERM)
			s.Keeps(t, allOut)
		}},
		{"supervisor frozen", nil, func(t *testing.T, s *harness.Small) {
			s.Signal(t, syscall.SIGSTOP)
			s.Keeps(t, allOut)
			s.Signal(t, syscall.SIGCONT)
			s.Keeps(t, harness.Normal)
		}},
		{"agent port alone dead", nil, func(t *testing.T, s *harness.Small) {
			s.Agents.Cut()
			s.Keeps(t, harness.Normal)
			s.Sim.Switchover("pg2")
			s.Keeps(t, harness.Servers("DOWN MAINT MAINT", ""))
			s.Agents.Mend(t)
			s.Keeps(t, harness.Servers("MAINT UP MAINT", "UP MAINT UP"))
		}},
		{"HAProxy killed", nil, func(t *testing.T, s *harness.Small) {
			end(t, s.HAProxy, os.Kill)
			s.StartHAProxy(t)
			s.Keeps(t, harness.Normal)
		}},
		{"primary frozen or out of reach", nil, func(t *testing.T, s *harness.Small) {
			s.Sim.Node("pg1").Freeze()
			s.Keeps(t, primaryOut)
			s.Sim.Node("pg1").Thaw()
			s.Keeps(t, harness.Normal)
		}},
		{"replica frozen or out of reach", nil, func(t *testing.T, s *harness.Small) {
			s.Sim.Node("pg2").Freeze()
			s.Keeps(t, harness.Servers("UP DOWN MAINT", "MAINT DOWN UP"))
			s.Sim.Node("pg2").Thaw()
			s.Keeps(t, harness.Normal)
		}},
		{"primary lost", nil, func(t *testing.T, s *harness.Small) {
			s.Sim.Kill("pg1")
			s.Keeps(t, primaryOut)
			s.Sim.Failover("pg2")
			s.Keeps(t, harness.Servers("DOWN UP MAINT", "DOWN MAINT UP"))
		}},
		{"DCS lost with failsafe", nil, func(t *testing.T, s *harness.Small) {
			s.Sim.LoseDCS(true)
			s.Keeps(t, harness.Normal)
			s.Sim.RestoreDCS()
			s.Keeps(t, harness.Normal)
		}},
		{"DCS lost", nil, func(t *testing.T, s *harness.Small) {
			s.Sim.LoseDCS(false)
			s.Keeps(t, harness.Servers("MAINT MAINT MAINT", "UP UP UP"))
			s.Sim.RestoreDCS()
			s.Keeps(t, harness.Normal)
		}},
		{"two primaries", nil, func(t *testing.T, s *harness.Small) {
			before := s.Sim.Node("pg2").State()
			s.Sim.SplitBrain(false, "pg1", "pg2")
			s.Keeps(t, harness.Servers("DOWN DOWN MAINT", "MAINT MAINT UP"))
			s.Sim.Node("pg2").Set(func(to *nodetest.State) { *to = before })
			s.Keeps(t, harness.Normal)
		}},
		{"two primaries with -direct", []string{"-direct"}, func(t *testing.T, s *harness.Small) {
			s.Sim.SplitBrain(false, "pg1", "pg2")
			s.Keeps(t, harness.Servers("DOWN DOWN MAINT", "MAINT MAINT UP"))
			// The supervisor is gone and both were made ready by hand: the guard is what is left.
			end(t, s.Supervisor, os.Kill)
			if _, err := s.Says("set server pg_rw/pg1 agent up; set server pg_rw/pg2 agent up"); err != nil {
				t.Fatal(err)
			}
			s.Keeps(t, harness.Servers("UP UP MAINT", "MAINT MAINT UP"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			s := harness.StartSmall(t, suite, tt.flags...)
			s.Keeps(t, harness.Normal)
			if to := s.WritesTo(); to != "pg1" {
				t.Fatalf("a write reached %q, want pg1", to)
			}
			tt.steps(t, s)
			states, err := s.States()
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
			if to := s.WritesTo(); to != want {
				t.Errorf("a write reached %q, want %q", to, want)
			}
		})
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
func TestDocsRescue(t *testing.T) { harness.Matrix(t, testDocsRescue) }

func testDocsRescue(t *testing.T, suite lab.Suite) {
	s := harness.StartSmall(t, suite)
	s.Shows(t, harness.Normal)
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
		{name: "gone", before: func(t *testing.T) { end(t, s.Supervisor, os.Kill) }, after: func(t *testing.T) {
			for _, to := range []string{"pg2", "pg3", "pg1"} { // HAProxy follows Patroni
				s.Sim.Switchover(to)
				want := harness.Servers("DOWN DOWN DOWN", "")
				want["pg_rw/"+to] = "UP"
				s.Keeps(t, want)
				if got := s.WritesTo(); got != to {
					t.Errorf("a write reached %q, want %s", got, to)
				}
			}
			s.StartSupervisor(t)
			s.Shows(t, harness.Normal)
		}},
		{name: "returned", after: func(t *testing.T) {
			s.Sim.Switchover("pg2")
			s.Keeps(t, harness.Servers("MAINT UP MAINT", "UP MAINT UP"))
			s.Sim.Switchover("pg1")
		}},
		{name: "alone", before: func(t *testing.T) { end(t, s.Supervisor, os.Kill) }, after: func(t *testing.T) {
			if got := s.WritesTo(); got != "pg1" {
				t.Errorf("a write reached %q, want pg1", got)
			}
			s.StartSupervisor(t)
		}},
		{name: "watched"},
		{name: "reload"},
	}
	replacements := []string{"/run/haproxy/admin.sock", s.Path("admin.sock"), "127.0.0.1 port 8009", "127.0.0.1 port " + harness.PortOf(s.HTTP)}
	for i, n := range s.Sim.Nodes() {
		replacements = append(replacements, fmt.Sprintf("10.0.0.%d port 8008", 11+i), "127.0.0.1 port "+harness.PortOf(n.Addr()))
	}
	here := strings.NewReplacer(replacements...)
	ran := []string{"helper"}
	for _, step := range steps {
		ran = append(ran, step.name)
		t.Run(step.name, func(t *testing.T) {
			if step.before != nil {
				s.Shows(t, harness.Normal)
				step.before(t)
			}
			block := blocks[step.name]
			if block.text == "" {
				t.Fatalf("docs/haproxy.md: no block ```sh %s", step.name)
			}
			s.Types(t, here.Replace(blocks["helper"].text), here.Replace(block.text))
			if step.after != nil {
				step.after(t)
			}
		})
		if t.Failed() {
			return // the next would not begin as it should
		}
	}
	s.Shows(t, harness.Normal)
	for _, name := range names {
		if !slices.Contains(ran, name) {
			t.Errorf("docs/haproxy.md:%d: no step runs this block", blocks[name].line)
		}
	}
}

// TestDocsMovingOver: of the files in docs/haproxy.md the linter says of the old
// ones what stands there, and the new one is what we print.
func TestDocsMovingOver(t *testing.T) {
	files, names := docBlocks(t, "haproxy")
	configs, _ := docBlocks(t, "toml")
	dir := t.TempDir()
	config := filepath.Join(dir, "c.toml")
	if err := os.WriteFile(config, []byte(configs["after"].text), 0o600); err != nil {
		t.Fatal(err)
	}
	program := func(args ...string) string {
		var stdout, stderr bytes.Buffer
		code := harness.Command(t.Context(), append([]string{"-config", config, "haproxy"}, args...), &stdout, &stderr)
		if said := stderr.String(); code > 1 || said != "" && !strings.HasSuffix(said, ": nothing was judged\n") {
			t.Fatalf("exit code %d: %s", code, said)
		}
		return stdout.String()
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "haproxy.cfg")
			if err := os.WriteFile(file, []byte(files[name].text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(program("-lint", file), file, "haproxy.cfg")
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
	if *harness.Update {
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
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	all := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[cache]\nttl = '2s'\n"+harness.FastPolls+harness.NodesOf(sim, ""))

	// A supervisor of one node above the one of all.
	configs, _ := docBlocks(t, "toml")
	here := make(map[string]*harness.Program)
	for _, name := range []string{"pg1", "pg2"} {
		here[name] = harness.Start(t, name+".toml", harness.Replace(t, configs["here"].text,
			`host = ""`, `host = "127.0.0.1"`, "port = 8010", "port = 0", "http://127.0.0.1:8009", "http://"+all.HTTP, `"pg1"`, `"`+name+`"`, "/pg1", "/"+name))
	}
	answers := func(name string) string {
		var codes []string
		for _, path := range []string{"/primary", "/replica", "/read-only"} {
			resp, _ := harness.Ask(t, nil, "GET", "http://"+here[name].HTTP+path)
			codes = append(codes, strconv.Itoa(resp.StatusCode))
		}
		return strings.Join(codes, " ")
	}
	both := func(what, pg1, pg2 string) {
		t.Helper()
		harness.Eventually(t, harness.Soon, func() error { return harness.Want(answers("pg1") == pg1 && answers("pg2") == pg2, "that %s", what) })
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
		line := harness.Replace(t, script[1], "127.0.0.1:8009", all.HTTP, "/pg1/", "/"+name+"/")
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
		answer := rawAnswer(t, all.HTTP, strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(m[2]))
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
		if _, err := config.Parse("c.toml", []byte(configs[name].text), os.ReadFile); err != nil {
			t.Errorf("docs/haproxy.md:%d: %v", configs[name].line, err)
		}
	}
}

// TestDocsProofs: the tests that the documentation names exist.
func TestDocsProofs(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
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
func TestDocsAgentScript(t *testing.T) { harness.Matrix(t, testDocsAgentScript) }

func testDocsAgentScript(t *testing.T, suite lab.Suite) {
	harness.RequireProgramOf(t, suite, "haproxy")
	sim := harness.NewSimulated(t, "pg1", "pg2")
	configs, _ := docBlocks(t, "toml")
	files, _ := docBlocks(t, "haproxy")
	s := &harness.Small{Suite: suite, Sim: sim, Dir: t.TempDir()}
	file := harness.Replace(t, files["before-script"].text, "/run/haproxy/admin.sock", s.Path("admin.sock"),
		"agent-port 5555 ", "", " port 8008", "", "bind :5000", "bind "+harness.FreePort(t)) // on one machine each node has ports of its own
	for i, n := range sim.Nodes() {
		agent := harness.FreePort(t)
		text := harness.Replace(t, configs["script"].text, `"pg1"`, strconv.Quote(n.Name()), "http://127.0.0.1:8008", n.URL(), ":5555", agent)
		harness.Start(t, n.Name()+".toml", "[frontend]\n"+harness.AnyPort+text)
		file = harness.Replace(t, file, fmt.Sprintf("10.0.0.%d:5432", 11+i), fmt.Sprintf("127.0.0.1:9 port %s agent-port %s", harness.PortOf(n.Addr()), harness.PortOf(agent)))
	}
	s.Write(t, "haproxy.cfg", file)
	s.StartHAProxy(t)
	t.Cleanup(func() { end(t, s.HAProxy, os.Kill) })
	s.Keeps(t, map[string]string{"primary/pg1": "UP", "primary/pg2": "MAINT"})
	sim.Switchover("pg2")
	s.Keeps(t, map[string]string{"primary/pg1": "MAINT", "primary/pg2": "UP"})
}
