package cache

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const ttl = 5 * time.Second

func TestExpiryIsDecidedWhenRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](ttl)
		if e := c.Get("pg1"); e.Known || e.Fresh(time.Now()) {
			t.Errorf("a new cache has %+v", e)
		}
		began := time.Now()
		time.Sleep(time.Second) // the answer took its time, which counts
		c.Put("pg1", 42, began)

		time.Sleep(ttl - time.Second - time.Nanosecond)
		e := c.Get("pg1")
		if !e.Fresh(time.Now()) || e.Value != 42 || e.TTL != ttl {
			t.Errorf("a nanosecond before the TTL: %+v", e)
		}
		time.Sleep(time.Nanosecond)
		if now := time.Now(); e.Fresh(now) || c.Get("pg1").Value != 42 || e.Age(now) != ttl {
			t.Errorf("at the TTL, aged %s: %+v is fresh or forgotten", e.Age(now), e)
		}
		if c.Get("pg2").Known {
			t.Error("another key is known")
		}
	})
}

func TestOlderNeverOverwritesNewer(t *testing.T) {
	c, now := New[string, int](ttl), time.Now()
	for _, tt := range []struct {
		value int
		began time.Duration
		want  bool
	}{{1, 0, true}, {2, time.Second, true}, {3, time.Second - 1, false}, {4, time.Second, true}, {5, 2 * time.Second, true}} {
		if got := c.Put("pg1", tt.value, now.Add(tt.began)); got != tt.want {
			t.Errorf("putting %d: %t", tt.value, got)
		}
		if got := c.Get("pg1").Value; (got == tt.value) != tt.want {
			t.Errorf("after putting %d the value is %d", tt.value, got)
		}
	}
}

func TestFailuresNeitherExtendNorShorten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := New[string, int](ttl), time.Now()
		c.Put("pg1", 42, began)
		timeout := errors.New("timeout")
		for range 9 {
			time.Sleep(ttl / 10)
			c.Fail("pg1", timeout, time.Now(), 0)
		}
		if e := c.Get("pg1"); !e.Fresh(time.Now()) || e.Value != 42 || !e.Began.Equal(began) || e.Failures != 9 || e.Err != timeout {
			t.Errorf("after failures within the TTL: %+v", e)
		}
		time.Sleep(ttl / 10)
		if e := c.Get("pg1"); e.Fresh(time.Now()) {
			t.Errorf("after the TTL: %+v", e)
		}
	})
}

func TestFall(t *testing.T) {
	const (
		hard = iota
		soft
		answer
		older // a hard failure of a question older than the value
	)
	for _, tt := range []struct {
		name     string
		steps    []int
		fresh    bool
		failures int
	}{
		{"two", []int{hard, hard}, true, 2},
		{"three in a row", []int{hard, hard, hard}, false, 3},
		{"a soft one between", []int{hard, hard, soft, hard, hard}, true, 5},
		{"three after a soft one", []int{soft, hard, hard, hard}, false, 4},
		{"an answer between", []int{hard, hard, answer, hard, hard}, true, 2},
		{"soft ones do not bring it back", []int{hard, hard, hard, soft}, false, 4},
		{"an answer brings it back", []int{hard, hard, hard, answer}, true, 0},
		{"older ones do not count", []int{older, older, older, hard, hard}, true, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			c := New[string, int](time.Hour)
			c.Put("pg1", 1, now)
			for i, step := range tt.steps {
				began := now.Add(time.Duration(i+1) * time.Second)
				switch step {
				case hard:
					c.Fail("pg1", errors.New("refused"), began, 3)
				case soft:
					c.Fail("pg1", errors.New("timeout"), began, 0)
				case answer:
					c.Put("pg1", 2, began)
				case older:
					c.Fail("pg1", errors.New("refused"), now.Add(-1), 3)
				}
			}
			if e := c.Get("pg1"); e.Fresh(now) != tt.fresh || e.Ended == tt.fresh || e.Failures != tt.failures {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestFailuresBeforeAnyValue(t *testing.T) {
	c, now, refused := New[string, int](ttl), time.Now(), errors.New("refused")
	c.Fail("pg1", refused, now, 1)
	if e := c.Get("pg1"); e.Known || e.Fresh(now) || e.Failures != 1 || e.Err != refused {
		t.Errorf("got %+v", e)
	}
	c.Put("pg1", 42, now)
	if e := c.Get("pg1"); !e.Fresh(now) || e.Failures != 0 || e.Err != nil {
		t.Errorf("got %+v", e)
	}
}

func TestEnd(t *testing.T) {
	c, now, asleep := New[string, int](ttl), time.Now(), errors.New("asleep")
	c.End("pg1", asleep)
	if e := c.Get("pg1"); e.Known || e.Err != nil {
		t.Errorf("nothing was known, now: %+v", e)
	}
	c.Put("pg1", 42, now)
	c.End("pg1", asleep)
	if e := c.Get("pg1"); e.Fresh(now) || !e.Known || e.Value != 42 || e.Failures != 0 || e.Err != asleep {
		t.Errorf("ended: %+v", e)
	}
	c.Fail("pg1", errors.New("timeout"), now.Add(1), 0)
	if e := c.Get("pg1"); e.Fresh(now) {
		t.Errorf("a failure revives it: %+v", e)
	}
	c.Put("pg1", 43, now.Add(2))
	if e := c.Get("pg1"); !e.Fresh(now) || e.Err != nil {
		t.Errorf("asked again: %+v", e)
	}
}

func TestEntryIsACopy(t *testing.T) {
	c, now := New[string, int](ttl), time.Now()
	c.Put("pg1", 1, now)
	e := c.Get("pg1")
	c.Put("pg1", 2, now)
	c.Fail("pg1", errors.New("refused"), now, 1)
	if e.Value != 1 || e.Err != nil || !e.Fresh(now) {
		t.Errorf("got %+v", e)
	}
}

func TestConcurrently(t *testing.T) {
	c, now := New[int, int](ttl), time.Now()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				switch key := i % 3; g % 4 {
				case 0:
					c.Put(key, i, now.Add(time.Duration(i)))
				case 1:
					c.Fail(key, errors.New("refused"), now.Add(time.Duration(i)), 3)
				default:
					e := c.Get(key)
					e.Fresh(now)
				}
			}
		})
	}
	wg.Wait()
	for key := range 3 {
		if want := 497 + (key+1)%3; c.Get(key).Value != want {
			t.Errorf("the newest of %d is %d, want %d", key, c.Get(key).Value, want)
		}
	}
}

// Another TTL counts at once, but never makes old knowledge come back.
func TestSetTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](ttl)
		fresh := func(key string, at time.Time) bool {
			e := c.Get(key)
			return e.Fresh(at)
		}
		c.Put("old", 1, time.Now())
		time.Sleep(ttl)
		c.Put("new", 2, time.Now())
		time.Sleep(2 * time.Second)
		c.SetTTL(time.Hour, time.Now())
		if fresh("old", time.Now()) || !fresh("new", time.Now().Add(time.Hour-2*time.Second-1)) {
			t.Errorf("longer: old %+v, new %+v", c.Get("old"), c.Get("new"))
		}
		c.SetTTL(time.Second, time.Now())
		if fresh("new", time.Now()) {
			t.Errorf("shorter: %+v", c.Get("new"))
		}
		c.Put("new", 3, time.Now())
		if e := c.Get("new"); e.TTL != time.Second || !e.Fresh(time.Now()) {
			t.Errorf("put later: %+v", e)
		}
		c.Forget("new")
		if c.Get("new").Known {
			t.Error("what was forgotten is known")
		}
	})
}
