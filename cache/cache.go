// Package cache keeps the last known value of each key and says how long it may be
// believed.
//
// The age of a value is counted from when the question that brought it was asked, on
// the monotonic clock, and compared with the TTL when the value is read: a stale value
// is refused without any sweeper. The package starts no goroutine.
package cache

import (
	"sync"
	"time"
)

// Entry is what is known of one key at one moment. It is a copy, which later changes
// of the cache do not affect.
type Entry[V any] struct {
	Value    V
	Known    bool          // a Value was put
	Began    time.Time     // when the question that brought Value was asked
	TTL      time.Duration // how long Value may be believed from then
	Ended    bool          // belief ended before the TTL, by hard failures or by End
	Failures int           // how many in a row since Value
	Err      error         // of the latest failure, or the reason given to End
	hard     int           // how many failures in a row may end belief
}

// Fresh reports whether Value may be believed at now.
func (e *Entry[V]) Fresh(now time.Time) bool {
	return e.Known && !e.Ended && now.Sub(e.Began) < e.TTL
}

// Age returns how old Value is at now.
func (e *Entry[V]) Age(now time.Time) time.Duration { return now.Sub(e.Began) }

// Cache holds an entry per key. Its methods may be called by many goroutines at once.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	ttl     time.Duration // guarded by mu, as is entries
	entries map[K]Entry[V]
}

// New makes a cache whose values may be believed for ttl.
func New[K comparable, V any](ttl time.Duration) *Cache[K, V] {
	return &Cache[K, V]{ttl: ttl, entries: make(map[K]Entry[V])}
}

// Get returns the entry of key, the zero Entry if there is none.
func (c *Cache[K, V]) Get(key K) Entry[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[key]
}

// Put stores the value that a question asked at began brought. It returns false and
// changes nothing if the entry has a value of a later question.
func (c *Cache[K, V]) Put(key K, value V, began time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e.Known && began.Before(e.Began) {
		return false
	}
	c.entries[key] = Entry[V]{Value: value, Known: true, Began: began, TTL: c.ttl}
	return true
}

// Fail records that a question asked at began failed with err. It never replaces a
// value or its TTL. Failures with fall above 0 end belief when fall of them came in a
// row; a failure with fall 0 resets that count.
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

// SetTTL changes the TTL of later values and of those that are fresh at now. A value
// that is no longer believed stays so.
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

// Forget removes the entry of key.
func (c *Cache[K, V]) Forget(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}

// End ends belief in the value of key, with the reason err, until the next Put.
func (c *Cache[K, V]) End(key K, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e.Known {
		e.Ended, e.Err = true, err
		c.entries[key] = e
	}
}
