package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"patroniglue/node/nodetest"
)

// The bounds within which an answer has to be true. They are patroniglue's
// promises with its default configuration.
const (
	ttl    = 5 * time.Second  // nothing is believed for longer
	notice = 2 * time.Second  // within which what an answering node says is known: an interval, its jitter and a busy machine
	back   = 12 * time.Second // the same for a node that did not answer before: polls back off to 8 intervals
	hangs  = 3 * time.Second  // so long a node's API may hang and nothing changes: the ttl less notice
)

// reach says what becomes of a poll.
type reach int

const (
	answers reach = iota
	hangsUp       // no answer, but no proof that nothing is there
	refuses       // nothing listens, or who asks may conclude that
)

func (r reach) String() string { return [...]string{"answers", "hangs up", "refuses"}[r] }

// phase is what is true of a node from some moment on.
type phase struct {
	from, sure time.Time // it began not before from and not after sure
	says       string    // "primary" or "replica" when it is one, runs, and says so; "" otherwise
	vague      bool      // what it says follows from no rule that is tested here
	reach      reach
}

// truth is the story of one cluster's nodes.
type truth struct {
	mu    sync.Mutex
	nodes map[string][]phase // guarded by mu; the last one holds
}

// phaseOf is the phase that a node is in.
func phaseOf(n *nodetest.Node) phase {
	s := n.State()
	p := phase{vague: s.Lock && s.Role != "primary" || !s.DCS || s.State == "running" && !s.SQL}
	if s.State == "running" && s.SQL && !p.vague {
		switch {
		case s.Role == "primary" && s.Lock:
			p.says = "primary"
		case s.Role == "replica" && !s.Lock:
			p.says = "replica"
		}
	}
	switch n.Fault() {
	case nodetest.None:
	case nodetest.Refuse, nodetest.Reset, nodetest.Empty:
		p.reach = refuses
	default:
		p.reach = hangsUp
	}
	return p
}

// keep is for how long the past is needed.
const keep = time.Minute

// change does what changes something, and writes down what it made of the nodes.
func (t *truth) change(c *nodetest.Cluster, do func()) {
	from := time.Now()
	// While it happens anything may be answered: the phases of before and after
	// overlap from here on, also for who judges an answer in the meantime.
	t.mu.Lock()
	defer t.mu.Unlock()
	do()
	sure := time.Now()
	for _, n := range c.Nodes() {
		p := phaseOf(n)
		p.from, p.sure = from, sure
		past := t.nodes[n.Name()]
		if len(past) > 0 {
			if last := past[len(past)-1]; last.says == p.says && last.vague == p.vague && last.reach == p.reach {
				continue
			}
		}
		for len(past) > 1 && past[1].sure.Before(from.Add(-keep)) {
			past = past[1:]
		}
		t.nodes[n.Name()] = append(past, p)
	}
}

// allowed says which answers to a check of a node are true, when it was asked at
// sent and answered at got.
func (t *truth) allowed(name, check string, sent, got time.Time) (pass, fail bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.mustFailLocked(name, check, sent, got), !t.mustPassLocked(name, check, sent, got)
}

// mustFailLocked: nobody may believe any more that it says so.
func (t *truth) mustFailLocked(name, check string, sent, got time.Time) bool {
	past := t.nodes[name]
	for i, p := range past {
		if p.from.After(got) || p.says != check && !p.vague || p.reach != answers {
			continue
		}
		if i == len(past)-1 {
			return false
		}
		if end := past[i+1].sure; sent.Before(end.Add(ttl)) && !noticed(past[i+1:], sent) {
			return false
		}
	}
	return true
}

// noticed: the node answers, and has said what it says now, or something else that
// is not asked for, for long enough.
func noticed(since []phase, sent time.Time) bool {
	for _, p := range since {
		if p.reach != answers && p.from.Before(sent) {
			return false
		}
	}
	return sent.Sub(since[0].sure) >= notice
}

// mustPassLocked: it says so, long enough for everybody to know, nobody else does,
// and if it does not answer now, then not for long.
func (t *truth) mustPassLocked(name, check string, sent, got time.Time) bool {
	past := t.nodes[name]
	for i := len(past) - 1; i >= 0; i-- {
		p := past[i]
		switch {
		case p.from.After(got):
			continue
		case p.vague || p.says != check || p.reach == refuses:
			return false
		case p.reach == hangsUp:
			if got.After(p.from.Add(hangs)) || i == 0 {
				return false
			}
			sent = p.from // and before that it must have been known
			continue
		}
		need := notice
		if i > 0 && past[i-1].reach != answers {
			need = back
		}
		if sent.Sub(p.sure) < need {
			return false
		}
		return check != "primary" || !t.rivalLocked(name, sent.Add(-ttl-notice), got)
	}
	return false
}

// rivalLocked: another node said, or may have said, that it is primary, too.
func (t *truth) rivalLocked(name string, from, to time.Time) bool {
	for other, past := range t.nodes {
		if other == name {
			continue
		}
		for i, p := range past {
			ended := i < len(past)-1 && past[i+1].sure.Before(from)
			if !ended && p.from.Before(to) && (p.says == "primary" || p.vague) {
				return true
			}
		}
	}
	return false
}

// story tells what was true of a node of late, for who looks into a wrong answer.
func (t *truth) story(name string, at time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, p := range t.nodes[name] {
		fmt.Fprintf(&b, "  %.3fs before: says %q, vague %v, reach %v\n", at.Sub(p.from).Seconds(), p.says, p.vague, p.reach)
	}
	return b.String()
}
