package cluster

import "time"

// What is kept of each node for a small picture of its last 15 minutes.
const (
	SampleLength = 10 * time.Second // of a bucket
	SampleCount  = 90               // buckets
)

// samples are a node's latest buckets, 728 bytes a node (issue 6 allows 30 kB in
// all). They are guarded by the group's mutex.
type samples struct {
	newest  int64 // the latest bucket that something was added to, counted from the group's start
	buckets [SampleCount]bucket
}

// bucket keeps the worst of what came in its time. Its zero value is: nothing did.
type bucket struct {
	lag  float32 // bytes + 1, up to 1 in 16 million off; 0 = unknown
	took uint32  // microseconds + 1 of good polls, up to 35 minutes, and failedPoll; 0 = unknown
}

const failedPoll = 1 << 31

// add takes in a poll that ended so long after the group's start: its lag, -1 =
// unknown, and how long it took, -1 = it failed.
func (s *samples) add(at time.Duration, lag int64, took time.Duration) {
	now := int64(at / SampleLength)
	for i := max(s.newest+1, now-SampleCount+1); i <= now; i++ {
		s.buckets[i%SampleCount] = bucket{}
	}
	s.newest = max(s.newest, now)
	b := &s.buckets[now%SampleCount]
	if lag >= 0 {
		b.lag = max(b.lag, float32(min(lag, 1<<62))+1)
	}
	if took < 0 {
		b.took |= failedPoll
		return
	}
	us := uint32(min(max(0, took.Microseconds()), failedPoll-2)) + 1
	b.took = b.took&failedPoll | max(b.took&^failedPoll, us)
}

// sample notes what the poll of n that was just merged brought. A leader has no
// lag, and of a node of another cluster it is not known.
func (g *group) sample(n *tracked, now time.Time, failed bool) {
	lag, took := n.lag, n.entry.Value.Took
	if n.refused != "" || n.name == g.leader {
		lag = -1
	}
	if failed {
		lag, took = -1, -1
	}
	n.samples.add(now.Sub(g.start), lag, took)
}

// Samples are what polls of a node brought in the last 15 minutes.
type Samples struct {
	End    time.Time           // of the newest, which is still under way
	Points [SampleCount]Sample // the oldest first, each SampleLength of the monotonic clock
}

// Sample is the worst of SampleLength.
type Sample struct {
	Lag    int64         // bytes replayed behind the primary, -1 = unknown: no good poll, the leader, another cluster's node
	Took   time.Duration // of the slowest good poll, in microseconds; -1 = unknown: there was none
	Failed bool          // a poll failed
}

// Samples gives a node's; false when there is no such node.
func (s *Supervisor) Samples(cluster, node string) (Samples, bool) {
	r, i, err := s.watched.Load().find(cluster, node)
	if err != nil {
		return Samples{}, false
	}
	g := r.group
	g.mu.Lock()
	now := int64(time.Since(g.start) / SampleLength)
	kept := r.nodes[i].samples
	g.mu.Unlock()

	out := Samples{End: g.start.Add(time.Duration(now+1) * SampleLength)}
	for i := range out.Points {
		var b bucket
		if at := now - SampleCount + 1 + int64(i); at >= 0 && at <= kept.newest {
			b = kept.buckets[at%SampleCount]
		}
		out.Points[i] = b.sample()
	}
	return out, true
}

func (b bucket) sample() Sample {
	p := Sample{Lag: -1, Took: -1, Failed: b.took&failedPoll != 0}
	if b.lag > 0 {
		p.Lag = int64(b.lag - 1)
	}
	if us := b.took &^ failedPoll; us > 0 {
		p.Took = time.Duration(us-1) * time.Microsecond
	}
	return p
}
