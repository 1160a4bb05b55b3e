package abuse

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"patroniglue/test/harness"
)

// What the daemon owes, whatever clients do to it with the default limits.
const (
	mostMemory  = 384 << 20              // bytes that it may take
	mostWait    = time.Second            // for a check: then HAProxy takes it for failed (timeout check in haproxy.cfg.tmpl)
	mostTries   = 3                      // as many failed ones it believes (fall)
	usuallyWait = 100 * time.Millisecond // for one of two checks; on a busy machine, too
)

// victim is a daemon in a process of its own, and what is asked of it meanwhile.
type victim struct {
	t           *testing.T
	http, agent string
	trust       *tls.Config
	pid         int
	log         *harness.Log
	quiet       time.Duration // p99 of checks when nobody else asks
	mostTimes   float64       // that it may be during an attack; 0 = any
}

// startVictim runs the binary with a shell command in front of it, and with more in
// [frontend], which is TLS where trust is not nil.
func startVictim(t *testing.T, before, frontend, text string, trust *tls.Config) *victim {
	t.Helper()
	v := &victim{t: t, http: harness.FreePort(t), agent: harness.FreePort(t), trust: trust, log: new(harness.Log)}
	if most := os.Getenv(abuseFactor); most != "" {
		var err error
		if v.mostTimes, err = strconv.ParseFloat(most, 64); err != nil {
			t.Fatalf("%s: %v", abuseFactor, err)
		}
	}
	path := harness.WriteFile(t, "c.toml", "[frontend]\nhost = '127.0.0.1'\nport = "+harness.PortOf(v.http)+"\n"+frontend+"[agent]\nlisten = '"+v.agent+"'\n"+text)
	cmd := exec.Command("sh", "-c", before+` exec "$0" -config "$1"`, harness.BuiltBinary(t), path)
	cmd.Stdout, cmd.Stderr = v.log, v.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v.pid = cmd.Process.Pid
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", v.log)
		}
	})
	harness.Until(t, "the daemon is ready", func() bool { return len(v.log.Lines("message", "ready: every node was polled")) > 0 })
	return v
}

func (v *victim) url() string {
	if v.trust != nil {
		return "https://" + v.http
	}
	return "http://" + v.http
}

// metric gives a sample of /metrics.
func (v *victim) metric(name string) float64 {
	v.t.Helper()
	_, body := harness.Ask(v.t, v.trust, "GET", v.url()+"/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (.*)$`).FindStringSubmatch(body)
	if m == nil {
		v.t.Fatalf("/metrics has no %s", name)
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		v.t.Fatal(err)
	}
	return f
}

// peak is the most memory that it had at once since the last time, in bytes.
func (v *victim) peak() int {
	v.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", v.pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		v.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	kb, err := strconv.Atoi(string(m[1]))
	if err == nil {
		err = os.WriteFile(proc+"clear_refs", []byte("5"), 0) // proc(5)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return kb << 10
}

// during asks as load balancers do for as long as f takes, at least for a while,
// and wants every answer to be right, and to be there in time.
func (v *victim) during(name string, f func()) (p99 time.Duration) {
	v.t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	again := 0
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, question := range []struct {
		node, check string
		passes      bool
	}{{"pg1", "primary", true}, {"pg2", "primary", false}, {"pg2", "replica", true}, {"pg1", "replica", false}} {
		for _, askOnce := range []func(node, check string) (bool, error){v.askHTTP, v.askAgent} {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(20 * time.Millisecond):
					}
					begun := time.Now()
					passes, err := askOnce(question.node, question.check)
					d := time.Since(begun)
					for try := 1; err != nil && try < mostTries; try++ {
						mu.Lock()
						again++
						mu.Unlock()
						passes, err = askOnce(question.node, question.check)
					}
					if err != nil || passes != question.passes {
						v.t.Errorf("%s: %s/%s passes: %v, %v", name, question.node, question.check, passes, err)
						return
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
	}
	begun := time.Now()
	f()
	time.Sleep(time.Until(begun.Add(600 * time.Millisecond)))
	close(done)
	wg.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		v.t.Fatalf("%s: no check was answered", name)
	}
	at := func(percent int) time.Duration { return took[(len(took)-1)*percent/100].Round(10 * time.Microsecond) }
	times := ""
	if v.quiet > 0 {
		times = fmt.Sprintf(", %.1f times the quiet one", float64(at(99))/float64(v.quiet))
	}
	peak := v.peak()
	v.t.Logf("%-46s %5d checks, median %8v, p99 %8v%s; %d asked again; %d MB", name, len(took), at(50), at(99), times, again, peak>>20)
	if peak > mostMemory {
		v.t.Errorf("%s: it takes %d MB of memory, want at most %d", name, peak>>20, mostMemory>>20)
	}
	if at(50) > usuallyWait {
		v.t.Errorf("%s: half of the checks took more than %v, want at most %v", name, at(50), usuallyWait)
	}
	return at(99)
}

// suffers is during, while that attack comes, and once it is there.
func (v *victim) suffers(name string, a attack) {
	v.t.Helper()
	for try := 1; ; try++ {
		var end func()
		worst := v.during(name, func() {
			var wait func()
			wait, end = a.start(v.t)
			wait()
		})
		if a.Hold {
			worst = max(worst, v.during(name+", there", func() {}))
		}
		end()
		times := float64(worst) / float64(v.quiet)
		if v.mostTimes == 0 || times <= v.mostTimes {
			return
		}
		if try == 3 {
			v.t.Errorf("%s: p99 %v is %.1f times the quiet one, three times over; want at most %v", name, worst, times, v.mostTimes)
			return
		}
	}
}

func (v *victim) askHTTP(node, check string) (bool, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), mostWait)
	defer cancel()
	resp, _, err := harness.TryToAsk(ctx, v.trust, "GET", v.url()+"/node/"+node+"/"+check)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != 200 && resp.StatusCode != 503 {
		return false, fmt.Errorf("status %s", resp.Status)
	}
	return resp.StatusCode == 200, nil
}

func (v *victim) askAgent(node, check string) (bool, error) {
	end := time.Now().Add(mostWait)
	conn, err := net.DialTimeout("tcp", v.agent, mostWait)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(end)
	if _, err := io.WriteString(conn, node+"/"+check+"\n"); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "ready up"), err
}

// Whoever abuses the ports, the checks of all others are answered rightly, and
// before HAProxy would give up. With -v it reports how long they took.
//
//	PATRONIGLUE_ABUSE_FACTOR=3 go test -run TestAbuse -v ./test/abuse
func TestAbuse(t *testing.T) {
	many := 10_000
	if most := mostFiles(t) - 1000; most < many {
		t.Logf("only %d connections at once, not %d: the test may open no more files", most, many)
		many = most
	}
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	v := startVictim(t, "", "", harness.NodesOf(sim, ""), nil)
	v.quiet = v.during("quiet", func() { time.Sleep(2 * time.Second) })

	held := func(name, addr string, n int, text string) {
		v.suffers(name, attack{Addr: addr, Connections: n, PerSecond: 5000, Hold: true, Text: []byte(text)})
	}
	held("idle HTTP connections", v.http, many, "")
	harness.Until(t, "idle connections have ended", func() bool { return v.metric("patroniglue_http_connections") < 16 })
	if gone := v.metric("patroniglue_http_connections_overflowed_total"); gone < float64(many-4096) {
		t.Errorf("%v connections gave way, of %d, want all but 4096", gone, many)
	}
	held("kept alive after a check", v.http, many, "GET /node/pg1/primary HTTP/1.1\r\nhost: x\r\n\r\n")
	held("half-sent HTTP requests", v.http, many, "GET /node/pg1/primary HTTP/1.1\r\nhost: ")
	held("headers of 8 kB without an end", v.http, many/2, "GET / HTTP/1.1\r\nx: "+strings.Repeat("y", 8_000))
	held("half-sent agent lines", v.agent, many, "pg1/prim")
	held("nothing sent to the agent", v.agent, many, "")
	held("pages that nobody reads", v.http, 2000, "GET / HTTP/1.0\r\n\r\n")
	held("metrics that nobody reads", v.http, 2000, "GET /metrics HTTP/1.0\r\n\r\n")
	held("histories that nobody reads", v.http, 2000, "GET /history HTTP/1.0\r\n\r\n")
	held("event streams that nobody reads", v.http, 2000, "GET /events HTTP/1.0\r\n\r\n")
	held("live pages that nobody reads", v.http, 2000, "GET /live HTTP/1.0\r\n\r\n")
	flood := func(name, addr string, n int, text string) {
		v.suffers(name, attack{Addr: addr, Connections: n, PerSecond: max(100, n/2), Text: []byte(text)})
	}
	flood("new HTTP connections, reset at once", v.http, 10_000, "")
	flood("new agent connections, reset at once", v.agent, 10_000, "")
	silent := v.metric("patroniglue_http_unanswered_total")
	flood("request lines of 1 MB", v.http, 200, "GET /"+strings.Repeat("a", 1<<20)+" HTTP/1.1\r\n\r\n")
	flood("100,000 headers", v.http, 200, "GET / HTTP/1.1\r\nhost: x\r\n"+strings.Repeat("a: b\r\n", 100_000)+"\r\n")
	harness.Until(t, "400 requests that are none are counted", func() bool { return v.metric("patroniglue_http_unanswered_total")-silent >= 400 })
	flood("lines of 1 MB to the agent", v.agent, 200, strings.Repeat("a", 1<<20))
	garbage := strings.Repeat("\x16\x03\x01\x00\xff\r\n\x00\xde\xad\r\n\r\n", 100)
	flood("garbage to HTTP", v.http, 5000, garbage)
	flood("garbage to the agent", v.agent, 5000, garbage)
	for _, n := range sim.Nodes() {
		n.ResetCounters()
	}
	begun := time.Now()
	flood("posts of refresh", v.http, 5000, "POST /node/pg1/refresh HTTP/1.1\r\nhost: x\r\n\r\n")
	for _, n := range sim.Nodes() {
		if polls, most := n.Total(), 12*int(time.Since(begun).Seconds()+1); polls > most || n.MaxOpen() > 1 {
			t.Errorf("refresh made Patroni of %s be asked %d times in %v, by %d connections at once", n.Name(), polls, time.Since(begun), n.MaxOpen())
		}
	}
	pipelined := func(name, request string) {
		v.suffers(name, attack{Addr: v.http, Connections: 4, Text: []byte(request), Times: 500, Answers: true})
	}
	pipelined("2,000 pipelined checks", "GET /node/pg1/primary HTTP/1.1\r\nhost: x\r\n\r\n")
	pipelined("2,000 pipelined posts of refresh", "POST /node/pg1/refresh HTTP/1.1\r\nhost: x\r\n\r\n")
	harness.Until(t, "nobody holds a connection any more", func() bool {
		return v.metric("patroniglue_http_connections") < 16 && v.metric("patroniglue_agent_connections") < 16
	})
	if lines := v.log.Lines("level", "error"); len(lines) > 0 {
		t.Errorf("it complained: %s", lines)
	}
}

// The same where checks come by TLS, which costs who answers more than who asks.
func TestAbuseOfTLS(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	v := startVictim(t, "", ca.Pair("server"), harness.NodesOf(sim, ""), &tls.Config{RootCAs: ca.Pool()})
	v.quiet = v.during("quiet, by TLS", func() { time.Sleep(2 * time.Second) })

	hello := clientHello(t)
	v.suffers("handshakes that nobody ends", attack{Addr: v.http, Connections: 2000, PerSecond: 1000, Hold: true, Text: hello})
	v.suffers("half of a handshake's first message", attack{Addr: v.http, Connections: 5000, PerSecond: 5000, Hold: true, Text: hello[:len(hello)/2]})
	v.suffers("requests without TLS", attack{Addr: v.http, Connections: 5000, PerSecond: 2500, Text: []byte("GET /node/pg1/primary HTTP/1.1\r\nhost: x\r\n\r\n")})
	if lines := v.log.Lines("level", "error"); len(lines) > 0 {
		t.Errorf("it complained: %s", lines)
	}
}

// clientHello is what a client of TLS sends first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		tls.Client(ours, &tls.Config{ServerName: "localhost"}).Handshake()
		ours.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := theirs.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// And whoever is not let in by the operators' listener.
func TestAbuseOfTheOperators(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), 10) // docs/security.md shows that cost
	if err != nil {
		t.Fatal(err)
	}
	operator := harness.FreePort(t)
	v := startVictim(t, "", "", "[operator]\nlisten = '"+operator+"'\npassword-file = '"+harness.WriteFile(t, "passwords", "alice:"+string(hash)+"\n")+"'\n"+harness.NodesOf(sim, ""), nil)
	v.quiet = v.during("quiet, beside operators", func() { time.Sleep(2 * time.Second) })

	login := "GET / HTTP/1.1\r\nhost: x\r\nauthorization: " + harness.BasicAuth("alice", "wrong") + "\r\n\r\n"
	v.suffers("wrong passwords", attack{Addr: operator, Connections: 5000, PerSecond: 2500, Hold: true, Text: []byte(login)})
	v.suffers("garbage to the operators' listener", attack{Addr: operator, Connections: 5000, PerSecond: 2500, Text: []byte("\x00\xff\r\n\r\n")})
	v.suffers("idle connections to the operators' listener", attack{Addr: operator, Connections: 10_000, PerSecond: 5000, Hold: true})
	if lines := v.log.Lines("level", "error"); len(lines) > 0 {
		t.Errorf("it complained: %s", lines)
	}
}

// With too few files for its limits it says so, takes fewer connections, and has
// files left for its polls.
func TestFewFiles(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	v := startVictim(t, "ulimit -n 256;", "", harness.NodesOf(sim, ""), nil)
	warnings := v.log.Values("message", "level", "warn")
	want := "limits: at most 72 HTTP and 72 agent connections, because the process may have 256 files open, want 8304 (LimitNOFILE of its systemd unit, or ulimit -n)"
	if !slices.Contains(warnings, want) {
		t.Errorf("it warns %q, want %q", warnings, want)
	}
	v.during("1000 idle connections with 256 files", func() {
		for _, addr := range []string{v.http, v.agent} {
			wait, end := attack{Addr: addr, Connections: 500, Hold: true}.start(t)
			wait()
			defer end()
		}
		time.Sleep(6 * time.Second) // beyond the ttl: it has to poll
	})
	if lines := v.log.Lines("level", "error"); len(lines) > 0 {
		t.Errorf("it complained: %s", lines)
	}
}

// mostFiles is how many files a process may have open.
func mostFiles(t *testing.T) int {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	return int(l.Cur)
}
