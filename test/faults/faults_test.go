package faults

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
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
	"patroniglue/test/harness"
)

// fault is one line of the table of faults: what happens to pg1, the primary of
// three simulated nodes, and what everybody is told of it.
//
//   - TestFaults plays it with everything from the poll to the answers of HTTP
//     and agents, over a network in memory and with an exact clock.
//   - TestFaultsBehindHAProxy plays those with a haproxy line again, with the
//     program in a process of its own, sockets and the real HAProxy; others
//     TestWhenAPartDies does.
//
// What needs a network's or a cluster's real parts is in faults_network_test.go
// and e2e_faults_test.go. docs/reliability.md tells users of all of them.
type fault struct {
	name  string
	begin func(*faulty)
	lasts time.Duration
	end   func(*faulty) // nil: pg1 works again
	tls   bool          // the nodes speak https
	rare  bool          // looked at less often, as it lasts

	passes []string      // who passes primary, one after another; "" is nobody
	early  time.Duration // pg1 is in service for at least as long
	out    time.Duration // and out of it after at most this; 0: it never is
	reason string        // what HTTP says of pg1/primary just before the end
	agent  string        // what the agent says then; both may go on
	back   time.Duration // after the end the last of passes is in service within this

	haproxy string // states of pg1, pg2, pg3 for writes, then reads, while it lasts
}

// The defaults, which all bounds are made of.
const (
	ttl      = 5 * time.Second
	interval = time.Second
	primary  = 250 * time.Millisecond
	fast     = 100 * time.Millisecond
	timeout  = 3 * time.Second
	fall     = 3

	glance = 50 * time.Millisecond // how often everybody is asked
	jitter = primary / 10          // polls of the primary are that much apart from their time
	moment = 10 * time.Millisecond // for what takes no time
	// backoff is how long a node that hangs is left alone at most.
	backoff = 8*interval*11/10 + timeout
)

// Knowledge ends with the TTL, and that is counted from when the last good poll
// began: that was a primary-interval before the fault at most.
const (
	lastGood = ttl - primary - jitter
	hardFall = primary + jitter + (fall-1)*(fast+moment) + moment
)

var (
	inAndOut = []string{"pg1", "", "pg1"}
	always   = []string{"pg1"}

	outOfService = "DOWN MAINT MAINT / DOWN UP UP"
	inService    = "UP MAINT MAINT / MAINT UP UP"
)

// soft is a fault after which the node may still be primary: it is believed
// until the TTL ends. It answers nonsense, so that a poll after its end is good.
func soft(f nodetest.Fault, reason string) fault {
	return fault{
		begin: func(s *faulty) { s.sim.Node("pg1").SetFault(f) }, lasts: 7 * time.Second,
		passes: inAndOut, early: lastGood, out: ttl, reason: "stale: last answer Ns ago, ttl 5s: " + reason,
		agent: "ready down #stale: last answer Ns ago, ttl 5s: ", back: 2 * fast, haproxy: outOfService,
	}
}

// hanging is soft, but polls take their whole timeout, and back off.
func hanging(begin func(*faulty)) fault {
	return fault{
		begin: begin, lasts: 7 * time.Second,
		passes: inAndOut, early: lastGood, out: ttl, reason: "stale: last answer Ns ago, ttl 5s: no answer within 3s",
		agent: "ready down #stale: last answer Ns ago, ttl 5s: no answer within 3s", back: backoff, haproxy: outOfService,
	}
}

// hard proves that nothing listens: fall polls in a row end belief at once.
func hard(f nodetest.Fault, reason string) fault {
	return fault{
		begin: func(s *faulty) { s.sim.Node("pg1").SetFault(f) }, lasts: 3 * time.Second,
		passes: inAndOut, early: primary - jitter, out: hardFall, reason: "not answering: " + reason,
		agent: "ready down #not answering: ", back: 2 * fast, haproxy: outOfService,
	}
}

// certificate has pg1 show another one.
func certificate(of func(*faulty) *tls.Certificate, reason string) fault {
	f := soft(nodetest.None, reason)
	f.tls, f.haproxy = true, ""
	f.begin = func(s *faulty) { s.cert.Store(of(s)) }
	f.end = func(s *faulty) { s.cert.Store(s.good) }
	return f
}

// withoutBackoff is for polls that occupy no worker of Patroni: the next one begins at once.
func (f fault) withoutBackoff() fault { f.back = timeout + fast; return f }

func (f fault) named(name string) fault { f.name = name; return f }

// unharmed is what nobody notices.
func unharmed(name string, lasts time.Duration, begin, end func(*faulty)) fault {
	return fault{name: name, begin: begin, lasts: lasts, end: end, passes: always,
		reason: "holds the leader lock", agent: "ready up 100% #primary", haproxy: inService}
}

func freeze(s *faulty) { s.sim.Node("pg1").Freeze() }

func delay(d time.Duration) func(*faulty) {
	return func(s *faulty) { s.sim.Node("pg1").SetDelay(d) }
}

// faults is the table.
var faults = []fault{
	unharmed("process frozen for less than the TTL", lastGood-glance, freeze, nil).withoutHAProxy(),
	hanging(freeze).named("process frozen for longer than the TTL").withoutHAProxy(),
	hard(nodetest.Refuse, "dial tcp pg1:8008: connect: connection refused (").named("REST port refused"),
	hard(nodetest.Reset, "read tcp client:0->pg1:8008: read: connection reset by peer (").named("connections reset"),
	hanging(func(s *faulty) { s.links.Store("pg1", noPackets) }).named("packets dropped").withoutBackoff().withoutHAProxy(),
	hanging(func(s *faulty) { s.sim.Node("pg1").SetFault(nodetest.Drip) }).named("a byte per second"),
	{
		name: "answer after 2.9 s", begin: delay(2900 * time.Millisecond), end: delay(0), lasts: 30 * time.Second, rare: true,
		// An answer as late as this could not be followed by another one before it is too
		// old. In service and out of it with each poll would be worse than out.
		passes: inAndOut, early: lastGood, out: ttl,
		reason: "stale: last answer Ns ago, ttl 5s: answered after 2.9s, want at most 2.5s (half the ttl)", agent: "ready down #stale: last answer Ns ago, ttl 5s: answered after 2.9s",
		back: timeout + 2*fast,
	},
	unharmed("answer after 2.4 s", 30*time.Second, delay(2400*time.Millisecond), delay(0)).seldom().withoutHAProxy(),
	soft(nodetest.CloseEarly, "status code 200 with a bad document: reading JSON: unexpected end of JSON input").named("half an answer"),
	soft(nodetest.Empty, "the connection was closed before the answer was complete").named("closed without an answer"),
	soft(nodetest.Garbage, "status code 200 with a bad document: want a JSON object, got \"<h1>It works!</h1>").named("200 with garbage"),
	soft(nodetest.WrongShape, "status code 200 with a bad document: want a JSON object, got \"[1, 2, 3]\"").named("JSON of the wrong shape"),
	soft(nodetest.Status500, "status code 500, want 200 or 503").named("status 500"),
	soft(nodetest.Redirect, "status code 302, want 200 or 503").named("redirect"),
	soft(nodetest.Huge, "answer larger than 1 MiB").named("an answer of 10 MB").seldom(),
	soft(nodetest.EndlessHeaders, "headers larger than 16 KiB").named("endless headers"),

	hanging(func(s *faulty) { s.links.Store("pg1", noWord) }).named("TLS handshake that hangs").overTLS(),
	certificate(func(s *faulty) *tls.Certificate { return s.expired }, "tls: failed to verify certificate: x509: certificate has expired or is not yet valid").named("expired certificate"),
	certificate(func(s *faulty) *tls.Certificate { return s.foreign }, "tls: failed to verify certificate: x509: certificate is valid for pg9, not pg1").named("certificate for another name"),
	certificate(func(s *faulty) *tls.Certificate { return s.self }, "tls: failed to verify certificate: x509: certificate signed by unknown authority").named("self-signed certificate"),

	unharmed("DCS lost with failsafe mode", 30*time.Second, func(s *faulty) { s.sim.LoseDCS(true) },
		func(s *faulty) { s.play(s.sim.FailsafeBlip(s.Context(), 140*time.Millisecond)) }).seldom().withoutHAProxy(),
	{
		name: "DCS lost without failsafe mode", begin: func(s *faulty) { s.sim.LoseDCS(false) }, end: func(s *faulty) { s.sim.RestoreDCS() }, lasts: 30 * time.Second, rare: true,
		passes: inAndOut, out: primary + jitter + moment, reason: "role is replica", agent: "maint down #replica", back: 2 * fast,
	},
	unharmed("pause", 30*time.Second, func(s *faulty) { s.sim.SetPause(true) }, func(s *faulty) { s.sim.SetPause(false) }).seldom(),
	unharmed("DCS lost in pause", 30*time.Second, func(s *faulty) { s.sim.SetPause(true); s.sim.LoseDCS(false) },
		func(s *faulty) { s.sim.RestoreDCS(); s.sim.SetPause(false) }).seldom(),
	{
		name: "switchover", begin: func(s *faulty) {
			s.play(s.sim.SwitchoverSlowly(s.Context(), "pg2", nodetest.MeasuredSwitchover))
		}, end: func(*faulty) {}, lasts: 5 * time.Second,
		passes: []string{"pg1", "", "pg2"}, out: primary + jitter + moment, reason: "role is replica", agent: "maint down #replica", back: moment,
		haproxy: "MAINT UP MAINT / UP MAINT UP",
	},
	{
		name: "failover", begin: func(s *faulty) { s.sim.Failover("pg2") }, end: func(*faulty) {}, lasts: 5 * time.Second,
		passes: []string{"pg1", "pg2"}, out: interval + interval/10 + 4*fast, reason: "not answering: dial tcp pg1:8008: connect: connection refused (", agent: "ready down #not answering: ", back: moment,
		haproxy: "DOWN UP MAINT / DOWN MAINT UP",
	},
	{
		name: "failover from a frozen primary", begin: func(s *faulty) { freeze(s); s.sim.Promote("pg2") }, end: func(*faulty) {}, lasts: 8 * time.Second,
		passes: []string{"pg1", "pg2"}, out: interval + interval/10 + 5*fast + judging, reason: "stale: last answer", agent: "ready down #stale: last answer", back: moment,
		haproxy: "DOWN UP MAINT / DOWN MAINT UP",
	},
	{
		name: "failed promotion", begin: func(s *faulty) { s.sim.BeginPromotion("pg2") }, end: func(s *faulty) { s.sim.Promote("pg1") }, lasts: 20 * time.Second, rare: true,
		passes: inAndOut, out: primary + jitter + moment, reason: "role is replica", agent: "maint down #replica", back: interval + interval/10 + moment,
	},
	{
		name: "two primaries", begin: func(s *faulty) { s.sim.SplitBrain(false, "pg1", "pg2") }, end: func(s *faulty) { s.sim.Switchover("pg2") }, lasts: 8 * time.Second,
		passes: []string{"pg1", "", "pg2"}, out: interval + interval/10 + 2*fast + moment, back: 3 * fast,
		reason: "not elected: claims by pg1 (timeline 1) and pg2 (timeline 1): their timelines are equal: no node is elected", agent: "ready down #not elected: ",
	},
	{
		name: "all nodes gone at once", begin: func(s *faulty) { s.all(nodetest.Refuse) }, end: func(s *faulty) { s.all(nodetest.None) }, lasts: 3 * time.Second,
		passes: inAndOut, early: primary - jitter, out: hardFall, reason: "not answering: ", agent: "ready down #not answering: ", back: 2 * fast,
		haproxy: "DOWN DOWN DOWN / DOWN DOWN DOWN",
	},
	hard(nodetest.Refuse, "dial tcp pg1:8008: connect: connection refused (").named("Patroni restarted under it").lasting(4 * time.Second).withoutHAProxy(),
	unharmed("Patroni restarted in pause", lastGood-glance, func(s *faulty) {
		s.sim.SetPause(true)
		time.Sleep(interval) // it has said so
		s.sim.Node("pg1").SetFault(nodetest.Refuse)
	}, func(s *faulty) { s.sim.Node("pg1").Thaw(); s.sim.SetPause(false) }).withoutHAProxy(),
	{
		name: "PostgreSQL crash loop", lasts: time.Second, begin: func(s *faulty) {
			for range 3 {
				s.play(s.sim.CrashSlowly(s.Context(), "pg1", nodetest.MeasuredCrash))
				time.Sleep(interval)
			}
		},
		passes: []string{"pg1", "", "pg1", "", "pg1", "", "pg1"}, out: nodetest.MeasuredCrash.Unknown + primary + jitter + moment,
		reason: "holds the leader lock", agent: "ready up 100% #primary",
	},
	{
		name: "system suspended", begin: func(s *faulty) { s.slept.Add(int64(3*time.Minute + 12*time.Second)) }, end: func(*faulty) {}, lasts: 0,
		passes: inAndOut, out: time.Nanosecond, reason: "forgotten: the machine was suspended for 3m12s", agent: "ready down #forgotten: the machine was suspended for 3m12s",
		back: fast + moment,
	},
}

func (f fault) overTLS() fault { f.tls, f.haproxy = true, ""; return f }

func (f fault) seldom() fault { f.rare = true; return f }

func (f fault) withoutHAProxy() fault { f.haproxy = ""; return f }

func (f fault) lasting(d time.Duration) fault { f.lasts = d; return f }

// judging is how long a claimant that is silent is waited for (cluster's judgeWithin).
const judging = 500 * time.Millisecond

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

// certify makes an authority, what it signs for pg1 at its best and at its
// worst, and what it does not.
func (s *faulty) certify() {
	now := time.Now()
	ca, caKey := s.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: now.Add(time.Hour)}, nil, nil)
	s.roots = x509.NewCertPool()
	s.roots.AddCert(ca)
	of := func(names []string, until time.Time, signed bool) *tls.Certificate {
		parent, key := ca, caKey
		if !signed {
			parent, key = nil, nil
		}
		cert, own := s.sign(&x509.Certificate{DNSNames: names, NotAfter: until}, parent, key)
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: own, Leaf: cert}
	}
	names := []string{"pg1", "pg2", "pg3"}
	s.good = of(names, now.Add(time.Hour), true)
	s.expired = of(names, now.Add(-time.Minute), true)
	s.foreign = of([]string{"pg9"}, now.Add(time.Hour), true)
	s.self = of(names, now.Add(time.Hour), false)
	s.cert.Store(s.good)
}

func (s *faulty) sign(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	template.SerialNumber, template.Subject, template.NotBefore = big.NewInt(1), pkix.Name{CommonName: "test"}, time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, cmp.Or(parent, template), key.Public(), cmp.Or(by, key))
	if err != nil {
		s.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.Fatal(err)
	}
	return cert, key
}

func (s *faulty) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "pg1" {
		return s.cert.Load(), nil
	}
	return s.good, nil
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

// TestFaults: each fault has the outcome that the table says, in its time.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { f.play(startFaulty(t, f.tls)) })
		})
	}
}

// TestFaultsAreDocumented: docs/reliability.md has each of them.
func TestFaultsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if name := "`TestFaults/" + strings.ReplaceAll(f.name, " ", "_") + "`"; !strings.Contains(string(text), name) {
			t.Errorf("docs/reliability.md: no line has %s", name)
		}
	}
}

func (f *fault) play(s *faulty) {
	if passes, a := s.everybody(); passes != "pg1" {
		s.Fatalf("before: %q passes, pg1 is %+v", passes, a)
	}
	every := glance
	if f.rare {
		every = 4 * glance
	}
	var seen []string
	var last said
	see := func() string {
		passes, a := s.everybody()
		if last = a; len(seen) == 0 || seen[len(seen)-1] != passes {
			seen = append(seen, passes)
		}
		return passes
	}
	see()
	begun := time.Now()
	played := make(chan struct{})
	go func() {
		defer close(played)
		f.begin(s)
	}()
	synctest.Wait()
	var out time.Duration
	for lasts := f.lasts; ; {
		if passes := see(); passes != "pg1" && out == 0 {
			if out = time.Since(begun) + 1; out <= f.early || f.out == 0 || out > f.out+every {
				s.Errorf("pg1 is out of service %s after the fault (%s), want within %s, but not before %s", out, last.reason, f.out, f.early)
			}
		}
		select {
		case <-played:
			lasts -= every
		default: // it is still beginning
		}
		if lasts < 0 {
			break
		}
		time.Sleep(every)
	}
	if f.out > 0 && out == 0 {
		s.Errorf("pg1 is never out of service, want after %s", f.out)
	}
	if !strings.HasPrefix(last.reason, f.reason) {
		s.Errorf("HTTP says %q, want %q", last.reason, f.reason)
	}
	if !strings.HasPrefix(last.agent, f.agent) {
		s.Errorf("the agent says %q, want %q", last.agent, f.agent)
	}

	if f.end == nil {
		f.end = (*faulty).recovers
	}
	go f.end(s)
	final, ended, back := f.passes[len(f.passes)-1], time.Now(), time.Duration(-1)
	for time.Since(ended) < f.back+3*interval {
		if see() == final && back < 0 {
			back = time.Since(ended)
		}
		time.Sleep(every)
	}
	if back < 0 || back > f.back+every {
		s.Errorf("%s is in service %s after the end, want within %s", final, back, f.back)
	}
	if !slices.Equal(seen, f.passes) {
		s.Errorf("in service were %q, want %q", seen, f.passes)
	}
	for _, n := range s.sim.Nodes() {
		if n.MaxOpen() > 1 {
			s.Errorf("%s: %d connections at once", n.Name(), n.MaxOpen())
		}
	}
	s.Logf("out after %s, back after %s: %q, %q", out, back, last.reason, last.agent)
}

// TestFaultsBehindHAProxy: what HAProxy makes of them, and that clients get to
// no other database meanwhile.
func TestFaultsBehindHAProxy(t *testing.T) {
	t.Parallel()
	const together = 6 // they mostly wait, so more than there are cores
	var running sync.WaitGroup
	places := make(chan struct{}, together)
	for _, f := range faults {
		if f.haproxy == "" {
			continue
		}
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.Run(f.name, f.playBehindHAProxy)
		})
	}
	running.Wait()
}

func (f *fault) playBehindHAProxy(t *testing.T) {
	h := harness.StartSmall(t)
	h.Shows(t, harness.Normal)
	s := &faulty{T: t, sim: h.Sim}
	f.begin(s)
	write, read, _ := strings.Cut(f.haproxy, " / ")
	h.Keeps(t, harness.Servers(write, read))
	serving := map[bool]string{true: "pg" + fmt.Sprint(1+slices.Index(strings.Fields(write), "UP"))}[strings.Contains(write, "UP")]
	if to := h.WritesTo(); to != serving {
		t.Errorf("a write reached %q, want %q", to, serving)
	}
	if f.end == nil {
		f.end = (*faulty).recovers
	}
	f.end(s)
	if f.passes[len(f.passes)-1] == "pg1" {
		h.Shows(t, harness.Normal)
	}
}

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
