// Package cache remembers what was last known of each subject and says how long
// it may be believed.
//
// Belief is counted from when the knowledge was asked for, on the monotonic
// clock, and decided when somebody reads: no sweeper has to run for a stale
// answer to be refused. It starts no goroutine and knows nothing of what it
// holds.
package cache

import (
	"sync"
	"time"
)

// Entry is what is known of one subject at one moment. It is a copy: later
// changes of the cache do not reach it.
type Entry[V any] struct {
	Value    V
	Known    bool          // Value was put at least once
	Began    time.Time     // when the question that brought Value was asked
	TTL      time.Duration // how long Value may be believed from then
	Ended    bool          // hard failures, or End, ended belief before the TTL
	Failures int           // in a row since Value
	Err      error         // the latest of them, or why End
	hard     int           // in a row, of those that may end belief
}

// Fresh reports whether Value may be believed at now.
func (e *Entry[V]) Fresh(now time.Time) bool {
	return e.Known && !e.Ended && now.Sub(e.Began) < e.TTL
}

// Age is how old Value is at now.
func (e *Entry[V]) Age(now time.Time) time.Duration { return now.Sub(e.Began) }

// Cache holds an entry per key. Its methods may be called by many at once.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	ttl     time.Duration // guarded by mu, as is entries
	entries map[K]Entry[V]
}

// New makes a cache whose values may be believed for ttl.
func New[K comparable, V any](ttl time.Duration) *Cache[K, V] {
	return &Cache[K, V]{ttl: ttl, entries: make(map[K]Entry[V])}
}

// Get gives what is known of key; the zero Entry when nothing is.
func (c *Cache[K, V]) Get(key K) Entry[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[key]
}

// Put stores what a question asked at began brought. It reports false and
// changes nothing when something newer is already known.
func (c *Cache[K, V]) Put(key K, value V, began time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e.Known && began.Before(e.Began) {
		return false
	}
	c.entries[key] = Entry[V]{Value: value, Known: true, Began: began, TTL: c.ttl}
	return true
}

// Fail notes that a question asked at began brought nothing. It never replaces a
// value, and the TTL goes on. Only failures with fall above 0 can end belief:
// when fall of them came in a row. One with fall 0 begins that count anew.
func (c *Cache[K, V]) Fail(key K, err error, began time.Time, fall int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e.Known && began.Before(e.Began) {
		return
	}
	e.Failures++
	e.Err = err
	if fall > 0 {
		e.hard++
		e.Ended = e.Ended || e.hard >= fall
	} else {
		e.hard = 0
	}
	c.entries[key] = e
}

// SetTTL makes values be believed for ttl, also those that are believed at now.
// What is not believed any more stays so.
func (c *Cache[K, V]) SetTTL(ttl time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ttl = ttl
	for key, e := range c.entries {
		if e.Fresh(now) {
			e.TTL = ttl
			c.entries[key] = e
		}
	}
}

// Forget drops what is known of key.
func (c *Cache[K, V]) Forget(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}

// End ends belief in what is known of key, because of err, until a later
// question brings something.
func (c *Cache[K, V]) End(key K, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e.Known {
		e.Ended, e.Err = true, err
		c.entries[key] = e
	}
}
