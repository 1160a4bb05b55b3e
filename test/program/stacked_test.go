package program

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// TestStackedPrograms: one supervisor above another, as docs/scale.md shows. The upper one believes
// nothing for longer than the lower one.
func TestStackedPrograms(t *testing.T) {
	const ttl = 2 * time.Second
	cache := fmt.Sprintf("[cache]\nttl = '%s'\n", ttl)
	c := harness.NewSimulated(t, "pg1", "pg2")
	lower := harness.Start(t, "lower.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+cache+harness.NodeTables(c, ""))
	var above strings.Builder
	above.WriteString("[frontend]\n" + harness.AnyPort + "[agent]\nlisten = '127.0.0.1:0'\n" + harness.FastPolls + cache)
	for _, n := range c.Nodes() {
		fmt.Fprintf(&above, "[[node]]\nname = '%s'\ncluster = 'main'\nurl = 'http://%s/node/%[1]s'\n", n.Name(), lower.HTTP)
	}
	upper := harness.Start(t, "upper.toml", above.String())
	upper.AwaitStatus(t, "/health?strict", 200)
	for path, want := range map[string]int{"/node/pg1/primary": 200, "/node/pg2/primary": 503, "/node/pg2/replica": 200} {
		if got := upper.Status(t, path); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	if got := harness.AskAgent(t, upper.Agents[0], "pg1/primary\n"); got != "ready up 100% #primary\n" {
		t.Errorf("agent: %q", got)
	}

	c.Switchover("pg2")
	upper.AwaitStatus(t, "/node/pg2/primary", 200)
	upper.AwaitStatus(t, "/health?strict", 200)

	c.Node("pg1").Freeze()
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(stateOfNode(t, lower, "pg1").Failures > 0, "that the lower one knows of a failed poll")
	})
	known := *stateOfNode(t, lower, "pg1").PolledAt
	harness.Eventually(t, harness.Soon, func() error {
		if at := *stateOfNode(t, upper, "pg1").PolledAt; at.After(known) {
			t.Errorf("the upper one knows pg1 from %s, the lower one from %s", at, known)
		}
		asked := time.Now()
		passes := upper.Status(t, "/node/pg1/replica") == 200
		if passes && asked.Sub(known) > ttl {
			t.Errorf("pg1 passes %s after it was asked last, the ttl is %s", asked.Sub(known), ttl)
		}
		return harness.Want(!passes, "that pg1 is stale above")
	})
	upper.AwaitBody(t, "/node/pg1/replica", "the supervisor there does not know it: stale: last answer ")
	_, page := harness.Ask(t, nil, "GET", "http://"+upper.HTTP+"/")
	_, health := harness.Ask(t, nil, "GET", "http://"+upper.HTTP+"/health")
	_, status, _ := upper.Command(t, "status")
	for what, text := range map[string]string{"the page": page, "/health": health, "status": status} {
		if !strings.Contains(text, "does not know it") {
			t.Errorf("%s does not say why pg1 is out: %s", what, text)
		}
	}

	c.Node("pg1").SetFault(nodetest.None)
	upper.AwaitStatus(t, "/health?strict", 200)
	lower.End()
	upper.AwaitStatus(t, "/primary", http.StatusServiceUnavailable)
}

// nodeFacts is some fields of /node/{node}.
type nodeFacts struct {
	Failures int        `json:"failures"`
	PolledAt *time.Time `json:"polled_at"`
}

func stateOfNode(t *testing.T, p *harness.Program, name string) (facts nodeFacts) {
	t.Helper()
	_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/"+name)
	if err := json.Unmarshal([]byte(body), &facts); err != nil || facts.PolledAt == nil {
		t.Fatalf("GET /node/%s of the one at %s: %v: %s", name, p.HTTP, err, body)
	}
	return facts
}
