package httpapi_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:40000")

// checkers are requests as health checkers send them, all of them fast.
var checkers = map[string]string{
	"HAProxy, option httpchk":       "OPTIONS /node/pg1/primary HTTP/1.0\r\n\r\n",
	"HAProxy, http-check send":      "GET /node/pg1/primary HTTP/1.0\r\n\r\n",
	"HAProxy, ver HTTP/1.1 hdr":     "GET /node/pg2/replica?lag=16MB HTTP/1.1\r\nhost: pg2\r\nconnection: close\r\n\r\n",
	"curl":                          "GET /node/pg1/read-only HTTP/1.1\r\nHost: localhost:8009\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
	"curl -I":                       "HEAD /node/pg2/primary HTTP/1.1\r\nHost: [::1]:8009\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
	"Go":                            "GET /cluster/main/node/pg1/leader HTTP/1.1\r\nHost: glue\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
	"kube-probe":                    "GET /node/pg3/replica?tag_zone=a&lag=1MB HTTP/1.1\r\nHost: 10.0.0.1:8009\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\nConnection: close\r\n\r\n",
	"ab -k":                         "GET /node/pg2/async HTTP/1.1\r\nConnection: keep-alive\r\nHost: glue\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n",
	"by its old name":               "GET /node/pg1/master HTTP/1.0\r\nHost: glue\r\n\r\n",
	"HAProxy, ver HTTP/1.1":         "GET /node/pg1/primary HTTP/1.1\r\n\r\n",
	"no Host, close":                "OPTIONS /node/pg2/replica HTTP/1.1\r\nConnection: close\r\n\r\n",
	"one that does not pass":        "OPTIONS /node/pg1/replica HTTP/1.1\r\nHost: glue\r\n\r\n",
	"one that does not pass, close": "GET /node/pg1/replica HTTP/1.0\r\nConnection: close\r\n\r\n",
}

// others are requests for net/http, many of them nearly fast ones.
var others = []string{
	"", "\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET /primary HTTP/1.0\r\n\r\n", "GET /health HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary\r\n\r\n",
	"GET /node/pg1/primary HTTP/0.9\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.2\r\n\r\n",
	"GET /node/pg1/primary HTTP/2.0\r\n\r\n",
	"GET  /node/pg1/primary HTTP/1.0\r\n\r\n",
	"get /node/pg1/primary HTTP/1.0\r\n\r\n",
	"POST /node/pg1/primary HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\n\n",
	"GET /node/pg1/primary HTTP/1.0\r\n",
	"\r\nGET /node/pg1/primary HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nAccept: text/plain\r\nX-More: 1\r\n\r\n",
	"GET /node/pg9/primary HTTP/1.1\r\n\r\n",
	"GET /node/pg1/unknown HTTP/1.1\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\n\r\nGET /node/pg1/primary HTTP/1.1\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
	"GET /node/pg1/primary HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\n\n",
	"GET /node/pg1/primary HTTP/1.1\r\n\n",
	"GET /node/pg1/primary HTTP/1.1\r\nUser-Agent: " + strings.Repeat("x", 4000) + "\r\n\r\n",
	"GET /cluster/main/primary HTTP/1.1\r\n\r\n",
	"OPTIONS / HTTP/1.1\r\n\r\n",
	"GET /livez HTTP/1.1\r\n\r\n",
	"GET /history HTTP/1.1\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost:\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\n Connection: close\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\r\nUser-Agent: \x00\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\r\nUser-Agent: \xff\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\r\n: x\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\r\nAccept\r\n\r\n",
	"GET http://glue/node/pg1/primary HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /node/pg1/primary# HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary? HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary?lag=%31MB HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary?lag=1MB&lag=2MB HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary?lag= HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary?x=1 HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary/ HTTP/1.0\r\n\r\n",
	"GET /node//primary HTTP/1.0\r\n\r\n",
	"GET /node/../primary HTTP/1.0\r\n\r\n",
	"GET /node/./primary HTTP/1.0\r\n\r\n",
	"GET /node/pg1/.. HTTP/1.0\r\n\r\n",
	"GET /node/pg%31/primary HTTP/1.0\r\n\r\n",
	"GET /node/pg9/primary HTTP/1.0\r\n\r\n",
	"GET /node/pg1/patroni HTTP/1.0\r\n\r\n",
	"GET /node/pg1/cluster HTTP/1.0\r\n\r\n",
	"GET /node/pg1/leaving HTTP/1.0\r\n\r\n",
	"GET /node/pg1/refresh HTTP/1.0\r\n\r\n",
	"GET /node/pg1/config HTTP/1.0\r\n\r\n",
	"GET /node/pg1/health HTTP/1.0\r\n\r\n",
	"GET /node/pg1/liveness HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary/more HTTP/1.0\r\n\r\n",
	"GET /cluster/other/node/pg1/primary HTTP/1.0\r\n\r\n",
	"GET /cluster/main/nodes/pg1/primary HTTP/1.0\r\n\r\n",
	"GET /cluster/main/primary HTTP/1.0\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\n\r\nGET /node/pg2/primary HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET /node/pg1/primary HTTP/1.0\r\n\r\nx",
	"GET /node/pg1/primary HTTP/1.0\r\nUser-Agent: " + strings.Repeat("x", 4000) + "\r\n\r\n",
	"GET /node/" + strings.Repeat("p", 3000) + "/primary HTTP/1.0\r\n\r\n",
}

// pair is two servers of one supervisor: one answers fast requests fast, for the other net/http answers all.
type pair struct {
	net         *nodetest.Net
	fast, other *httpapi.Server
}

func newPair(t *testing.T, nw *nodetest.Net) pair {
	sup := ready(t)
	p := pair{net: nw}
	for addr, fast := range map[string]bool{"fast:1": true, "other:1": false} {
		s := httpapi.New(httpapi.Config{Supervisor: sup, Settings: httpapi.Settings{Fast: fast}, Log: zerolog.Nop()})
		ln, err := nw.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(t.Context(), ln) }()
		t.Cleanup(func() { <-done })
		if fast {
			p.fast = s
		} else {
			p.other = s
		}
	}
	return p
}

// say sends pieces, each one after the server has read the previous one and had time to
// answer. It returns all that comes back, and when the connection was closed.
func (p pair) say(t *testing.T, addr string, pieces ...string) (string, time.Duration) {
	c, err := p.net.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Error(err)
		return "", 0
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	defer c.Close()
	writer.Go(func() {
		for i, piece := range pieces {
			if i > 0 {
				time.Sleep(time.Second)
			}
			if piece != "" { // a pipe would give the reader a read of nothing
				io.WriteString(c, piece)
			}
		}
	})
	begun := time.Now()
	got, _ := io.ReadAll(c)
	return string(got), time.Since(begun)
}

// whens are the times in an answer, which differ between two servers.
var whens = regexp.MustCompile(`(?m)^Date: .*$|"polled_at":"[^"]*"`)

func timeless(answer string) string { return whens.ReplaceAllString(answer, "at some time") }

// compare sends the same pieces to both servers, and wants the same answers.
func (p pair) compare(t *testing.T, pieces ...string) {
	t.Helper()
	type result struct {
		text string
		took time.Duration
	}
	fast := make(chan result, 1)
	go func() {
		text, took := p.say(t, "fast:1", pieces...)
		fast <- result{timeless(text), took}
	}()
	text, took := p.say(t, "other:1", pieces...)
	got, want := <-fast, result{timeless(text), took}
	// net/http's 5 s for the headers begin when it gets the connection.
	if got.text != want.text || got.took < want.took || got.took > want.took+6*time.Second {
		t.Errorf("%q\nanswered fast, closed after %s:\n%s\nby net/http, after %s:\n%s", pieces, got.took, got.text, want.took, want.text)
	}
	if len(pieces) == 1 {
		if fast := p.fast.AnswerFast(loopback, []byte(pieces[0]), nil); fast != nil && timeless(string(fast)) != want.text {
			t.Errorf("%q\nat once:\n%s\nby net/http:\n%s", pieces, fast, want.text)
		}
	}
}

// inPair runs f with a pair, on fake time.
func inPair(t *testing.T, f func(*testing.T, pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newPair(t, nodetest.NewNet())) })
}

// Whatever is sent, the fast path must give the answer that net/http gives, also to a
// client that looks for differences between the two.
func TestFastIsAsNetHTTP(t *testing.T) {
	inPair(t, func(t *testing.T, p pair) {
		for _, request := range checkers {
			p.compare(t, request)
			p.compare(t, "GET /node/pg1/primary HTTP/1.1\r\nHost: a\r\n\r\n", request)
			half := len(request) / 2
			p.compare(t, request[:half], request[half:])
			if strings.Contains(request, "HTTP/1.1") && strings.Contains(request, "Host:") && !strings.Contains(request, "close") {
				p.compare(t, request, request, "GET /livez HTTP/1.1\r\nHost: glue\r\n\r\n", request)
				p.compare(t, request, "GET /livez HTT", "P/1.0\r\n\r\n")
				p.compare(t, request, "nonsense\r\n\r\n")
			}
		}
		for _, request := range others {
			p.compare(t, request)
		}
	})
}

func FuzzFast(f *testing.F) {
	for _, request := range checkers {
		f.Add([]byte(request), uint16(0))
		f.Add([]byte(request+request), uint16(len(request)))
	}
	for _, request := range others {
		f.Add([]byte(request), uint16(0))
	}
	f.Fuzz(func(t *testing.T, request []byte, cut uint16) {
		at := int(cut) % (len(request) + 1)
		if !httpapi.IsFast(string(request)) && !httpapi.IsFast(string(request[:at])) {
			return // net/http's by both ways
		}
		if rest := len(request) - at; 0 < rest && rest < 4 {
			return // of a kept connection net/http takes fewer bytes for nothing yet, of a new one for half a request
		}
		inPair(t, func(t *testing.T, p pair) {
			p.compare(t, string(request))
			p.compare(t, string(request[:at]), string(request[at:]))
		})
	})
}

// The requests of health checkers have to be fast ones, else there is no gain.
func TestCheckersAreFast(t *testing.T) {
	s := httpapi.New(httpapi.Config{Supervisor: ready(t), Settings: httpapi.Settings{Fast: true}})
	for name, request := range checkers {
		if !httpapi.IsFast(request) {
			t.Errorf("%s is not fast", name)
		}
		fast := s.AnswerFast(loopback, []byte(request), nil)
		if ends := strings.Contains(request, "HTTP/1.0") || strings.Contains(request, "lose") || name == "HAProxy, ver HTTP/1.1"; (fast != nil) != ends {
			t.Errorf("%s: %q", name, fast)
		}
	}
	for _, request := range others {
		if fast := s.AnswerFast(loopback, []byte(request), nil); fast != nil && !bytes.HasPrefix(fast, []byte("HTTP/1.0 ")) {
			t.Errorf("%q: %q", request, fast)
		}
	}
	for name, settings := range map[string]httpapi.Settings{
		"a peer that may not connect": {Fast: true, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	} {
		s.Apply(settings)
		if fast := s.AnswerFast(loopback, []byte(checkers["curl"]), nil); fast != nil {
			t.Errorf("%s: %q", name, fast)
		}
	}
}

// A node that was not polled yet is waited for, which the fast path never does.
func TestFastNeverWaits(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1")
		c.Node("pg1").Freeze()
		s := start(t, nw, nil, partOf(c, "main"))
		begun := time.Now()
		fast := s.server.AnswerFast(loopback, []byte("GET /node/pg1/primary HTTP/1.0\r\n\r\n"), nil)
		if fast != nil || time.Since(begun) != 0 {
			t.Errorf("after %s: %s", time.Since(begun), fast)
		}
		resp, _ := s.raw("GET /node/pg1/primary HTTP/1.0\r\n\r\n")
		if took := time.Since(begun); resp.StatusCode != 503 || took != timeout {
			t.Errorf("%d after %s, want 503 after %s", resp.StatusCode, took, timeout)
		}
	})
}

// A client that sends one request after another on one connection must not delay a stop.
func TestStopEndsKeptConnections(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		const request = "GET /node/pg1/primary HTTP/1.1\r\nHost: glue\r\n\r\n"
		idle, silent, deaf := s.dial(), s.dial(), s.dial()
		go io.WriteString(idle, request)
		if resp := make([]byte, 4096); true {
			if n, err := idle.Read(resp); err != nil || !bytes.HasPrefix(resp[:n], []byte("HTTP/1.1 200 ")) {
				t.Fatalf("%q %v", resp[:n], err)
			}
		}
		go io.WriteString(deaf, request) // and never reads
		synctest.Wait()
		begun := time.Now()
		s.stop()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %s", took)
		}
		for name, c := range map[string]net.Conn{"idle": idle, "silent": silent, "deaf": deaf} {
			c.SetReadDeadline(time.Now().Add(time.Second))
			if rest, err := io.ReadAll(c); err != nil {
				t.Errorf("%s: %q %v", name, rest, err)
			}
		}
	})
}

// The operator's listener requires a password for every request.
func TestOperatorIsNeverFast(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		users := httpapi.NewUsers(map[string]string{"alice": "$2y$05$......................................................"})
		s := httpapi.New(httpapi.Config{
			Supervisor: supervisor(t, nw, cluster.Rules{}, partOf(members(t, nw, "", "main", "pg1"), "main")), Log: zerolog.Nop(),
			Settings: httpapi.Settings{Fast: true, Operator: &httpapi.Operator{Users: users}},
		})
		ln, err := nw.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.ServeOperator(t.Context(), ln) }()
		t.Cleanup(func() { <-done })
		c, err := nw.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, checkers["HAProxy, http-check send"])
		if got, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.0 401 ")) {
			t.Errorf("%q %v", got, err)
		}
	})
}
