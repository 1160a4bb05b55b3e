package abuse

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"patroniglue/test/harness"
)

// TestAbuse: whatever some clients do to the ports, the checks of all others are
// answered rightly, before HAProxy would give up. With -v it reports how long they took.
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
	harness.Eventually(t, harness.Soon, func() error {
		got := v.metric("patroniglue_http_connections")
		return harness.Want(got < 16, "fewer than 16 connections, all others were idle (got %v)", got)
	})
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
	harness.Eventually(t, harness.Soon, func() error {
		got := v.metric("patroniglue_http_unanswered_total") - silent
		return harness.Want(got >= 400, "400 unanswered requests (got %v)", got)
	})
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
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(v.metric("patroniglue_http_connections") < 16 && v.metric("patroniglue_agent_connections") < 16, "fewer than 16 connections of each kind")
	})
	if lines := v.program.Log.Lines("level", "error"); len(lines) > 0 {
		t.Errorf("it complained: %s", lines)
	}
}

// TestAbuseOfTLS: the same for checks by TLS, which costs the server more than the client.
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
	if lines := v.program.Log.Lines("level", "error"); len(lines) > 0 {
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

// TestAbuseOfTheOperators: the same while clients without the password attack the
// operators' listener.
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
	if lines := v.program.Log.Lines("level", "error"); len(lines) > 0 {
		t.Errorf("it complained: %s", lines)
	}
}

// TestTooFewOpenFiles: a daemon that may open too few files for its limits logs that,
// takes fewer connections, and has files left for its polls.
func TestTooFewOpenFiles(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	v := startVictim(t, "ulimit -n 256;", "", harness.NodesOf(sim, ""), nil)
	warnings := v.program.Log.Values("message", "level", "warn")
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
	if lines := v.program.Log.Lines("level", "error"); len(lines) > 0 {
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
