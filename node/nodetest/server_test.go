package nodetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// raw sends a request as it is and returns all that comes until the connection ends.
func raw(t *testing.T, n *Node, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

func TestBytesOnTheWire(t *testing.T) {
	s := primary(func(s *State) { s.SQL, s.SystemID = false, "" })
	n := NewNode(s)
	defer n.Close()
	old := Options{Version: "1.6"}.NewNode(s)
	defer old.Close()
	const (
		body    = `{"state": "unknown", "role": "primary", "dcs_last_seen": 1795351476, "patroni": {"version": "4.1.4", "scope": "rl", "name": "n1"}}`
		headers = "Server: BaseHTTP/0.6 Python/3.11.2\r\nDate: DATE\r\nContent-Type: application/json\r\n\r\n"
		page    = "Server: BaseHTTP/0.6 Python/3.11.2\r\nDate: DATE\r\nConnection: close\r\nContent-Type: text/html;charset=utf-8\r\nContent-Length: %d\r\n\r\n"
		html    = "<!DOCTYPE HTML>\n<html><head><title>Error response</title></head><body><p>%s.</p></body></html>\n"
	)
	tests := []struct {
		node          *Node
		request, want string
	}{
		{n, "GET /primary HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n" + headers + body},
		{n, "GET / HTTP/1.1\r\nHost: pg1\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\n" + headers + body},
		{n, "GET /replica HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable\r\n" + headers + body},
		{n, "GET /nonexistent HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable\r\n" + headers + body},
		{n, "HEAD /primary HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"},
		{n, "HEAD /patroni HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable\r\n\r\n"},
		{n, "OPTIONS / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"},
		{n, "OPTIONS /replica HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable\r\n\r\n"},
		{n, "GET /liveness HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"},
		{n, "GET /readiness HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"},
		{n, "POST /primary HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 501 Unsupported method ('POST')\r\n" + fmt.Sprintf(page, 125) + fmt.Sprintf(html, "501: Unsupported method ('POST')")},
		{n, "\x16\x03\x01\x02\x00\r\n\r\n", "HTTP/1.0 400 Bad Request\r\n" + fmt.Sprintf(page, 109) + fmt.Sprintf(html, "400: Bad Request")},
		{old, "OPTIONS / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{old, "HEAD / HTTP/1.0\r\n\r\n", "HTTP/1.0 501 Unsupported method ('HEAD')\r\n" + fmt.Sprintf(page, 125)},
	}
	date := regexp.MustCompile(`Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`)
	for _, tt := range tests {
		if got := date.ReplaceAllString(raw(t, tt.node, tt.request), "Date: DATE"); got != tt.want {
			t.Errorf("%q:\n got %q\nwant %q", tt.request, got, tt.want)
		}
	}
}

// client makes one connection per request, without a limit of its own.
func client(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch returns the status and the body, as far as they came.
func fetch(ctx context.Context, c *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// bubble runs f in a synctest bubble with a cluster on a network in memory.
func bubble(t *testing.T, f func(t *testing.T, c *Cluster, get func(name, path string) (int, string, error))) {
	synctest.Test(t, func(t *testing.T) {
		nw := NewNet()
		c := Options{Listen: nw.Listen, Addr: func(name string) string { return name + ":8008" }}.NewCluster("main", "pg1", "pg2", "pg3")
		defer c.Close()
		cl := client(nw.DialContext)
		f(t, c, func(name, path string) (int, string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			return fetch(ctx, cl, c.Node(name).URL()+path)
		})
	})
}

func TestFaults(t *testing.T) {
	bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
		n := c.Node("pg1")
		_, doc, _ := get("pg1", "/primary")
		isTimeout := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
		isEOF := func(err error) bool { return errors.Is(err, io.EOF) }
		none := func(err error) bool { return err == nil }
		tests := []struct {
			fault  Fault
			err    func(error) bool
			status int
			body   string // "*": any
			took   time.Duration
		}{
			{None, none, 200, doc, 0},
			{Freeze, isTimeout, 0, "", 3 * time.Second},
			{Drip, isTimeout, 0, "", 3 * time.Second},
			{CloseEarly, none, 200, "*", 0},
			{Empty, isEOF, 0, "", 0},
			{Reset, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }, 0, "", 0},
			{Garbage, none, 200, "<h1>It works!</h1>\n", 0},
			{WrongShape, none, 200, "[1, 2, 3]", 0},
			{Status500, none, 500, "*", 0},
			{Redirect, none, 302, "elsewhere\n", 0},
			{Huge, none, 200, "*", 0},
			{EndlessHeaders, func(err error) bool { return err != nil && strings.Contains(err.Error(), "exceeded") }, 0, "", 0},
			{Refuse, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, 0, "", 0},
			{None, none, 200, doc, 0},
		}
		for _, tt := range tests {
			n.SetFault(tt.fault)
			start := time.Now()
			status, body, err := get("pg1", "/primary")
			if !tt.err(err) {
				t.Errorf("%v: error %v", tt.fault, err)
			}
			if status != tt.status || tt.body != "*" && strip(body) != strip(tt.body) {
				t.Errorf("%v: %d %q, want %d %q", tt.fault, status, body, tt.status, tt.body)
			}
			if took := time.Since(start); took != tt.took {
				t.Errorf("%v: took %v, want %v", tt.fault, took, tt.took)
			}
			switch tt.fault {
			case CloseEarly:
				if !strings.HasPrefix(doc, body) || len(body) == 0 || len(body) == len(doc) {
					t.Errorf("%v: body %q, want a part of %q", tt.fault, body, doc)
				}
			case Huge:
				if len(body) < hugeBody || !json.Valid([]byte(body)) || !strings.Contains(body, `"role": "primary"`) {
					t.Errorf("%v: %d bytes, want a valid document of at least %d", tt.fault, len(body), hugeBody)
				}
			}
			synctest.Wait()
			if open := n.Open(); open != 0 {
				t.Errorf("%v: %d connections still open", tt.fault, open)
			}
		}
		if got, want := Redirect.String()+" "+Fault(99).String(), "Redirect Fault(99)"; got != want {
			t.Errorf("faults are called %q, want %q", got, want)
		}
	})
}

// strip removes the seconds, which pass in the bubble.
func strip(doc string) string {
	return regexp.MustCompile(`"dcs_last_seen": \d+`).ReplaceAllString(doc, "")
}

func TestDelayAndThaw(t *testing.T) {
	bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
		n := c.Node("pg2")
		n.SetDelay(2 * time.Second)
		start := time.Now()
		if status, _, err := get("pg2", "/replica"); status != 200 || err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("with a delay: %d, %v after %v, want 200 after 2s", status, err, time.Since(start))
		}
		n.SetDelay(5 * time.Second)
		if _, _, err := get("pg2", "/replica"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a longer delay: %v, want a timeout", err)
		}
		n.SetDelay(0)

		// What waits is answered after the thaw, from the state of then.
		n.Freeze()
		time.AfterFunc(time.Second, func() {
			c.Switchover("pg2")
			n.Thaw()
		})
		start = time.Now()
		if status, _, err := get("pg2", "/primary"); status != 200 || err != nil || time.Since(start) != time.Second {
			t.Errorf("frozen: %d, %v after %v, want 200 after 1s", status, err, time.Since(start))
		}
		if got := n.Fault(); got != None {
			t.Errorf("fault %v after the thaw", got)
		}
	})
}

func TestCounters(t *testing.T) {
	bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
		n := c.Node("pg1")
		for range 3 {
			get("pg1", "/primary?lag=1")
		}
		get("pg1", "/replica")
		if n.Requests("/primary") != 3 || n.Requests("/replica") != 1 || n.Requests("/") != 0 || n.Total() != 4 || n.Accepted() != 4 || n.MaxOpen() != 1 {
			t.Errorf("one after the other: %+v", n.counters)
		}

		n.ResetCounters()
		n.Freeze()
		for range 3 {
			go get("pg1", "/primary")
		}
		synctest.Wait()
		if n.Open() != 3 || n.MaxOpen() != 3 || n.Total() != 3 {
			t.Errorf("at the same time: %+v", n.counters)
		}
		time.Sleep(4 * time.Second) // all have given up
		synctest.Wait()
		if n.Open() != 0 || n.MaxOpen() != 3 {
			t.Errorf("after the timeout: %+v", n.counters)
		}
	})
}

// TestWorkers shows what five idle connections do to Patroni 4.1: the sixth client is accepted and hears nothing.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := NewNet()
		n := Options{Listen: nw.Listen, Workers: 5}.NewNode(Primary("main", "pg1"))
		defer n.Close()
		var idle []net.Conn
		for range 5 {
			conn, err := nw.DialContext(t.Context(), "tcp", n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			idle = append(idle, conn)
		}
		synctest.Wait() // each has its worker
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, _, err := fetch(ctx, client(nw.DialContext), n.URL()+"/liveness"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind 5 idle connections: %v, want a timeout", err)
		}
		for _, conn := range idle {
			conn.Close()
		}
		if status, _, err := fetch(t.Context(), client(nw.DialContext), n.URL()+"/liveness"); status != 200 || err != nil {
			t.Errorf("after they have gone: %d, %v", status, err)
		}
	})
}

// TestClose: in a bubble, a goroutine that does not end fails the test.
func TestClose(t *testing.T) {
	for _, fault := range []Fault{None, Freeze, Drip, EndlessHeaders, Refuse} {
		synctest.Test(t, func(t *testing.T) {
			nw := NewNet()
			c := Options{Listen: nw.Listen}.NewCluster("main", "pg1")
			n := c.Node("pg1")
			idle, err := nw.DialContext(t.Context(), "tcp", n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			n.SetFault(fault)
			ended := make(chan error)
			go func() {
				_, _, err := fetch(t.Context(), client(nw.DialContext), n.URL()+"/primary")
				ended <- err
			}()
			if fault == None || fault == EndlessHeaders || fault == Refuse {
				<-ended
			} else {
				synctest.Wait()
				time.Sleep(time.Second)
			}
			start := time.Now()
			c.Close()
			c.Close()
			if took := time.Since(start); took != 0 {
				t.Errorf("%v: closing took %v", fault, took)
			}
			if fault == Freeze || fault == Drip {
				if err := <-ended; err == nil {
					t.Errorf("%v: no error after closing", fault)
				}
			}
			if _, err := nw.DialContext(t.Context(), "tcp", n.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v: dialing after closing: %v, want a refusal", fault, err)
			}
			n.SetFault(None) // does not open it again
			if _, err := nw.DialContext(t.Context(), "tcp", n.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v: dialing after closing and thawing: %v, want a refusal", fault, err)
			}
		})
	}
}

// TestRealPort has what differs on real sockets: refusing, coming back on the same port, resetting.
func TestRealPort(t *testing.T) {
	c := NewCluster("main", "pg1", "pg2")
	defer c.Close()
	n, cl := c.Node("pg1"), client(nil)
	addr := n.Addr()
	for range 3 {
		n.SetFault(Refuse)
		if _, _, err := fetch(t.Context(), cl, n.URL()+"/"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refusing: %v", err)
		}
		n.SetFault(Reset)
		if _, _, err := fetch(t.Context(), cl, n.URL()+"/"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("resetting: %v", err)
		}
		n.SetFault(None)
		if status, _, err := fetch(t.Context(), cl, n.URL()+"/"); status != 200 || err != nil {
			t.Errorf("back: %d, %v", status, err)
		}
	}
	if n.Addr() != addr {
		t.Errorf("address %q, want %q as before", n.Addr(), addr)
	}

	// A connection that is open when the process dies.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for n.Open() != 1 {
		time.Sleep(time.Millisecond)
	}
	n.SetFault(Refuse)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading from the dead: %v, want an end", err)
	}
}

// TestSequential: a client that comes back as soon as it has an answer never counts twice.
func TestSequential(t *testing.T) {
	n := NewNode(Primary("main", "pg1"))
	defer n.Close()
	for i := range 200 {
		method := []string{"GET", "HEAD", "OPTIONS"}[i%3]
		conn, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s / HTTP/1.0\r\n\r\n", method)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if method != "OPTIONS" { // whose answer ends with its status line, though HTTP does not say so
			io.Copy(io.Discard, resp.Body)
		}
		conn.Close()
	}
	if n.MaxOpen() != 1 {
		t.Errorf("%d connections at a time, want 1", n.MaxOpen())
	}
}

func TestTLS(t *testing.T) {
	donor := httptest.NewTLSServer(nil) // for its certificate
	defer donor.Close()
	n := Options{TLS: &tls.Config{Certificates: donor.TLS.Certificates}}.NewNode(Primary("main", "pg1"))
	defer n.Close()
	cl := donor.Client()
	cl.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for fault, want := range map[Fault]int{None: 200, Redirect: 302, Status500: 500} {
		n.SetFault(fault)
		if status, _, err := fetch(t.Context(), cl, n.URL()+"/primary"); status != want || err != nil {
			t.Errorf("%v: %d, %v, want %d", fault, status, err, want)
		}
	}
	n.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := fetch(ctx, cl, n.URL()+"/primary"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("frozen: %v", err)
	}
	n.Thaw()

	plain := strings.Replace(n.URL(), "https:", "http:", 1)
	if _, _, err := fetch(t.Context(), client(nil), plain+"/primary"); err == nil {
		t.Error("plain HTTP towards TLS: no error")
	}
}

func TestNet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := NewNet()
		ln, err := nw.Listen("tcp", "pg1:0")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ln.Addr().String(), "pg1:40001"; got != want {
			t.Errorf("address %q, want %q", got, want)
		}
		dial := func(addr string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			conn, err := nw.DialContext(ctx, "tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err
		}
		errs := []struct {
			err  error
			want string
		}{
			{dial("pg2:8008"), "dial tcp pg2:8008: connect: connection refused"},
			{dial("pg1:40001"), "dial tcp pg1:40001: i/o timeout"}, // nothing accepts
			{func() error { _, err := nw.Listen("tcp", "pg1:40001"); return err }(), "listen tcp pg1:40001: bind: address already in use"},
			{func() error { _, err := nw.Listen("tcp", "pg1"); return err }(), "listen tcp pg1: address pg1: missing port in address"},
		}
		ln.Close()
		errs = append(errs, struct {
			err  error
			want string
		}{dial("pg1:40001"), "dial tcp pg1:40001: connect: connection refused"})
		for _, e := range errs {
			var op *net.OpError
			if e.err == nil || e.err.Error() != e.want || !errors.As(e.err, &op) {
				t.Errorf("error %v, want a net.OpError %q", e.err, e.want)
			}
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accepting on a closed listener: %v", err)
		}
		if ln, err = nw.Listen("tcp", "pg1:40001"); err != nil {
			t.Errorf("listening again: %v", err)
		}
		go func() {
			conn, _ := ln.Accept()
			conn.(*netConn).abort()
		}()
		conn, err := nw.DialContext(t.Context(), "tcp", "pg1:40001")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := conn.RemoteAddr().String(), "pg1:40001"; got != want {
			t.Errorf("remote address %q, want %q", got, want)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reading after a reset: %v", err)
		}
	})
}

func TestRequests(t *testing.T) {
	seen := map[Request]bool{}
	n := NewNode(Replica("main", "pg1"))
	defer n.Close()
	for _, r := range Requests() {
		if seen[r] {
			t.Errorf("%s is there twice", r)
		}
		seen[r] = true
		// What the server says is what Decide says.
		want := Decide(n.State(), DCS{Config: defaultConfig()}, r, now).Status
		answer := raw(t, n, r.String()+" HTTP/1.0\r\n\r\n")
		if got := fmt.Sprintf("HTTP/1.0 %d ", want); !bytes.HasPrefix([]byte(answer), []byte(got)) {
			t.Errorf("%s: %.40q, want %q", r, answer, got)
		}
	}
}
