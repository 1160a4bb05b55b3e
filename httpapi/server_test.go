package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// Requests as HAProxy and others send them.
func TestRawRequests(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		for _, tt := range []struct {
			request  string
			status   int
			body     bool
			mayClose bool // the connection ends with the answer
		}{
			{"OPTIONS / HTTP/1.0\r\n\r\n", 200, false, true}, // option httpchk
			{"HEAD / HTTP/1.0\r\n\r\n", 200, false, true},
			{"GET /node/pg1/primary HTTP/1.0\r\n\r\n", 200, true, true},
			{"GET /node/pg2/primary HTTP/1.0\r\n\r\n", 503, true, true},
			{"OPTIONS /node/pg2/replica HTTP/1.0\r\n\r\n", 200, false, true},
			{"HEAD /node/pg1/replica HTTP/1.0\r\n\r\n", 503, false, true},
			{"GET /node/pg1/primary HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", 200, true, false},
			{"GET /node/pg1/primary HTTP/1.1\r\nhost: glue\r\nconnection: close\r\n\r\n", 200, true, true},
			{"GET /node/pg1/primary HTTP/1.1\r\nhost: glue\r\n\r\n", 200, true, false},
			{"HEAD /node/pg1/primary HTTP/1.1\r\nhost: glue\r\n\r\n", 200, false, false},
			{"OPTIONS /node/pg1/primary HTTP/1.1\r\nhost: glue\r\n\r\n", 200, false, false},
			{"GET http://glue:8009/node/pg1/primary HTTP/1.1\r\nhost: glue\r\n\r\n", 200, true, false},
			{"GET / HTTP/1.0\r\nx-haproxy-server-state: UP; address=10.0.0.1; name=be/s1\r\n\r\n", 200, true, true},
			{"OPTIONS * HTTP/1.0\r\n\r\n", 404, false, true}, // net/http alone would say 200
			{"OPTIONS * HTTP/1.1\r\nhost: glue\r\n\r\n", 404, false, false},
			{"POST /node/pg1/primary HTTP/1.1\r\nhost: glue\r\ncontent-length: 3\r\n\r\nabc", 405, true, false},
			{"POST /node/pg1/refresh HTTP/1.0\r\n\r\n", 202, true, true},
			{"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n", 404, true, false},
			{"GET /node/pg1/primary HTTP/1.1\r\n\r\n", 200, true, true}, // a check has no use for Host
			{"OPTIONS / HTTP/1.1\r\n\r\n", 200, false, true},
			{"GET /node/pg2/primary HTTP/1.1\r\nAccept: a/b, c\r\n\r\n", 503, true, true},
			{"HEAD /cluster/main/primary HTTP/1.1\r\n\r\n", 200, false, true},
			{"GET /livez HTTP/1.1\r\n\r\n", 200, true, true},
			{"GET /history HTTP/1.1\r\n\r\n", 400, true, true}, // RFC 9112: 1.1 needs a host, and net/http insists
			{"GET /node/pg1/primary\r\n\r\n", 400, true, true},
			{"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, true, true},
		} {
			resp, body := s.raw(tt.request)
			if resp.StatusCode != tt.status || (body != "") != tt.body {
				t.Errorf("%.60q = %d %q, want %d", tt.request, resp.StatusCode, body, tt.status)
			}
			if resp.Header.Get("Location") != "" {
				t.Errorf("%.60q leads to %s", tt.request, resp.Header.Get("Location"))
			}
			if closes := resp.Close || resp.Proto == "HTTP/1.0" && resp.Header.Get("Connection") != "keep-alive"; closes && !tt.mayClose {
				t.Errorf("%.60q closes the connection: %v", tt.request, resp.Header)
			}
		}
	})
}

func TestKeepAliveAndPipelining(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		c := s.dial()
		defer c.Close()
		const n = 50
		go func() {
			for i := range n {
				fmt.Fprintf(c, "%s /node/pg%d/primary HTTP/1.1\r\nhost: glue\r\n\r\n", []string{"GET", "HEAD", "OPTIONS"}[i%3], 1+i%2)
			}
		}()
		r := bufio.NewReader(c)
		for i := range n {
			resp, err := http.ReadResponse(r, &http.Request{Method: []string{"GET", "HEAD", "OPTIONS"}[i%3]})
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			if want := []int{200, 503}[i%2]; resp.StatusCode != want || (len(body) > 0) != (i%3 == 0) {
				t.Errorf("answer %d = %d %q, want %d", i, resp.StatusCode, body, want)
			}
		}
	})
}

func TestServerTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		for _, tt := range []struct {
			name, send string
			answers    bool
			want       time.Duration
		}{
			{"nothing sent", "", false, 5 * time.Second},
			{"half a request", "GET /primary HTT", false, 5 * time.Second},
			{"half a header", "GET /primary HTTP/1.1\r\nhost: gl", false, 5 * time.Second},
			{"idle", "GET /primary HTTP/1.1\r\nhost: glue\r\n\r\n", true, 75 * time.Second},
		} {
			c := s.dial()
			began := time.Now()
			io.WriteString(c, tt.send)
			r := bufio.NewReader(c)
			if tt.answers {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
			}
			rest, err := io.ReadAll(r)
			if took := time.Since(began); took != tt.want || err != nil || len(rest) > 0 && !bytes.HasPrefix(rest, []byte("HTTP/1.1 400 ")) {
				t.Errorf("%s: closed after %s with %q, %v; want %s", tt.name, took, rest, err, tt.want)
			}
			c.Close()
		}
	})
}

// When the daemon stops, open requests are answered, and new connections are refused.
func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1")
		c.Node("pg1").Freeze()
		s := start(t, nw, nil, partOf(c, "main"))
		slow, idle := s.dial(), s.dial()
		defer slow.Close()
		defer idle.Close()
		io.WriteString(slow, "GET /node/pg1/primary HTTP/1.1\r\nhost: glue\r\n\r\n")
		io.WriteString(idle, "HEAD /livez HTTP/1.1\r\nhost: glue\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(idle), &http.Request{Method: "HEAD"}); err != nil || resp.StatusCode != 200 {
			t.Errorf("livez: %v", err)
		}
		time.Sleep(500 * time.Millisecond)
		stopped := make(chan time.Time)
		go func() { s.stop(); stopped <- time.Now() }()
		synctest.Wait()
		if c, err := nw.DialContext(t.Context(), "tcp", address); err == nil {
			t.Error("a new connection while draining")
			c.Close()
		}
		resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
		if err != nil {
			t.Fatal(err)
		}
		answered := time.Now()
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 503 || !bytes.Contains(body, []byte("not polled yet")) {
			t.Errorf("%d %s %v", resp.StatusCode, body, err)
		}
		if after := (<-stopped).Sub(answered); after < 0 || after > time.Second {
			t.Errorf("Serve returned %s after the last answer", after)
		}
	})
}

func TestStopBeforeServe(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := httpapi.New(httpapi.Config{Supervisor: supervisor(t, nw, rulesOff, partOf(members(t, nw, "", "main", "pg1"), "main"))})
		ln, err := nw.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
}

func TestServeFails(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := httpapi.New(httpapi.Config{Supervisor: supervisor(t, nw, rulesOff, partOf(members(t, nw, "", "main", "pg1"), "main"))})
		ln, err := nw.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		err = s.Serve(t.Context(), ln)
		if want := "serving HTTP: accept tcp glue:8009: use of closed network connection"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// peerListener says that all peers have one address.
type peerListener struct {
	net.Listener
	peer net.Addr
}

type peerConn struct {
	net.Conn
	peer net.Addr
}

func (l peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return peerConn{c, l.peer}, nil
}

func (c peerConn) RemoteAddr() net.Addr { return c.peer }

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestAllow(t *testing.T) {
	for _, tt := range []struct {
		peer, allow string
		want        bool
	}{
		{"10.1.2.3", "10.0.0.0/8", true},
		{"::ffff:10.1.2.3", "10.0.0.0/8", true}, // as a socket for both families sees it
		{"11.1.2.3", "10.0.0.0/8", false},
		{"::ffff:11.1.2.3", "10.0.0.0/8", false},
		{"fd00::1", "fd00::/8,10.0.0.0/8", true},
		{"fe80::1%eth0", "fe80::/10", true},
		{"::1", "127.0.0.0/8", false},
		{"127.0.0.1", "127.0.0.1/32", true},
	} {
		t.Run(tt.peer+" in "+tt.allow, func(t *testing.T) {
			bubble(t, func(t *testing.T, nw *nodetest.Net) {
				cfg := httpapi.Config{Supervisor: supervisor(t, nw, rulesOff, partOf(members(t, nw, "", "main", "pg1"), "main")), Log: zerolog.Nop()}
				cfg.Allow = prefixes(strings.Split(tt.allow, ",")...)
				inner, err := nw.Listen("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				ip := netip.MustParseAddr(tt.peer)
				peer := &net.TCPAddr{IP: ip.AsSlice(), Port: 1234, Zone: ip.Zone()}
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error)
				go func() { served <- httpapi.New(cfg).Serve(ctx, peerListener{inner, peer}) }()
				c, err := nw.DialContext(ctx, "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				go io.WriteString(c, "GET /livez HTTP/1.0\r\n\r\n")
				got, _ := io.ReadAll(c)
				if allowed := bytes.HasPrefix(got, []byte("HTTP/1.0 200 OK\r\n")); allowed != tt.want || !tt.want && len(got) > 0 {
					t.Errorf("got %q, want allowed %t", got, tt.want)
				}
				c.Close()
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestTLS(t *testing.T) {
	lent := httptest.NewTLSServer(nil) // for its certificate
	lent.Close()
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, func(c *httpapi.Config) {
			c.TLS = &tls.Config{Certificates: lent.TLS.Certificates, Time: func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }}
		}, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		roots := x509.NewCertPool()
		roots.AddCert(lent.Certificate())
		raw := s.dial()
		c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "example.com", Time: func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }})
		go io.WriteString(c, "GET /node/pg1/primary HTTP/1.0\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.0 200 OK\r\n")) {
			t.Errorf("%q %v", got, err)
		}
		raw.Close()
		silent := s.dial() // no handshake
		began := time.Now()
		if rest, err := io.ReadAll(silent); err != nil || len(rest) > 0 || time.Since(began) != 5*time.Second {
			t.Errorf("%q %v after %s, want the end after 5 s", rest, err, time.Since(began))
		}
		silent.Close()
		if resp, _ := s.raw("GET / HTTP/1.0\r\n\r\n"); resp.StatusCode != 400 {
			t.Errorf("plain HTTP = %d", resp.StatusCode)
		}
	})
}

// However many requests there are, the nodes are polled at their rate.
func TestLoad(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		for _, n := range c.Nodes() {
			n.ResetCounters()
		}
		var asked atomic.Int64
		var wg sync.WaitGroup
		end := time.Now().Add(20 * time.Second)
		targets := []string{"/node/pg1/primary", "/node/pg2/replica", "/node/pg3/read-only?lag=1MB", "/primary", "/node/pg2", "/cluster", "/health", "/node/pgX/primary"}
		for i := range 200 {
			wg.Go(func() {
				for j := i; time.Now().Before(end); j++ {
					s.get(targets[j%len(targets)])
					asked.Add(1)
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if asked.Load() < 40_000 {
			t.Errorf("only %d questions", asked.Load())
		}
		for name, want := range map[string]int{"pg1": 80, "pg2": 20, "pg3": 20} { // the jitter is a tenth
			n := c.Node(name)
			if got := n.Requests("/primary"); got < want*9/10-1 || got > want*11/10+2 {
				t.Errorf("%s was polled %d times in 20 s, want about %d", name, got, want)
			}
			if other := n.Total() - n.Requests("/primary"); other > 1 {
				t.Errorf("%s was asked for other things %d times", name, other)
			}
			if n.MaxOpen() > 1 {
				t.Errorf("%s had %d connections at once", name, n.MaxOpen())
			}
		}
	})
}

// Over real sockets: resets, many connections that say nothing.
func TestSockets(t *testing.T) {
	sup := ready(t)
	s := httpapi.New(httpapi.Config{Supervisor: sup, Log: zerolog.Nop()})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	var silent []net.Conn
	for i := range 300 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0: // connects and is silent
			silent = append(silent, c)
		case 1: // resets before the answer, as HAProxy does after a timeout
			io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		default: // resets without a word
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}
	resp, err := http.Get("http://" + addr + "/node/pg1/primary")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%v %v", resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	for _, c := range silent { // Shutdown would give them five seconds
		c.Close()
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if again, err := net.Listen("tcp", addr); err != nil {
		t.Errorf("the port is not free: %v", err)
	} else {
		again.Close()
	}
}
