package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const running = `{"state":"running","role":"replica"}`

// member is a Patroni of raw bytes: net/http cannot answer as Python does, and
// even less misbehave.
type member struct {
	url      string
	accepted atomic.Int64
	open     atomic.Int64
	mu       sync.Mutex
	requests []string // the heads of all requests; guarded by mu
}

// newMember has answer called for each request with its path.
func newMember(t testing.TB, answer func(c net.Conn, path string)) *member {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{url: "http://" + ln.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			m.accepted.Add(1)
			m.open.Add(1)
			wg.Go(func() {
				defer m.open.Add(-1)
				defer c.Close()
				defer context.AfterFunc(t.Context(), func() { c.Close() })() // a test that fails does not hang
				m.serve(c, answer)
			})
		}
	})
	return m
}

func (m *member) serve(c net.Conn, answer func(c net.Conn, path string)) {
	r := bufio.NewReader(c)
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
		head.WriteString(line)
	}
	m.mu.Lock()
	m.requests = append(m.requests, head.String())
	m.mu.Unlock()
	answer(c, strings.Fields(head.String())[1])
}

func (m *member) paths() (paths []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.requests {
		paths = append(paths, strings.Fields(r)[1])
	}
	return paths
}

// says writes an answer as Patroni does: HTTP/1.0, no Content-Length, close.
func says(c io.Writer, status int, body string) {
	fmt.Fprintf(c, "HTTP/1.0 %d %s\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nDate: Sun, 22 Nov 2026 12:51:01 GMT\r\nContent-Type: application/json\r\n\r\n%s",
		status, http.StatusText(status), body)
}

// hang waits until the client gives up.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func newTestClient(t testing.TB, address string, timeout time.Duration, edits ...func(*Transport)) *Client {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	tr := NewTransport()
	for _, edit := range edits {
		edit(tr)
	}
	return NewClient(Options{URL: u, Timeout: timeout, Transport: tr})
}

func TestPoll(t *testing.T) {
	standby := golden(t, "2.1-standby-leader")
	for _, tt := range []struct {
		name            string
		primary, leader int // status codes
		body            string
		want            Report
		paths           []string
	}{
		{"primary", 200, 0, string(golden(t, "4.1-primary")) + "\r\n", Report{Status: 200, Document: documents["4.1-primary"]}, []string{"/primary"}},
		{"replica", 503, 0, string(golden(t, "4.1-replica-sync")), Report{Status: 503, Document: documents["4.1-replica-sync"]}, []string{"/primary"}},
		{"stopping", 200, 0, string(golden(t, "4.1-primary-stopping")), Report{Status: 200, Document: documents["4.1-primary-stopping"]}, []string{"/primary"}},
		{"standby leader", 503, 200, string(standby), Report{Status: 503, Leader: true, Document: documents["2.1-standby-leader"]}, []string{"/primary", "/leader"}},
		{"standby leader without lock", 503, 503, string(standby), Report{Status: 503, Document: documents["2.1-standby-leader"]}, []string{"/primary", "/leader"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMember(t, func(c net.Conn, path string) {
				if path == "/leader" {
					says(c, tt.leader, tt.body)
					return
				}
				says(c, tt.primary, tt.body)
			})
			before := time.Now()
			got, err := newTestClient(t, m.url+"/", time.Minute).Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Began.Before(before) || got.Took <= 0 || got.Took > time.Since(before) {
				t.Errorf("began %s and took %s, called at %s", got.Began, got.Took, before)
			}
			tt.want.Began, tt.want.Took = got.Began, got.Took
			tt.want.Clock = time.Date(2026, 11, 22, 12, 51, 1, 0, time.UTC)
			tt.want.Raw = []byte(strings.TrimSpace(tt.body))
			tt.want.Peer = netip.MustParseAddrPort(strings.TrimPrefix(m.url, "http://"))
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
			if diff := cmp.Diff(tt.paths, m.paths()); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
		})
	}
}

func TestPollLeavesNoConnection(t *testing.T) {
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1"} {
		t.Run(version, func(t *testing.T) {
			m := newMember(t, func(c net.Conn, _ string) { // does not close by itself
				fmt.Fprintf(c, "%s 503 x\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%s", version, len(running), running)
				hang(c)
			})
			client := newTestClient(t, m.url+"/node/pg1", time.Minute)
			for range 3 {
				if _, err := client.Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			waitUntilClosed(t, m)
			if n := m.accepted.Load(); n != 3 {
				t.Errorf("%d connections for 3 polls", n)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			want := "GET /node/pg1/primary HTTP/1.1\r\nHost: " + strings.TrimPrefix(m.url, "http://") + "\r\nUser-Agent: patroniglue\r\nConnection: close\r\nPatroniglue-Age: ms\r\n"
			if m.requests[0] != want {
				t.Errorf("the request is\n%q, want\n%q", m.requests[0], want)
			}
		})
	}
}

func waitUntilClosed(t *testing.T, m *member) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); m.open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are still open", m.open.Load())
		}
	}
}

// port masks what differs from run to run.
var port = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func TestPollFailures(t *testing.T) {
	type answer func(c net.Conn, path string)
	raw := func(s string) answer { return func(c net.Conn, _ string) { _, _ = io.WriteString(c, s) } }
	status := func(code int, body string) answer { return func(c net.Conn, _ string) { says(c, code, body) } }
	standby := string(golden(t, "2.1-standby-leader"))
	for _, tt := range []struct {
		name   string
		answer answer
		kind   Kind
		want   string
		asked  int64 // connections; 1 if not said
	}{
		{"closed before an answer", raw(""), KindCut, "the connection was closed before the answer was complete", 1},
		{"closed within the head", raw("HTTP/1.0 200 OK\r\nServ"), KindOther, `malformed MIME header: missing colon: "Serv"`, 1},
		{"cut body", raw("HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n" + running), KindCut, "the connection was closed before the answer was complete", 1},
		{"cut document", status(200, running[:20]), KindDocument, "status code 200 with a bad document: reading JSON: unexpected end of JSON input", 1},
		{"reset", func(c net.Conn, _ string) { _ = c.(*net.TCPConn).SetLinger(0) }, KindReset, "read tcp HOST->HOST: read: connection reset by peer", 1},
		{"hang after connect", func(c net.Conn, _ string) { hang(c) }, KindTimeout, "no answer within 2s", 1},
		{"hang after the head", func(c net.Conn, _ string) { says(c, 200, running); hang(c) }, KindTimeout, "no answer within 2s", 1},
		{"hang at /leader", func(c net.Conn, path string) {
			if path == "/leader" {
				hang(c)
			}
			says(c, 503, standby)
		}, KindTimeout, "no answer within 2s", 2},
		{"/leader 500", func(c net.Conn, path string) {
			says(c, map[string]int{"/primary": 503, "/leader": 500}[path], standby)
		}, KindStatus, "status code 500, want 200 or 503", 2},
		{"status 500", status(500, running), KindStatus, "status code 500, want 200 or 503", 1},
		{"status 404", status(404, "404 page not found\n"), KindStatus, "status code 404, want 200 or 503", 1},
		{"redirect", raw("HTTP/1.0 301 x\r\nLocation: /patroni\r\n\r\n"), KindStatus, "status code 301, want 200 or 503", 1},
		{"10 MB", status(200, `{"x":"`+strings.Repeat("x", 10<<20)), KindTooLarge, "answer larger than 1 MiB", 1},
		{"endless", func(c net.Conn, _ string) {
			says(c, 200, "[")
			for err := error(nil); err == nil; _, err = io.WriteString(c, "1,1,1,1,1,1,1,1,") {
			}
		}, KindTooLarge, "answer larger than 1 MiB", 1},
		{"garbage", raw("SSH-2.0-OpenSSH_9.2\r\n\x00\x01"), KindOther, `malformed HTTP response "SSH-2.0-OpenSSH_9.2"`, 1},
		{"a web page", status(200, "<html>"), KindDocument, `status code 200 with a bad document: want a JSON object, got "<html>"`, 1},
		{"array", status(503, "[1,2]\n"), KindDocument, `status code 503 with a bad document: want a JSON object, got "[1,2]\n"`, 1},
		{"empty body", status(503, ""), KindDocument, `status code 503 with a bad document: want a JSON object, got nothing`, 1},
		{"no state", status(200, "{}"), KindDocument, `status code 200 with a bad document: no "state": not Patroni's answer`, 1},
		{"endless head", func(c net.Conn, _ string) {
			_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n"+strings.Repeat("X-Y: zzzzzzzzzzzzzzzzzzzzzzzz\r\n", 4000))
		}, KindTooLarge, "headers larger than 16 KiB", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMember(t, tt.answer)
			timeout := time.Minute
			if tt.kind == KindTimeout {
				timeout = 2 * time.Second // on a busy machine the first of two connections takes long
			}
			_, err := newTestClient(t, m.url, timeout).Poll(t.Context())
			wantFailure(t, err, tt.kind, tt.want)
			waitUntilClosed(t, m)
			if n := m.accepted.Load(); n != tt.asked {
				t.Errorf("%d connections, want %d", n, tt.asked)
			}
		})
	}
}

func wantFailure(t *testing.T, err error, kind Kind, want string) {
	t.Helper()
	f, ok := err.(*Failure)
	if !ok {
		t.Fatalf("got the error %T %v, want a *Failure", err, err)
	}
	if got := port.ReplaceAllString(f.Error(), "HOST"); f.Kind != kind || got != want {
		t.Errorf("got  %s: %s\nwant %s: %s", f.Kind, got, kind, want)
	}
	if hard := kind == KindRefused || kind == KindReset; f.Hard() != hard {
		t.Errorf("%s is hard: %t", f.Kind, !hard)
	}
}

func TestPollWithoutConnection(t *testing.T) {
	dial := func(err error) func(*Transport) {
		return func(tr *Transport) {
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		}
	}
	connect := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 11), Port: 8008}, Err: err}
	}
	errno := func(e syscall.Errno) error { return &net.OpError{Op: "connect", Err: e} }
	noSuchHost := &net.DNSError{Err: "no such host", Name: "nonexistent.invalid", IsNotFound: true}
	slowDNS := &net.DNSError{Err: "i/o timeout", Name: "nonexistent.invalid", Server: "10.0.0.1:53", IsTimeout: true}
	for _, tt := range []struct {
		name string
		err  error
		kind Kind
		want string
	}{
		{"refused", connect(errno(syscall.ECONNREFUSED)), KindRefused, "dial tcp 10.0.0.11:8008: connect: connection refused"},
		{"host unreachable", connect(errno(syscall.EHOSTUNREACH)), KindNoRoute, "dial tcp 10.0.0.11:8008: connect: no route to host"},
		{"network unreachable", connect(errno(syscall.ENETUNREACH)), KindNoRoute, "dial tcp 10.0.0.11:8008: connect: network is unreachable"},
		{"our own network is down", connect(errno(syscall.ENETDOWN)), KindNoRoute, "dial tcp 10.0.0.11:8008: connect: network is down"},
		{"connect timed out", connect(errno(syscall.ETIMEDOUT)), KindTimeout, "dial tcp 10.0.0.11:8008: connect: connection timed out"},
		{"no such host", connect(noSuchHost), KindDNS, "dial tcp 10.0.0.11:8008: lookup nonexistent.invalid: no such host"},
		{"slow DNS", connect(slowDNS), KindTimeout, "dial tcp 10.0.0.11:8008: lookup nonexistent.invalid on 10.0.0.1:53: i/o timeout"},
		{"anything", errors.New("any\nthing"), KindOther, "any�thing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newTestClient(t, "http://10.0.0.11:8008", time.Minute, dial(tt.err)).Poll(t.Context())
			wantFailure(t, err, tt.kind, tt.want)
			if !errors.Is(err, tt.err) {
				t.Error("does not wrap the cause")
			}
		})
	}
	t.Run("nothing listens", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		_, err = newTestClient(t, "http://"+ln.Addr().String(), time.Minute).Poll(t.Context())
		wantFailure(t, err, KindRefused, "dial tcp HOST: connect: connection refused")
	})
	t.Run("the name server hangs", func(t *testing.T) {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		_, err := newTestClient(t, "http://pg1.example:8008", 50*time.Millisecond, func(tr *Transport) {
			tr.DialContext = (&net.Dialer{Resolver: resolver}).DialContext
		}).Poll(t.Context())
		if f, ok := err.(*Failure); !ok || f.Kind != KindTimeout || !strings.Contains(f.Error(), "pg1.example") { // one of two texts
			t.Errorf("got %v, want a timeout that names pg1.example", err)
		}
	})
	t.Run("the caller ends it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newTestClient(t, "http://127.0.0.1:1", time.Minute).Poll(ctx)
		wantFailure(t, err, KindOther, "context canceled")
	})
}

// TestTimeoutIsTotal has each step be quick enough for itself.
func TestTimeoutIsTotal(t *testing.T) {
	for _, tt := range []struct {
		name string
		dial time.Duration
		step time.Duration // between the bytes of the answer
		took time.Duration
		want string // "" = a report
	}{
		{"drip", 0, 100 * time.Millisecond, 3 * time.Second, "no answer within 3s"},
		{"slow dial and drip", 2900 * time.Millisecond, 10 * time.Millisecond, 3 * time.Second, "no answer within 3s"},
		{"dial that hangs", time.Hour, 0, 3 * time.Second, "no answer within 3s"},
		{"just in time", 2 * time.Second, 10 * time.Millisecond, 2*time.Second + time.Duration(len("HTTP/1.0 503 x\r\n\r\n")+len(running))*10*time.Millisecond, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				defer wg.Wait()
				client := newTestClient(t, "http://pg1:8008", 3*time.Second, func(tr *Transport) {
					tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
						select {
						case <-time.After(tt.dial):
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						here, there := net.Pipe()
						wg.Go(func() {
							defer there.Close()
							if _, err := http.ReadRequest(bufio.NewReader(there)); err != nil {
								return
							}
							for _, b := range []byte("HTTP/1.0 503 x\r\n\r\n" + running) {
								time.Sleep(tt.step)
								if _, err := there.Write([]byte{b}); err != nil {
									return
								}
							}
						})
						return here, nil
					}
				})
				began := time.Now()
				r, err := client.Poll(t.Context())
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if tt.want != "" {
					wantFailure(t, err, KindTimeout, tt.want)
				} else if err != nil || r.Took != tt.took {
					t.Errorf("took %s by itself, error %v", r.Took, err)
				}
			})
		})
	}
}

func TestTLS(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, running) })
	start := func(t *testing.T, mutual bool) (*httptest.Server, *x509.CertPool) {
		s := httptest.NewUnstartedServer(handler)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if mutual {
			s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		}
		s.StartTLS()
		t.Cleanup(s.Close)
		pool := x509.NewCertPool()
		pool.AddCert(s.Certificate())
		return s, pool
	}
	with := func(c *tls.Config) func(*Transport) { return func(tr *Transport) { tr.TLSClientConfig = c } }
	s, pool := start(t, false)
	ends := s.Certificate().NotAfter // httptest has one for all
	poll := func(t *testing.T, url string, edits ...func(*Transport)) error {
		r, err := newTestClient(t, url, time.Minute, edits...).Poll(t.Context())
		if err == nil && (r.Document.Role != RoleReplica || !r.CertificateEnds.Equal(ends)) {
			t.Errorf("got %+v, want a replica whose certificate ends %s", r, ends)
		}
		return err
	}
	t.Run("own authority", func(t *testing.T) {
		if err := poll(t, s.URL, with(&tls.Config{RootCAs: pool})); err != nil {
			t.Error(err)
		}
	})
	t.Run("insecure", func(t *testing.T) {
		if err := poll(t, s.URL, with(&tls.Config{InsecureSkipVerify: true})); err != nil {
			t.Error(err)
		}
	})
	t.Run("unknown authority", func(t *testing.T) {
		wantFailure(t, poll(t, s.URL, with(&tls.Config{RootCAs: x509.NewCertPool()})), KindTLS,
			"tls: failed to verify certificate: x509: certificate signed by unknown authority")
	})
	t.Run("wrong name", func(t *testing.T) {
		wantFailure(t, poll(t, s.URL, with(&tls.Config{RootCAs: pool, ServerName: "pg1.lan"})), KindTLS,
			`tls: failed to verify certificate: x509: certificate is valid for example.com, *.example.com, not pg1.lan: want server-name = "example.com", or verify = "ca"`)
	})
	t.Run("another name, which is expected", func(t *testing.T) {
		if err := poll(t, s.URL, with(&tls.Config{RootCAs: pool, ServerName: "pg1.example.com"})); err != nil {
			t.Error(err)
		}
	})
	anyName := func(tr *Transport) { tr.AnyName = true }
	t.Run("any name", func(t *testing.T) {
		if err := poll(t, s.URL, with(&tls.Config{RootCAs: pool, ServerName: "pg1.lan"}), anyName); err != nil {
			t.Error(err)
		}
	})
	t.Run("any name of an unknown authority", func(t *testing.T) {
		wantFailure(t, poll(t, s.URL, with(&tls.Config{RootCAs: x509.NewCertPool()}), anyName), KindTLS,
			"tls: failed to verify certificate: x509: certificate signed by unknown authority")
	})
	t.Run("too old", func(t *testing.T) {
		wantFailure(t, poll(t, s.URL, with(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})), KindTLS,
			"remote error: tls: protocol version not supported")
	})
	t.Run("http to an https port", func(t *testing.T) {
		wantFailure(t, poll(t, strings.Replace(s.URL, "https", "http", 1)), KindStatus, "status code 400, want 200 or 503")
	})
	t.Run("https to an http port", func(t *testing.T) {
		wantFailure(t, poll(t, strings.Replace(httpServer(t, handler), "http", "https", 1)), KindTLS, "http: server gave HTTP response to HTTPS client")
	})
	t.Run("https to something else", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "220 mail ESMTP\r\n")
			hang(c)
		}()
		wantFailure(t, poll(t, "https://"+ln.Addr().String()), KindTLS, "tls: first record does not look like a TLS handshake")
	})
	t.Run("hang in the handshake", func(t *testing.T) {
		m := newMember(t, func(net.Conn, string) {}) // waits for a line that never comes
		_, err := newTestClient(t, strings.Replace(m.url, "http", "https", 1), 50*time.Millisecond).Poll(t.Context())
		wantFailure(t, err, KindTimeout, "no answer within 50ms: in the TLS handshake")
		waitUntilClosed(t, m)
	})
	t.Run("client certificate", func(t *testing.T) {
		s, pool := start(t, true)
		wantFailure(t, poll(t, s.URL, with(&tls.Config{RootCAs: pool})), KindTLS, "remote error: tls: certificate required")
		if err := poll(t, s.URL, with(&tls.Config{RootCAs: pool, Certificates: s.TLS.Certificates})); err != nil {
			t.Error(err)
		}
	})
}

func httpServer(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		body string
		want Settings
	}{
		{`{"ttl":20,"loop_wait":3,"retry_timeout":4,"postgresql":{"parameters":{}}}`, Settings{20 * time.Second, 3 * time.Second}},
		{`{"ttl":20.5}`, Settings{20 * time.Second, 10 * time.Second}},
		{`{"ttl":"20","loop_wait":"3"}`, Settings{20 * time.Second, 3 * time.Second}},
		{`{"ttl":" +1_20\n","loop_wait":true}`, Settings{120 * time.Second, time.Second}},
		{`{"ttl":"020","loop_wait":"0"}`, Settings{20 * time.Second, 0}},
		{`{"loop_wait":5}`, Settings{30 * time.Second, 5 * time.Second}},
		{`{}`, Settings{30 * time.Second, 10 * time.Second}},
	} {
		m := newMember(t, func(c net.Conn, _ string) { says(c, 200, tt.body) })
		if got, err := newTestClient(t, m.url, time.Minute).Settings(t.Context()); got != tt.want || err != nil {
			t.Errorf("%s gives %+v, %v, want %+v", tt.body, got, err, tt.want)
		}
		if diff := cmp.Diff([]string{"/config"}, m.paths()); diff != "" {
			t.Error("(-want +got)\n" + diff)
		}
	}
}

func TestSettingsFailures(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		kind   Kind
		want   string
	}{
		{"no key", 502, "", KindStatus, "status code 502, want 200"},
		{"an array", 200, "[]", KindDocument, "want a JSON object, got a JSON array"},
		{"a string", 200, `{"ttl":"soon"}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got "soon")`},
		{"a unit", 200, `{"ttl":"30s"}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got "30s")`},
		{"a point", 200, `{"ttl":"20.5"}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got "20.5")`},
		{"hexadecimal", 200, `{"loop_wait":"0x10"}`, KindDocument, `loop_wait: want a whole number of seconds, at least 0 (got "0x10")`},
		{"null", 200, `{"loop_wait":5,"ttl":null}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got null)`},
		{"a list", 200, `{"ttl":[30]}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got [30])`},
		{"nothing", 200, `{"ttl":0}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got 0)`},
		{"huge", 200, `{"ttl":1e300}`, KindDocument, `ttl: want a whole number of seconds, at least 1 (got 1e300)`},
		{"garbage", 200, "<html>", KindDocument, "reading JSON: invalid character '<' looking for beginning of value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMember(t, func(c net.Conn, _ string) { says(c, tt.status, tt.body) })
			_, err := newTestClient(t, m.url, time.Minute).Settings(t.Context())
			wantFailure(t, err, tt.kind, tt.want)
		})
	}
	t.Run("timeout", func(t *testing.T) {
		m := newMember(t, func(c net.Conn, _ string) { hang(c) })
		_, err := newTestClient(t, m.url, 50*time.Millisecond).Settings(t.Context())
		wantFailure(t, err, KindTimeout, "no answer within 50ms")
	})
}

func TestNewClient(t *testing.T) {
	u, err := url.Parse("http://pg1:8008/node/pg1/")
	if err != nil {
		t.Fatal(err)
	}
	if c := NewClient(Options{URL: u, Timeout: time.Second}); c.URL() != "http://pg1:8008/node/pg1" || c.Timeout() != time.Second {
		t.Errorf("got %s, %s", c.URL(), c.Timeout())
	}
}

// canned is a connection on which the answer comes as soon as something was asked.
type canned struct {
	net.Conn
	asked  chan struct{}
	answer []byte
}

func (c *canned) Write(b []byte) (int, error) {
	close(c.asked)
	return len(b), nil
}

func (c *canned) Read(b []byte) (int, error) {
	<-c.asked
	if len(c.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

func (c *canned) Close() error { return nil }

func (c *canned) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 11), Port: 8008} }

// Most of them are net/http's and encoding/json's, so another Go may have others.
func TestPollAllocations(t *testing.T) {
	withoutRace(t)
	const most = 155
	answer := []byte("HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nDate: Mon, 02 Mar 2026 15:04:05 GMT\r\nContent-Type: application/json\r\n\r\n" +
		string(golden(t, "4.1-primary")))
	client := newTestClient(t, "http://10.0.0.11:8008", time.Minute, func(tr *Transport) {
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return &canned{asked: make(chan struct{}), answer: answer}, nil
		}
	})
	if n := testing.AllocsPerRun(200, func() {
		if _, err := client.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}); n > most {
		t.Errorf("%v allocations for each poll, want at most %d: the processor time of a large fleet is mostly that of its polls", n, most)
	}
}

// withoutRace skips a test where the race detector runs, which makes garbage of its own. ./build.sh test runs these tests
// once more without it.
func withoutRace(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("NOT COUNTED with -race: allocations")
	}
}

func BenchmarkPoll(b *testing.B) {
	body := string(golden(b, "4.1-primary"))
	m := newMember(b, func(c net.Conn, _ string) { says(c, 200, body) })
	client := newTestClient(b, m.url, time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Poll(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
