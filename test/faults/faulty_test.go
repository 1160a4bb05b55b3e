package faults

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
	"patroniglue/node/nodetest"
)

// faulty is everything from three simulated nodes to the answers, in a bubble.
type faulty struct {
	*testing.T
	sim   *nodetest.Cluster
	net   *nodetest.Net
	web   http.Handler
	sup   *cluster.Supervisor
	links sync.Map     // link, by a node's name; none = it works
	slept atomic.Int64 // how long the machine was suspended

	mu    sync.Mutex
	dials map[string][]time.Time // guarded by mu: when which node was connected to

	roots                        *x509.CertPool
	cert                         atomic.Pointer[tls.Certificate] // of pg1; the others' is good
	good, expired, foreign, self *tls.Certificate
}

func startFaulty(t *testing.T, https bool) *faulty {
	t.Helper()
	s := &faulty{T: t, net: nodetest.NewNet(), dials: make(map[string][]time.Time)}
	o := nodetest.Options{Listen: s.net.Listen, Addr: func(name string) string { return name + ":8008" }}
	if https {
		s.certify()
		o.TLS = &tls.Config{GetCertificate: s.certificateFor}
	}
	s.sim = o.NewCluster("main", "pg1", "pg2", "pg3")
	t.Cleanup(s.sim.Close)

	transport := node.NewTransport()
	transport.TLSClientConfig = &tls.Config{RootCAs: s.roots}
	transport.DialContext = s.dial
	c := cluster.ClusterConfig{Name: "main"}
	for _, n := range s.sim.Nodes() {
		address, err := url.Parse(n.URL())
		if err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, cluster.NodeConfig{
			Name: n.Name(), Client: node.NewClient(node.Options{URL: address, Timeout: timeout, Transport: transport}),
			Interval: interval, PrimaryInterval: primary, FastInterval: fast, Fall: fall,
		})
	}
	s.sup = cluster.New(cluster.Config{
		TTL: ttl, Clusters: []cluster.ClusterConfig{c}, Rules: cluster.Rules{LagHold: 10 * time.Second, SameTimeline: true},
		Suspended: func() time.Duration { return time.Duration(s.slept.Load()) },
	})
	s.web = httpapi.New(httpapi.Config{Supervisor: s.sup, Log: zerolog.Nop()}).Handler()
	agents := agentapi.New(agentapi.Config{Asker: s.sup, Log: zerolog.Nop()})
	ln, err := s.net.Listen("tcp", "glue:5555")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.sup.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { _ = agents.Serve(ctx, ln, func() *cluster.Question { return nil }) })
	t.Cleanup(func() { // the bubble sees to it that no goroutine is left
		cancel()
		running.Wait()
	})
	time.Sleep(10*time.Second + 130*time.Millisecond) // all is well, and this moment is none of a poll's
	return s
}

// link is a way to a node that does not work.
type link string

const (
	noPackets link = "packets dropped"      // nothing goes to it, and nothing comes back
	noWord    link = "handshake that hangs" // it takes connections and what is sent, and says nothing
)

func (s *faulty) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	name, _, _ := strings.Cut(addr, ":")
	s.mu.Lock()
	s.dials[name] = append(s.dials[name], time.Now())
	s.mu.Unlock()
	switch how, _ := s.links.Load(name); how {
	case noPackets:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
	case noWord:
		here, there := net.Pipe()
		go io.Copy(io.Discard, there)
		return here, nil
	}
	return s.net.DialContext(ctx, network, addr)
}

func (s *faulty) all(f nodetest.Fault) {
	for _, n := range s.sim.Nodes() {
		n.SetFault(f)
	}
}

func (s *faulty) play(err error) {
	if err != nil {
		s.Error(err)
	}
}

func (s *faulty) recovers() {
	s.links.Clear()
	s.sim.Node("pg1").Thaw()
}

// said is what was answered about a node's /primary at a moment.
type said struct {
	status        int
	reason, agent string
}

func (s *faulty) ask(name, check string) (a said) {
	s.Helper()
	w := httptest.NewRecorder()
	s.web.ServeHTTP(w, httptest.NewRequest("GET", "/node/"+name+"/"+check, nil))
	var body struct {
		Patroniglue struct{ Reason string } `json:"patroniglue"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		s.Fatalf("%s: %v: %s", name, err, w.Body)
	}
	a.status, a.reason = w.Code, body.Patroniglue.Reason

	conn, err := s.net.DialContext(s.Context(), "tcp", "glue:5555")
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, name+"/"+check+"\n"); err != nil {
		s.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		s.Fatal(err)
	}
	a.agent = age.ReplaceAllString(strings.TrimSpace(line), "last answer Ns ago")
	a.reason = age.ReplaceAllString(a.reason, "last answer Ns ago")
	return a
}

// age is what differs from time to time.
var age = regexp.MustCompile(`last answer [0-9.]+s ago`)

// everybody asks about all nodes, by HTTP and agent, in one moment, and gives
// who passes primary.
func (s *faulty) everybody() (passes string, pg1 said) {
	s.Helper()
	who, pg1 := s.passing("primary")
	if len(who) > 1 {
		s.Errorf("%q pass primary", who)
	}
	return strings.Join(who, " "), pg1
}

// passing gives who passes a check. HTTP and agents never disagree, and whoever
// does not pass has a reason.
func (s *faulty) passing(check string) (who []string, pg1 said) {
	s.Helper()
	synctest.Wait() // or a poll could end between two questions
	now := time.Now()
	for _, n := range s.sim.Nodes() {
		a := s.ask(n.Name(), check)
		if passing := a.status == http.StatusOK; passing != strings.HasPrefix(a.agent, "ready up ") {
			s.Errorf("%s/%s: HTTP says %d (%s), the agent %q", n.Name(), check, a.status, a.reason, a.agent)
		} else if passing {
			who = append(who, n.Name())
		}
		if a.reason == "" || !reasoned.MatchString(a.agent) {
			s.Errorf("%s/%s: %d and %q without a reason", n.Name(), check, a.status, a.agent)
		}
		if n.Name() == "pg1" {
			pg1 = a
		}
	}
	if took := time.Since(now); took != 0 {
		s.Errorf("the answers took %s", took)
	}
	return who, pg1
}

// reasoned is an agent line that says why.
var reasoned = regexp.MustCompile(`^(ready up 100%|ready down|maint down|drain up 100%) #.`)

// connected is how often a node was connected to.
func (s *faulty) connected(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dials[name])
}

func (s *faulty) forgetDials() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.dials)
}

// busiest is how often a node was connected to in its busiest second.
func (s *faulty) busiest(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, first := 0, 0
	for i, at := range s.dials[name] {
		for at.Sub(s.dials[name][first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
