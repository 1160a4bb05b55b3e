package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// relayed is a member behind another supervisor.
type relayed struct {
	*clustertest.Poller
	age func() time.Duration // of what that knows
}

func (r *relayed) Poll(ctx context.Context) (node.Report, error) {
	report, err := r.Poller.Poll(ctx)
	report.Began = report.Began.Add(-r.age())
	return report, err
}

// watchRelayed watches pg1, which leads, and pg2 through another supervisor.
func watchRelayed(t *testing.T, ttl time.Duration, age func() time.Duration) (s *Supervisor, pg2 *clustertest.Poller) {
	pg2 = clustertest.New(t, "pg2", follows(1))
	cfg := config(clustertest.New(t, "pg1", leads(1)), pg2)
	cfg.TTL = ttl
	cfg.Clusters[0].Nodes[1].Client = &relayed{pg2, age}
	s = New(cfg)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	time.Sleep(10 * time.Second)
	return s, pg2
}

func TestBehindAnotherSupervisor(t *testing.T) {
	member := func(s *Supervisor) *Member { return s.Views()[0].Members[1] }
	inBubble(t, "belief is counted from the poll of the other supervisor", func(t *testing.T) {
		known := time.Now()
		s, _ := watchRelayed(t, time.Minute, func() time.Duration { return time.Since(known) })
		time.Sleep(time.Until(known.Add(time.Minute - 2*clustertest.ShortDelay))) // an answer's way counts, too
		if v := member(s).Verdict(replicaCheck, time.Now()); !v.Passes() {
			t.Errorf("not yet a minute later: %s", v.Reason)
		}
		time.Sleep(2 * clustertest.ShortDelay)
		if v := member(s).Verdict(replicaCheck, time.Now()); v.Passes() {
			t.Errorf("a minute later, while that one answers: %s", v.Reason)
		}
	})
	inBubble(t, "a later answer counts, also one that seems to know less", func(t *testing.T) {
		age := time.Second
		s, pg2 := watchRelayed(t, time.Minute, func() time.Duration { return age })
		before := member(s).Entry.Began
		age = 10 * time.Second // its answers take that much longer
		pg2.Set(follows(2))
		time.Sleep(2 * time.Second)
		m := member(s)
		if m.Entry.Value.Document.Timeline != 2 || !m.Entry.Began.Equal(before) {
			t.Errorf("timeline %d, known from %s, want 2 from %s", m.Entry.Value.Document.Timeline, m.Entry.Began, before)
		}
	})
	inBubble(t, "what the other supervisor does not know, as after its restart, is silence", func(t *testing.T) {
		s, pg2 := watchRelayed(t, 10*time.Second, func() time.Duration { return 0 })
		pg2.Set(fails(node.KindNotKnown))
		time.Sleep(8 * time.Second)
		if v := member(s).Verdict(replicaCheck, time.Now()); !v.Passes() {
			t.Errorf("%+v, want what was known before", v)
		}
		time.Sleep(3 * time.Second)
		if v := member(s).Verdict(replicaCheck, time.Now()); v.Outcome != node.Fault || !strings.Contains(v.Reason, "stale: ") {
			t.Errorf("%+v, want a fault after the TTL", v)
		}
	})
	inBubble(t, "what the other supervisor knows to be bad is not believed here", func(t *testing.T) {
		s, pg2 := watchRelayed(t, time.Hour, func() time.Duration { return 0 })
		pg2.Set(fails(node.KindNotBelieved))
		time.Sleep(1200 * time.Millisecond) // a poll
		if v := member(s).Verdict(replicaCheck, time.Now()); v.Outcome != node.Fault || !strings.Contains(v.Reason, "not answering: ") {
			t.Errorf("%+v, want a fault", v)
		}
		pg2.Set(follows(1))
		time.Sleep(1200 * time.Millisecond)
		if v := member(s).Verdict(replicaCheck, time.Now()); !v.Passes() {
			t.Errorf("believed again: %+v", v)
		}
	})
}
