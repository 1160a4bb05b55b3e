package config

import (
	"math"
	"time"
)

// checksConfig changes what passes a check.
type Checks struct {
	// Primary ("primary") is "writable" (the lock, and running as primary) or
	// "lock" (Patroni's exact answer). Default "writable".
	Primary string

	// MaxLag ("max-lag") is the lag in bytes that excludes a replica: B, kB, MB,
	// GB or TB. 0 means no limit. Default 0.
	MaxLag int64

	// LagHold ("lag-hold") is how long a replica has to be over MaxLag to be
	// excluded, and under it to come back. Default 10s.
	LagHold time.Duration

	// SameTimeline ("same-timeline") excludes replicas whose timeline is behind
	// the primary's for long. Default true.
	SameTimeline bool

	// Streaming ("streaming") excludes replicas that do not stream. Default false.
	Streaming bool

	// MinReplicas ("min-replicas") is how many replicas stay, the best ones,
	// however much they lag. Default 0.
	MinReplicas int

	// Fallback ("fallback") is "primary" to let the primary pass replica when no
	// replica does, or "". Default "".
	Fallback string
}

func (c *Checks) read(t *table) {
	t.choice("primary", &c.Primary, "writable", "lock")
	t.size("max-lag", &c.MaxLag)
	t.duration("lag-hold", &c.LagHold, 0)
	t.boolean("same-timeline", &c.SameTimeline)
	t.boolean("streaming", &c.Streaming)
	t.integer("min-replicas", &c.MinReplicas, 0, math.MaxInt32)
	t.choice("fallback", &c.Fallback, "", "primary")
	t.rejectUnknown()
}
