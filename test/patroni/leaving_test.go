package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// leaving: a stop that is announced by hand. Before it begins HAProxy has taken
// the primary out, and nothing that is written goes astray.
func (e suite) leaving(t *testing.T) {
	c := e.Healthy(t)
	from, to := c.Primary.Name, c.Replicas[0].Name

	// Without a stop it ends by itself, or when it is taken back.
	e.announce(t, from, "-for", "5s")
	e.haproxySays(t, from)
	e.HAProxyShows(t, e.Normal(c))
	e.announce(t, from, "-for", "60s")
	e.haproxySays(t, from)
	e.announce(t, from, "-cancel")
	e.HAProxyShows(t, e.Normal(c))

	w, writing := e.Watch(t), e.write(t)
	e.announce(t, from, "-for", "60s")
	e.haproxySays(t, from)
	want := e.Normal(c)
	want[lab.WriteBackend+"/"+from] = "MAINT"
	e.HAProxyShows(t, want)
	if err := e.Lab.Switchover(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	after := e.Healthy(t)
	e.HAProxyShows(t, e.Normal(after))
	if after.Primary.Name != to {
		t.Errorf("primary is %s, want %s", after.Primary.Name, to)
	}
	harness.NeverTwo(t, w.Stop())
	outcomes := writing.stop()
	t.Logf("from %s to %s: %v", from, to, outcomes)
	for outcome, n := range outcomes {
		if strings.Contains(outcome, "read-only") {
			t.Errorf("%d writes went astray: %s", n, outcome)
		}
	}
	if outcomes[written] == 0 {
		t.Errorf("no write at all succeeded: %v", outcomes)
	}

	var ended []string
	for _, line := range e.Program.Log.Lines() {
		var change struct{ Change, After, Reason string }
		if json.Unmarshal([]byte(line), &change) == nil && change.Change == "leaving" && change.After == "no" {
			ended = append(ended, change.Reason)
		}
	}
	if len(ended) != 3 || ended[0] != "the announced time is over" || ended[1] != "taken back" || !slices.Contains([]string{"it has stopped claiming", to + " is elected"}, ended[2]) {
		t.Errorf("announcements ended: %q", ended)
	}
}

// announce runs "patroniglue leaving".
func (e suite) announce(t *testing.T, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := harness.Command(t.Context(), append([]string{"-config", e.Lab.Config, "leaving"}, args...), &stdout, &stderr); code != 0 || strings.Count(stdout.String(), "\n") != 1 {
		t.Fatalf("leaving %q: exit code %d\n%s%s", args, code, &stdout, &stderr)
	}
}

// haproxySays waits until HAProxy has heard from the agent that the node is
// leaving.
func (e suite) haproxySays(t *testing.T, name string) {
	t.Helper()
	harness.Eventually(t, 5*time.Second, func() error {
		servers, err := e.Lab.HAProxyStat(t.Context())
		for _, s := range servers {
			if s.Backend == lab.WriteBackend && s.Name == name && s.Status == "MAINT" && strings.Contains(s.Last, "leaving") {
				return nil
			}
		}
		return fmt.Errorf("%s is not leaving in HAProxy's show stat: %+v, %v", name, servers, err)
	})
}

// writer opens a connection for each row through HAProxy's write port.
type writer struct {
	cancel   context.CancelFunc
	done     sync.WaitGroup
	outcomes map[string]int // to be read when done
}

const written = "written"

func (e suite) write(t *testing.T) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{cancel: cancel, outcomes: make(map[string]int)}
	w.done.Go(func() {
		for ctx.Err() == nil {
			_, err := e.Lab.Query(ctx, e.Lab.Write, "insert into lab (said) values ('leaving')")
			switch {
			case ctx.Err() != nil: // cut off by us
			case err == nil:
				w.outcomes[written]++
			default:
				text := err.Error()
				w.outcomes[text[strings.LastIndex(text, ": ")+2:]]++
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *writer) stop() map[string]int {
	w.cancel()
	w.done.Wait()
	return w.outcomes
}
