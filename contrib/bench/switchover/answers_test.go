package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patroniglue/contrib/lab"
)

// What Patroni 3.0.2 was seen to say during a switchover, and which of it is a primary that takes writes.
func TestAsker(t *testing.T) {
	answers := []struct {
		status   int
		document string
		passes   bool
	}{
		{503, `{"state": "running", "role": "replica"}`, false},
		{200, `{"state": "running", "role": "replica"}`, false}, // has the lock, is being promoted
		{200, `{"state": "running", "role": "master"}`, true},
		{200, `{"state": "stopping", "role": "master"}`, false},
		{200, `{"state": "running", "role": "primary"}`, true},
		{503, `{"state": "running", "role": "primary"}`, false},
		{200, ``, false},
	}
	var now, asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer asked.Add(1)
		a := answers[now.Load()]
		w.WriteHeader(a.status)
		io.WriteString(w, a.document)
	}))
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	a := &asker{url: s.URL}
	var wg sync.WaitGroup
	wg.Go(func() { a.ask(ctx) })
	defer wg.Wait()
	defer stop()
	for i, tt := range answers {
		before := time.Now()
		now.Store(int64(i))
		for n := asked.Load(); asked.Load() < n+3; { // one may have been under way
			time.Sleep(time.Millisecond)
		}
		if at := a.became(tt.passes); at.IsZero() || !a.became(!tt.passes).IsZero() {
			t.Errorf("%d %s: passes %v, want %v", tt.status, tt.document, !tt.passes, tt.passes)
		} else if i > 0 && answers[i-1].passes == tt.passes && at.After(before) {
			t.Errorf("%d %s: changed, though it says the same", tt.status, tt.document)
		}
	}
}

func TestDelays(t *testing.T) {
	at := func(n int, passing bool) *asker { return &asker{passing: passing, since: epoch.Add(ms(n))} }
	old, next := lab.Node{Name: "pg1"}, lab.Node{Name: "pg2"}
	patroni := map[string]*asker{"pg1": at(100, false), "pg2": at(1300, true)}
	ours := map[string]*asker{"pg1": at(90, false), "pg2": at(1350, true)}
	if d, err := delays(patroni, ours, old, next); d != (delay{in: ms(50), out: ms(-10)}) || err != nil {
		t.Errorf("%+v, %v, want 50 ms and -10 ms", d, err)
	}
	ours["pg2"] = at(0, false)
	if d, err := delays(patroni, ours, old, next); err == nil {
		t.Errorf("%+v while the new primary does not pass here", d)
	}
}
