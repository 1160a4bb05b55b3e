package config

import (
	"math"
	"time"
)

// Checks is [checks]: what passes a check, besides what Patroni says.
type Checks struct {
	// Primary ("primary") is "writable" (the lock, and running as primary) or
	// "lock" (Patroni's exact answer). Default "writable".
	Primary string

	// MaxLag ("max-lag") is the lag in bytes above which a replica is excluded. 0
	// means no limit. Default 0.
	MaxLag int64

	// LagHold ("lag-hold") is how long a replica has to be over MaxLag before it is
	// excluded, and under it before it comes back. Default 10s.
	LagHold time.Duration

	// SameTimeline ("same-timeline") excludes replicas whose timeline stays behind
	// the primary's. Default true.
	SameTimeline bool

	// Streaming ("streaming") excludes replicas that do not stream. Default false.
	Streaming bool

	// MinReplicas ("min-replicas") is how many replicas, those that lag least, are
	// kept however much they lag. Default 0.
	MinReplicas int

	// Fallback ("fallback") is "primary" or "". With "primary", the primary passes the
	// check replica while no replica does. Default "".
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
