package faults

import (
	"crypto/tls"
	"time"

	"patroniglue/node/nodetest"
)

// fault is one line of the table of faults: what happens to pg1, the primary of three simulated
// nodes, and how checks are answered meanwhile.
//
//   - TestFaults plays it with everything from the poll to the answers of HTTP
//     and agents, over a network in memory and with an exact clock.
//   - TestFaultsBehindHAProxy plays those with a haproxy line again, with the
//     program in a process of its own, sockets and the real HAProxy; others
//     TestWhenAPartDies does.
//
// Faults that need a real network or a real cluster are in network_linux_test.go and
// test/patroni. docs/reliability.md documents all of them.
type fault struct {
	name  string
	begin func(*faulty)
	lasts time.Duration
	end   func(*faulty) // nil: pg1 works again
	tls   bool          // the nodes speak https
	rare  bool          // it lasts long, so checks are asked less often

	passes []string      // nodes that pass primary, one after another; "" is none
	early  time.Duration // pg1 stays in service at least so long
	out    time.Duration // and is out of service after at most so long; 0: never
	reason string        // what HTTP says of pg1/primary just before the end
	agent  string        // the agent's line then; both are prefixes
	back   time.Duration // the last of passes is in service so long after the end at most

	haproxy string // states of pg1, pg2, pg3 for writes, then reads, while it lasts
}

// The defaults, from which all bounds are computed.
const (
	ttl      = 5 * time.Second
	interval = time.Second
	primary  = 250 * time.Millisecond
	fast     = 100 * time.Millisecond
	timeout  = 3 * time.Second
	fall     = 3

	glance = 50 * time.Millisecond // the time between two rounds of checks
	jitter = primary / 10          // polls of the primary are early or late by up to this
	moment = 10 * time.Millisecond // for anything that takes no time
	// backoff is the longest time between two answers of a node that has hung.
	backoff = 8*interval*11/10 + timeout
)

// Belief ends with the ttl, which is counted from the beginning of the last good poll: at most a
// primary-interval before the fault.
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

// soft is a fault after which the node may still be primary, so it is believed until the ttl
// ends. Its polls end at once, so the first one after the fault is good.
func soft(f nodetest.Fault, reason string) fault {
	return fault{
		begin: func(s *faulty) { s.sim.Node("pg1").SetFault(f) }, lasts: 7 * time.Second,
		passes: inAndOut, early: lastGood, out: ttl, reason: "stale: last answer Ns ago, ttl 5s: " + reason,
		agent: "ready down #stale: last answer Ns ago, ttl 5s: ", back: 2 * fast, haproxy: outOfService,
	}
}

// hanging is soft, but polls take their whole timeout, with growing pauses between them.
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

// certificate is a bad certificate that pg1 shows.
func certificate(of func(*faulty) *tls.Certificate, reason string) fault {
	f := soft(nodetest.None, reason)
	f.tls, f.haproxy = true, ""
	f.begin = func(s *faulty) { s.cert.Store(of(s)) }
	f.end = func(s *faulty) { s.cert.Store(s.good) }
	return f
}

func (f fault) named(name string) fault { f.name = name; return f }

// withoutBackoff is for polls that occupy no worker of Patroni: the next one begins at once.
func (f fault) withoutBackoff() fault { f.back = timeout + fast; return f }

// unharmed is a fault that changes no answer.
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
		// An answer as late as this is too old before the next one can come. In and out of service
		// with each poll would be worse than out.
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
	certificate(func(s *faulty) *tls.Certificate { return s.foreign }, `tls: failed to verify certificate: x509: certificate is valid for pg9, not pg1: want server-name = "pg9", or verify = "ca"`).named("certificate for another name"),
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
		time.Sleep(interval) // a poll has seen the pause
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

// judging is how long a silent claimant delays an election (cluster's judgeWithin).
const judging = 500 * time.Millisecond
