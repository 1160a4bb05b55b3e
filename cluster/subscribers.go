package cluster

import "sync"

// subscribers distributes every change. A subscriber cannot slow anything down: if
// it does not read, it loses changes, and Lost says how many.
type subscribers struct {
	mu      sync.Mutex
	subs    map[*Subscription]struct{} // guarded by mu
	history history                    // guarded by mu
}

// Subscription is a stream of changes. Close it when done.
type Subscription struct {
	C    <-chan Change
	c    chan Change
	all  *subscribers
	lost int // guarded by all.mu
}

func (s *subscribers) subscribe(buffer int) *Subscription {
	c := make(chan Change, buffer)
	sub := &Subscription{C: c, c: c, all: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs == nil {
		s.subs = make(map[*Subscription]struct{})
	}
	s.subs[sub] = struct{}{}
	return sub
}

// Lost returns how many changes were dropped since the last call because the
// buffer was full.
func (s *Subscription) Lost() int {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	n := s.lost
	s.lost = 0
	return n
}

// Close ends the subscription. C is not closed.
func (s *Subscription) Close() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	delete(s.all.subs, s)
}

func (s *subscribers) resize(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.resize(size)
}

func (s *subscribers) publish(changes []Change) {
	if len(changes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		if c := &changes[i]; !c.Repeat {
			s.history.add(c)
		}
	}
	for sub := range s.subs {
		for _, c := range changes {
			select {
			case sub.c <- c:
			default:
				sub.lost++
			}
		}
	}
}
