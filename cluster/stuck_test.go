package cluster

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// A restart because of a loop that only waits, for its turn or for a member that
// hangs, would make every supervisor useless while a member is down.
func TestNotStuck(t *testing.T) {
	inBubble(t, "a cluster in trouble", func(t *testing.T) {
		slow := nodeConfig(clustertest.New(t, "pg4", follows(1)))
		slow.Interval = time.Minute
		cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", hangs), clustertest.New(t, "pg3", refuses))
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
		name  string
		hangs func(pg2 *clustertest.Poller, end <-chan struct{})
		want  string
	}{
		{"a poll", func(pg2 *clustertest.Poller, end <-chan struct{}) {
			pg2.Set(clustertest.Deaf())
			go func() {
				<-end
				pg2.Set(follows(1))
			}()
		}, `watching "pg2" of cluster "main": stuck in a poll: `},
		{"settings", func(pg2 *clustertest.Poller, end <-chan struct{}) {
			pg2.SetSettings(func() (node.Settings, error) {
				<-end
				return node.Settings{}, nil
			})
		}, `watching "pg2" of cluster "main": stuck in reading its settings: `},
	}
	for _, test := range tests {
		inBubble(t, test.name, func(t *testing.T) {
			pg2, end := clustertest.New(t, "pg2", follows(1)), make(chan struct{})
			test.hangs(pg2, end)
			sup := New(config(clustertest.New(t, "pg1", leads(1)), pg2))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- sup.Run(ctx) }()
			defer func() {
				cancel()
				close(end)
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
