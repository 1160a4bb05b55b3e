package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
	"patroniglue/node/nodetest"
)

const (
	ttl     = 5 * time.Second
	timeout = 3 * time.Second
)

// stack is everything from simulated members to the handler, over a network in
// memory.
type stack struct {
	testing.TB
	net    *nodetest.Net
	server *httpapi.Server
	stop   func() // ends the supervisor and the server, and waits
	served error  // what Serve returned; after stop
}

// address is where the server listens on the stack's network.
const address = "glue:8009"

// part is one cluster that a stack polls: a simulated one, or nodes at other addresses.
type part struct {
	name  string
	nodes *nodetest.Cluster
	urls  map[string]string // of nodes that are elsewhere
	order []string
	scope string
}

func partOf(c *nodetest.Cluster, name string) part { return part{name: name, nodes: c} }

// members starts a simulated cluster. With synctest it must be called in the bubble.
func members(t testing.TB, nw *nodetest.Net, version, scope string, names ...string) *nodetest.Cluster {
	t.Helper()
	c := nodetest.Options{
		Version: version, Listen: nw.Listen,
		Addr: func(name string) string { return scope + "-" + name + ":8008" },
	}.NewCluster(scope, names...)
	t.Cleanup(c.Close)
	return c
}

func supervisor(t testing.TB, nw *nodetest.Net, rules cluster.Rules, parts ...part) *cluster.Supervisor {
	t.Helper()
	transport := node.NewTransport()
	transport.DialContext = nw.DialContext
	cfg := cluster.Config{TTL: ttl, Rules: rules}
	for _, p := range parts {
		c := cluster.ClusterConfig{Name: p.name, Scope: p.scope}
		add := func(name, address string) {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			c.Nodes = append(c.Nodes, cluster.NodeConfig{
				Name: name, Postgres: "10.0.0.1:5432", Fall: 3,
				Client:   node.NewClient(node.Options{URL: u, Timeout: timeout, Transport: transport}),
				Interval: time.Second, PrimaryInterval: 250 * time.Millisecond, FastInterval: 100 * time.Millisecond,
			})
		}
		if p.nodes != nil {
			for _, n := range p.nodes.Nodes() {
				add(n.Name(), n.URL())
			}
		}
		for _, name := range p.order {
			add(name, p.urls[name])
		}
		cfg.Clusters = append(cfg.Clusters, c)
	}
	return cluster.New(cfg)
}

// start runs a supervisor and serves it at address.
func start(t testing.TB, nw *nodetest.Net, change func(*httpapi.Config), parts ...part) *stack {
	t.Helper()
	return startAt(t, nw, address, change, cluster.Rules{}, parts...)
}

func startAt(t testing.TB, nw *nodetest.Net, address string, change func(*httpapi.Config), rules cluster.Rules, parts ...part) *stack {
	t.Helper()
	sup := supervisor(t, nw, rules, parts...)
	cfg := httpapi.Config{Supervisor: sup, Version: "2.0.0-test", Log: zerolog.Nop()}
	cfg.Fast = true // as by default
	if change != nil {
		change(&cfg)
	}
	s := &stack{TB: t, net: nw, server: httpapi.New(cfg)}
	ln, err := nw.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	polled, served := make(chan error, 1), make(chan error, 1)
	go func() { polled <- sup.Run(ctx) }()
	go func() { served <- s.server.Serve(ctx, ln) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-polled; err != nil {
			t.Errorf("the supervisor ended with %v", err)
		}
		if s.served = <-served; s.served != nil {
			t.Errorf("the server ended with %v", s.served)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// settle waits until all nodes are polled and the cluster is settled.
func settle() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

// answer is the answer to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request to the handler, without a connection.
func (s *stack) ask(method, target string) answer {
	s.Helper()
	return s.askWith(http.Header{}, method, target)
}

func (s *stack) askWith(header http.Header, method, target string) answer {
	s.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		s.Fatal(err)
	}
	r := (&http.Request{
		Method: method, URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody, Host: "glue",
	}).WithContext(s.Context())
	w := &recorder{header: http.Header{}}
	s.server.Handler().ServeHTTP(w, r)
	return answer{w.status, w.header, w.body.String()}
}

func (s *stack) get(target string) answer { s.Helper(); return s.ask("GET", target) }

// want sends a GET and compares the status and the whole body.
func (s *stack) want(target string, status int, body string) {
	s.Helper()
	a := s.get(target)
	if a.status != status || strings.TrimSuffix(a.body, "\n") != body {
		s.Errorf("GET %s = %d\n%s\nwant %d\n%s", target, a.status, a.body, status, body)
	}
	if !json.Valid([]byte(a.body)) {
		s.Errorf("GET %s: not JSON: %s", target, a.body)
	}
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		s.Errorf("GET %s: header %v", target, a.header)
	}
}

// decode sends a GET and reads the JSON into v.
func (s *stack) decode(target string, v any) int {
	s.Helper()
	a := s.get(target)
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		s.Fatalf("GET %s: %v in %s", target, err, a.body)
	}
	return a.status
}

// recorder is a minimal ResponseWriter.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// dial connects to the server.
func (s *stack) dial() net.Conn {
	s.Helper()
	c, err := s.net.DialContext(s.Context(), "tcp", address)
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// raw sends bytes on a connection of their own and reads one answer.
func (s *stack) raw(request string) (*http.Response, string) {
	s.Helper()
	c := s.dial()
	defer c.Close()
	go io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		s.Fatalf("%.60q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatalf("%.60q: %v", request, err)
	}
	return resp, string(body)
}

// patroniAnswer is the status that a simulated member itself answers.
func patroniAnswer(n *nodetest.Node, method, target string) int {
	c := n.State()
	dcs := nodetest.DCS{Leader: "", Members: []nodetest.State{c}}
	return nodetest.Decide(c, dcs, nodetest.Request{Method: method, Target: target}, time.Now()).Status
}

// bubble runs a test on fake time with a network of its own.
func bubble(t *testing.T, f func(*testing.T, *nodetest.Net)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, nodetest.NewNet()) })
}

// document is the document that the member itself answers.
func document(n *nodetest.Node) string {
	s := n.State()
	a := nodetest.Decide(s, nodetest.DCS{}, nodetest.Request{Method: "GET", Target: "/patroni"}, time.Now())
	return string(a.Body)
}

func errorBody(format string, args ...any) string {
	b, _ := json.Marshal(map[string]string{"error": fmt.Sprintf(format, args...)})
	return string(b)
}
