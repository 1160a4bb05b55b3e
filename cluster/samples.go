package cluster

import "time"

// A node's samples cover its last 15 minutes, for a small graph.
const (
	SampleLength = 10 * time.Second // of a bucket
	SampleCount  = 90               // buckets
)

// samples are a node's latest buckets, 728 bytes in all. They are guarded by the
// group's mutex.
type samples struct {
	newest  int64 // the latest bucket that something was added to, counted from the group's start
	buckets [SampleCount]bucket
}

// bucket holds the worst values of the polls in its time. In the zero bucket there
// was no poll.
type bucket struct {
	lag  float32 // bytes + 1, up to 1 in 16 million off; 0 = unknown
	took uint32  // microseconds + 1 of good polls, up to 35 minutes, and failedPoll; 0 = unknown
}

const failedPoll = 1 << 31

// add records a poll that ended at the given time after the group's start: its lag
// in bytes, -1 = unknown, and how long it took, -1 = it failed.
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

// sample records the poll of n that was just merged. A leader has no lag, and the lag
// of another cluster's node is unknown.
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

// Samples summarise the polls of a node in the last 15 minutes.
type Samples struct {
	End    time.Time           // of the newest sample, which is still growing
	Points [SampleCount]Sample // oldest first, each for SampleLength of the monotonic clock
}

// Sample has the worst values within SampleLength.
type Sample struct {
	Lag    int64         // bytes by which replay was behind the primary, -1 = unknown: no good poll, the leader, another cluster's node
	Took   time.Duration // of the slowest good poll, rounded down to microseconds; -1 = there was none
	Failed bool          // a poll failed
}

// Samples returns the samples of a node, false if the node is unknown or its name is
// ambiguous.
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
