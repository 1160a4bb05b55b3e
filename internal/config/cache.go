package config

import "time"

// Cache is [cache]: how long an answer is believed.
type Cache struct {
	// TTL ("ttl") is the time from the start of a node's last good poll until the node
	// is stale; at least twice the interval of every node, plus its timeout or, if that
	// is less, its interval. Default 5s.
	TTL time.Duration
}

func (c *Cache) read(t *table) {
	t.duration("ttl", &c.TTL, 1)
	t.rejectUnknown()
}
