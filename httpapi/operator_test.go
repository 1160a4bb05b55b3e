package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// Of alice, with the lowest cost. By htpasswd it is $2y$, by others $2a$ or $2b$.
const (
	alicePassword = "correct horse"
	aliceHash     = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	testToken     = "the-token"
	operatorAddr  = "glue:8010"
)

// startOperator serves an operator's listener beside the stack's.
func startOperator(t *testing.T, nw *nodetest.Net, o *httpapi.Operator, log io.Writer) *stack {
	t.Helper()
	s := start(t, nw, func(c *httpapi.Config) {
		c.Token, c.Operator = testToken, o
		c.Log = zerolog.New(log)
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") })
	}, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
	ln, err := nw.Listen("tcp", operatorAddr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- s.server.ServeOperator(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("the operator's listener ended with %v", err)
		}
	})
	settle()
	return s
}

// askAt sends a request over a connection, and returns the answer with the first bytes
// of its body: some bodies do not end.
func (s *stack) askAt(addr, method, path string, header ...string) answer {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, "http://"+addr+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	for pair := range slices.Chunk(header, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	transport := &http.Transport{DialContext: s.net.DialContext, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		s.Fatalf("%s %s%s: %v", method, addr, path, err)
	}
	defer resp.Body.Close()
	body := make([]byte, 4096)
	n, _ := resp.Body.Read(body)
	return answer{resp.StatusCode, resp.Header, string(body[:n])}
}

func basic(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func alice() *httpapi.Users { return httpapi.NewUsers(map[string]string{"alice": aliceHash}) }

// Where checks are answered, load balancers get what they need, and nobody gets anything
// else. No browser may guess the type of an answer, or keep it.
func TestOperatorRoutes(t *testing.T) {
	patterns := regexp.MustCompile(`(?:check|read|balancer|operator|Handle)\((?:prefix\+)?"(/[^"]*)"`)
	source, err := os.ReadFile("routes.go")
	if err != nil {
		t.Fatal(err)
	}
	unseen := map[string]bool{}
	for _, m := range patterns.FindAllStringSubmatch(string(source), -1) {
		unseen[m[1]] = true
	}
	delete(unseen, "/") // it is no route
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := startOperator(t, nw, new(httpapi.Operator), io.Discard)
		for _, tt := range []struct {
			pattern, method, path string
			onChecks, onOperator  int
		}{
			{"/{check}", "GET", "/node/pg1/primary", 200, 200},
			{"/{check}", "OPTIONS", "/node/pg2/primary?lag=1MB", 503, 503},
			{"/{check}", "GET", "/cluster/main/node/pg2/replica", 200, 200},
			{"/{check}", "GET", "/node/pg1/nonsense", 404, 404},
			{"/cluster/{cluster}/{check}", "HEAD", "/cluster/main/replica", 200, 200},
			{"/{check}", "GET", "/primary", 200, 200},
			{"/{$}", "OPTIONS", "/", 200, 200},
			{"/{$}", "HEAD", "/", 200, 200},
			{"/livez", "GET", "/livez", 200, 200},
			{"/readyz", "GET", "/readyz", 200, 200},
			{"/leaving", "POST", "/node/pg2/leaving", 401, 401},
			{"", "GET", "/nonsense/of/mine", 404, 404},
			{"", "GET", "/node//primary", 404, 404},

			{"/{$}", "GET", "/", 404, 200},
			{"/ui/{cluster}", "GET", "/ui/main", 404, 200},
			{"/live", "GET", "/live", 404, 200},
			{"/ui/{cluster}/live", "GET", "/ui/main/live", 404, 200},
			{"/assets/{file}", "GET", "/assets/page.js", 404, 200},
			{"", "GET", "/node/pg1", 404, 200},
			{"/patroni", "GET", "/node/pg1/patroni", 404, 200},
			{"/patroni", "GET", "/patroni", 404, 200},
			{"/cluster", "GET", "/node/pg1/cluster", 404, 200},
			{"/cluster", "GET", "/cluster", 404, 200},
			{"/cluster/{cluster}", "GET", "/cluster/main", 404, 200},
			{"/cluster/{cluster}/cluster", "GET", "/cluster/main/cluster", 404, 200},
			{"/cluster/{cluster}/patroni", "GET", "/cluster/main/patroni", 404, 200},
			{"", "GET", "/node/pg1/config", 404, 404},
			{"", "GET", "/node/pg1/metrics", 404, 404},
			{"/refresh", "POST", "/node/pg1/refresh", 401, 202},
			{"/health", "GET", "/health", 404, 200},
			{"/health", "HEAD", "/health", 404, 200},
			{"/history", "GET", "/history", 404, 200},
			{"/events", "GET", "/events", 404, 200},
			{"/metrics", "GET", "/metrics", 404, 200},
		} {
			delete(unseen, tt.pattern)
			for addr, want := range map[string]int{address: tt.onChecks, operatorAddr: tt.onOperator} {
				a := s.askAt(addr, tt.method, tt.path)
				if a.status != want {
					t.Errorf("%s %s%s = %d %s, want %d", tt.method, addr, tt.path, a.status, a.body, want)
				}
				if h := a.header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || a.body != "" && h.Get("Content-Type") == "" {
					t.Errorf("%s %s%s has the headers %v, want nosniff and no-store", tt.method, addr, tt.path, h)
				}
				if addr == address && tt.onOperator < 300 && want == 404 && tt.method != "HEAD" && !strings.Contains(a.body, "is on the operator's listener") {
					t.Errorf("%s %s%s does not say where it is: %s", tt.method, addr, tt.path, a.body)
				}
				if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "default-src 'none'; ") {
					t.Errorf("%s %s%s has no strict policy: %v", tt.method, addr, tt.path, a.header)
				}
			}
		}
	})
	for pattern := range unseen {
		t.Errorf("routes.go has %q: say here where it is answered", pattern)
	}
}

func TestOperatorLogin(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		var log bytes.Buffer
		s := startOperator(t, nw, &httpapi.Operator{Users: alice()}, &log)
		for _, tt := range []struct {
			name, authorization string
			status              int
			took                time.Duration
		}{
			{"nothing", "", 401, 0},
			{"wrong", basic("alice", "wrong"), 401, 100 * time.Millisecond},
			{"right", basic("alice", alicePassword), 200, 0},
			{"right again", basic("alice", alicePassword), 200, 0},
			{"wrong after right", basic("alice", alicePassword+"x"), 401, 100 * time.Millisecond},
			{"no password", basic("alice", ""), 401, 100 * time.Millisecond},
			{"of another", basic("bob", alicePassword), 401, 100 * time.Millisecond},
			{"nobody", basic("", ""), 401, 100 * time.Millisecond},
			{"the hash", basic("alice", aliceHash), 401, 100 * time.Millisecond},
			{"token", "Bearer " + testToken, 200, 0},
			{"wrong token", "Bearer other", 401, 0},
			{"no token", "Bearer ", 401, 0},
			{"nonsense", "Basic %%%", 401, 0},
			{"digest", "Digest username=alice", 401, 0},
		} {
			began := time.Now()
			a := s.askAt(operatorAddr, "GET", "/node/pg1", "Authorization", tt.authorization)
			if a.status != tt.status || time.Since(began) != tt.took {
				t.Errorf("%s: %d %s after %s, want %d after %s", tt.name, a.status, a.body, time.Since(began), tt.status, tt.took)
			}
			if asks := a.header.Get("WWW-Authenticate") != ""; asks != (tt.status == 401) {
				t.Errorf("%s: %d with %v", tt.name, a.status, a.header)
			}
		}
		if got := s.server.Logins(); got != (httpapi.Logins{Wrong: 10}) {
			t.Errorf("logins that failed: %+v, want 10", got)
		}
		for path, want := range map[string]int{"/livez": 401, "/": 401, "/metrics": 401, "/node/pg1/primary": 401, "/nonsense/x": 401} {
			if a := s.askAt(operatorAddr, "GET", path); a.status != want {
				t.Errorf("GET %s without a password: %d", path, a.status)
			}
		}
		for authorization, want := range map[string]int{"Bearer " + testToken: 202, "Bearer x": 401, basic("alice", alicePassword): 401} {
			if a := s.askAt(address, "POST", "/node/pg1/refresh", "Authorization", authorization); a.status != want {
				t.Errorf("POST /node/pg1/refresh where checks are, as %s: %d, want %d", authorization, a.status, want)
			}
		}
		if a := s.askAt(address, "GET", "/node/pg1/primary"); a.status != 200 {
			t.Errorf("a check wants a password: %d", a.status)
		}
		for _, secret := range []string{alicePassword, aliceHash, testToken, "alice", "bob"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log has %q:\n%s", secret, &log)
			}
		}

		// A reload replaces the passwords: the old one is not remembered.
		settings := s.server.Settings()
		settings.Operator = &httpapi.Operator{Users: httpapi.NewUsers(map[string]string{"alice": strings.Replace(aliceHash, "cdefg", "gfedc", 1)})}
		s.server.Apply(settings)
		if a := s.askAt(operatorAddr, "GET", "/node/pg1", "Authorization", basic("alice", alicePassword)); a.status != 401 {
			t.Errorf("the password of before a reload: %d", a.status)
		}
		// When the listener has been removed, open connections get no answers.
		settings.Operator = nil
		s.server.Apply(settings)
		if c, err := nw.DialContext(t.Context(), "tcp", operatorAddr); err == nil {
			if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
				t.Errorf("after a reload without [operator]: %q %v", rest, err)
			}
			c.Close()
		}
	})
}

// A flood of wrong passwords delays neither checks, nor users that are logged in, nor
// programs with the token. At most ten passwords a second are tried, by all clients.
func TestOperatorFlood(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := startOperator(t, nw, &httpapi.Operator{Users: alice()}, io.Discard)
		if a := s.askAt(operatorAddr, "GET", "/node/pg1", "Authorization", basic("alice", alicePassword)); a.status != 200 {
			t.Fatalf("alice: %d", a.status)
		}
		const flood = 200
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		began := time.Now()
		for i := range flood {
			wg.Go(func() {
				a := s.askAt(operatorAddr, "GET", "/", "Authorization", basic("alice", fmt.Sprint(i)))
				mu.Lock()
				defer mu.Unlock()
				got[a.status]++
			})
		}
		synctest.Wait() // one is tried, the others wait
		for _, tt := range []struct{ addr, path, authorization string }{
			{address, "/node/pg1/primary", ""},
			{operatorAddr, "/", basic("alice", alicePassword)},
			{operatorAddr, "/metrics", "Bearer " + testToken},
		} {
			if a := s.askAt(tt.addr, "GET", tt.path, "Authorization", tt.authorization); a.status != 200 || time.Now() != began {
				t.Errorf("GET %s%s during a flood: %d after %s", tt.addr, tt.path, a.status, time.Since(began))
			}
		}
		wg.Wait()
		if got[401] != 32 || got[503] != flood-32 || time.Since(began) != 3200*time.Millisecond {
			t.Errorf("the flood got %v in %s, want 32 times 401 in 3.2 s, else 503", got, time.Since(began))
		}
		if got := s.server.Logins(); got != (httpapi.Logins{Wrong: 32, Busy: flood - 32}) {
			t.Errorf("counted %+v", got)
		}
	})
}

// A browser sends the password by itself, also with requests of another site's page.
func TestOperatorCrossSite(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := startOperator(t, nw, &httpapi.Operator{Users: alice()}, io.Discard)
		for site, want := range map[string]int{"same-origin": 202, "cross-site": 403, "same-site": 403, "none": 202} {
			a := s.askAt(operatorAddr, "POST", "/node/pg1/refresh", "Authorization", basic("alice", alicePassword), "Sec-Fetch-Site", site)
			if a.status != want {
				t.Errorf("POST from %s: %d %s, want %d", site, a.status, a.body, want)
			}
		}
	})
}

// Each listener has an allow list of its own.
func TestOperatorAllow(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := startOperator(t, nw, &httpapi.Operator{Allow: prefixes("10.0.0.0/8")}, io.Discard)
		for peer, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.1.2.3": false, "::ffff:11.1.2.3": false} {
			inner, err := nw.Listen("tcp", "glue:9999")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error)
			go func() {
				served <- s.server.ServeOperator(ctx, peerListener{inner, &net.TCPAddr{IP: net.ParseIP(peer), Port: 1234}})
			}()
			c, err := nw.DialContext(ctx, "tcp", "glue:9999")
			if err != nil {
				t.Fatal(err)
			}
			go io.WriteString(c, "GET /livez HTTP/1.0\r\n\r\n")
			if got, _ := io.ReadAll(c); bytes.HasPrefix(got, []byte("HTTP/1.0 200 OK\r\n")) != want {
				t.Errorf("%s: %q", peer, got)
			}
			c.Close()
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
}
