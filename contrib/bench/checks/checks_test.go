//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/sys/unix"
)

func TestHTTPAnswer(t *testing.T) {
	const length, chunks = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct {
		name, answer  string
		eof           bool
		whole, passes bool
	}{
		{name: "nothing yet"},
		{name: "half of the head", answer: "HTTP/1.0 200 OK\r\nServer: x\r\n"},
		{name: "half of the body", answer: length + "a", passes: false},
		{name: "the body", answer: length + "ab", whole: true, passes: true},
		{name: "more than the body", answer: length + "abc", whole: true},
		{name: "no body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", whole: true, passes: true},
		{name: "another status", answer: "HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n", whole: true},
		{name: "a chunk", answer: chunks + "2\r\nab\r\n", passes: true},
		{name: "all chunks", answer: chunks + "2\r\nab\r\n0\r\n\r\n", whole: true, passes: true},
		{name: "as Patroni, not closed yet", answer: "HTTP/1.0 200 OK\r\n\r\n{}", passes: true},
		{name: "as Patroni", answer: "HTTP/1.0 200 OK\r\n\r\n{}", eof: true, whole: true, passes: true},
	} {
		whole, passes := httpAnswer([]byte(tt.answer), tt.eof)
		if whole != tt.whole || whole && passes != tt.passes {
			t.Errorf("%s: whole %v, passes %v, want %v, %v", tt.name, whole, passes, tt.whole, tt.passes)
		}
	}
}

// Each answer counts once, and all that is no answer is an error.
func TestLoad(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, tt := range []struct {
		name           string
		keep           bool
		says           string // to each question
		closes         bool
		answers, fails bool
	}{
		{name: "a new connection each", says: ok, answers: true},
		{name: "a new connection each, closed by the server", says: ok, closes: true, answers: true},
		{name: "keep-alive", keep: true, says: ok, answers: true},
		{name: "a server that closes without a word", closes: true, fails: true},
		{name: "another status", says: strings.Replace(ok, "200", "503", 1), fails: true},
		{name: "silence", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, questions := serve(t, tt.says, tt.closes)
			o, err := load{addr: addr, request: []byte("GET / HTTP/1.0\r\n\r\n"), keep: tt.keep, complete: httpAnswer, connections: 3,
				duration: 30 * time.Millisecond}.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (o.answers > 0) != tt.answers || (o.errors > 0) != tt.fails {
				t.Errorf("%d answers, %d errors", o.answers, o.errors)
			}
			if n := questions(); n != o.answers+o.errors {
				t.Errorf("%d answers and %d errors of %d questions", o.answers, o.errors, n)
			}
		})
	}
}

// serve answers each question with the same words through a relay, or closes the connection. questions ends it and
// returns how many there were.
func serve(t *testing.T, says string, closes bool) (addr *unix.SockaddrInet4, questions func() int) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var wg sync.WaitGroup
	var count atomic.Int64
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					count.Add(1)
					io.WriteString(conn, says)
					if closes {
						return
					}
				}
			})
		}
	})
	return &unix.SockaddrInet4{Port: ln.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}, func() int {
		ln.Close()
		wg.Wait()
		return int(count.Load())
	}
}

func TestAgentAnswer(t *testing.T) {
	for answer, want := range map[string][2]bool{
		"":                          {false, false},
		"ready up 100% #prim":       {false, true},
		"ready up 100% #primary\n":  {true, true},
		"maint down #replica\n":     {true, false},
		"ready down #stale: 6.2s\n": {true, false},
	} {
		if whole, passes := agentAnswer([]byte(answer), false); whole != want[0] || passes != want[1] {
			t.Errorf("%q: whole %v, passes %v, want %v", answer, whole, passes, want)
		}
	}
}

// What passes the relay reaches the server, and is counted.
func TestRelay(t *testing.T) {
	addr, questions := serve(t, "HTTP/1.0 200 OK\r\n\r\n{}", true)
	r, err := startRelay(fmt.Sprintf("127.0.0.1:%d", addr.Port))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		resp, err := http.Get("http://" + r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "{}" || err != nil {
			t.Errorf("body %q, %v", body, err)
		}
	}
	idle, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for range 500 {
		if r.count.Load() == 4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.close() // does not wait for the idle one
	if n, reached := questions(), r.count.Load(); n != 3 || reached != 4 {
		t.Errorf("%d questions reached the server, and %d connections the relay, want 3 and 4", n, reached)
	}
}

func TestParseStat(t *testing.T) {
	const line = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 2 3 4 150 25 9 9 20 0 1 0 5 6 7"
	pid, parent, used, err := parseStat(line)
	if pid != 42 || parent != 7 || used != 1750*time.Millisecond || err != nil {
		t.Errorf("%d %d %v %v, want 42 7 1.75s", pid, parent, used, err)
	}
	for _, line := range []string{"", "42 (a) S 7", "42 (a) S x 42 42 0 -1 4194304 1 2 3 4 150 25 9"} {
		if _, _, _, err := parseStat(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}

// A server's workers are its children: their time is the server's.
func TestProcessorTime(t *testing.T) {
	child := exec.Command("sh", "-c", "while :; do :; done & while :; do :; done")
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer syscall.Kill(-child.Process.Pid, syscall.SIGKILL)
	for range 1000 {
		one, err1 := processorTime(child.Process.Pid)
		all, err2 := processorTime(os.Getpid())
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, _, own, err := statOf(child.Process.Pid); err != nil {
			t.Fatal(err)
		} else if one > own && all > one {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the time of children was not seen within 10 s")
}

func statOf(pid int) (int, int, time.Duration, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0, err
	}
	return parseStat(string(line))
}

func TestTable(t *testing.T) {
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	one := func(cost, p99 int) pair {
		return pair{
			works:  sample{perSecond: 1e6 / float64(cost), p50: us(p99 / 2), p99: us(p99), cost: us(cost), reached: 4},
			frozen: sample{p99: us(2 * p99), errors: 1},
		}
	}
	results := newResults([]variant{{name: cacheName, what: "a cache"}, {name: "ours", what: "an agent", once: true}})
	results[0].pairs = []pair{one(40, 1000), one(50, 1200), one(60, 900)}
	results[1].pairs = []pair{one(20, 100), one(50, 300), one(15, 200)}
	const want = `| check | connection | processor time | ÷ nginx | ÷ static | checks/s | p50 | p99 | to Patroni/s | errors | frozen: p99 | ÷ p99 | errors |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
| nginx: a cache | new | 50.0 µs | 1.00 |  | 20000 | 500.0 µs | 1.0 ms | 4.0 | 0 | 2.0 ms | 2.00 | 1 |
| ours: an agent | new | 20.0 µs | 0.50 |  | 50000 | 100.0 µs | 200.0 µs | 4.0 | 0 | 400.0 µs | 2.00 | 1 |
`
	var got bytes.Buffer
	writeTable(&got, results)
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-rounds 0", "-rounds: want 1 or more (got 0)"},
		{"-duration 4s", "-duration: want more than 0 and at most 3s (got 4s)"},
		{"-connections 0", "-connections: want 1 to 1000 (got 0)"},
		{"-variants nginx,apache", `-variants: want some of patroni, nginx, static, haproxy, ours, nethttp, agent (got "apache")`},
		{"-rounds 1 nginx", `want only flags (got "nginx")`},
	} {
		if _, err := parseOptions(strings.Fields(tt.args), io.Discard); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.args, err, tt.want)
		}
	}
}

// The whole of it, so short that no figure is worth anything: everything starts, answers, stays right while Patroni is
// frozen, and ends.
func TestBench(t *testing.T) {
	if err := checkMachine(t.Context(), variants); err != nil {
		if os.Getenv("PATRONIGLUE_LAB") == "required" {
			t.Fatal(err)
		}
		t.Skip("BENCH NOT TESTED: ", err)
	}
	var table, log bytes.Buffer
	if err := run(t.Context(), []string{"-rounds", "1", "-duration", "300ms", "-connections", "2"}, &table, &log); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	text, _, _ := strings.Cut(table.String(), "\n\n")
	rows := strings.Split(text, "\n")
	if want := 2 + 7 + 5; len(rows) != want {
		t.Fatalf("%d lines, want %d", len(rows), want)
	}
	for _, row := range rows[2:] {
		cells := strings.Split(row, " | ")
		name := strings.TrimPrefix(cells[0], "| ")
		if cells[5] == "0" {
			t.Errorf("%s, %s: no check was answered", name, cells[1])
		}
		if strings.HasPrefix(name, "patroni:") || strings.HasPrefix(name, "nginx:") {
			continue // it refuses what comes too fast; the check that renews nginx's cache waits for Patroni
		}
		if cells[9] != "0" || cells[12] != "0 |" {
			t.Errorf("%s, %s: %s errors, and %s while Patroni was frozen", name, cells[1], cells[9], cells[12])
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", &table, &log)
	}
}
