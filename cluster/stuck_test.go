package cluster

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/node"
)

// deaf is a member whose requests hang for good, whatever their context says.
type deaf struct {
	*fake
	polls, settings bool
	end             chan struct{} // closed when the test is over
}

func (d *deaf) Poll(ctx context.Context) (node.Report, error) {
	if d.polls {
		<-d.end
	}
	return d.fake.Poll(ctx)
}

func (d *deaf) Settings(ctx context.Context) (node.Settings, error) {
	if d.settings {
		<-d.end
	}
	return d.fake.Settings(ctx)
}

// A restart because of a loop that only waits, for its turn or for a member that
// hangs, would make every supervisor useless while a member is down.
func TestNotStuck(t *testing.T) {
	inBubble(t, "a cluster in trouble", func(t *testing.T) {
		slow := nodeConfig(newFake(t, "pg4", follows(1)))
		slow.Interval = time.Minute
		cfg := config(newFake(t, "pg1", leads(1)), newFake(t, "pg2", hangs), newFake(t, "pg3", refuses))
		cfg.Clusters[0].Nodes = append(cfg.Clusters[0].Nodes, slow)
		sup := New(cfg)
		if err := sup.Stuck(time.Now()); err != nil {
			t.Errorf("before Run: %v", err)
		}
		w := begin(t, cfg)
		for range 300 {
			time.Sleep(time.Second)
			if err := w.sup.Stuck(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		w.stop()
		if err := w.sup.Stuck(time.Now().Add(time.Hour)); err != nil {
			t.Errorf("after Run: %v", err)
		}
	})
}

func TestStuck(t *testing.T) {
	tests := []struct {
		name string
		deaf deaf
		want string
	}{
		{"a poll", deaf{polls: true}, `watching "pg2" of cluster "main": stuck in a poll: `},
		{"settings", deaf{settings: true}, `watching "pg2" of cluster "main": stuck in reading its settings: `},
	}
	for _, test := range tests {
		inBubble(t, test.name, func(t *testing.T) {
			d := &test.deaf
			d.fake, d.end = newFake(t, "pg2", follows(1)), make(chan struct{})
			cfg := config(newFake(t, "pg1", leads(1)), d.fake)
			cfg.Clusters[0].Nodes[1].Client = d
			sup := New(cfg)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- sup.Run(ctx) }()
			defer func() {
				cancel()
				close(d.end)
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()

			time.Sleep(7 * time.Second) // the timeout and the five seconds are not over
			if err := sup.Stuck(time.Now()); err != nil {
				t.Errorf("too early: %v", err)
			}
			time.Sleep(4 * time.Second)
			if err := sup.Stuck(time.Now()); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	inBubble(t, "a lock", func(t *testing.T) {
		w := three(t)
		g := w.sup.group()
		g.mu.Lock()
		defer g.mu.Unlock()
		synctest.Wait()
		if w.sup.Stuck(time.Now().Add(time.Minute)) == nil {
			t.Error("loops that did not turn for a minute are not stuck")
		}
	})
}
