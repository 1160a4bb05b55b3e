package program

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

func TestDaemonAnswers(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""))

	for path, want := range map[string]int{
		"/node/pg1/primary": 200, "/node/pg2/primary": 503, "/node/pg2/replica": 200, "/cluster/main/node/pg3/replica": 200,
		"/primary": 200, "/cluster/main/replica": 200, "/health": 200, "/livez": 200, "/readyz": 200, "/": 200, "/node/pg4/primary": 404,
		"/node/pg1/nonsense": 404, "/node/pg2/replica?lag=much": 400,
	} {
		if resp, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+path); resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d: %s", path, resp.StatusCode, want, body)
		}
	}
	for send, want := range map[string]string{
		"pg1/primary\n":      "ready up 100% #primary\n",
		"main/pg2/replica\n": "ready up 100% #replica\n",
		"pg2/primary\n":      "maint down #replica\n",
	} {
		if got := harness.AskAgent(t, p.Agents[0], send); got != want {
			t.Errorf("agent: %q is answered by %q, want %q", send, got, want)
		}
	}

	var body string
	harness.Eventually(t, harness.Soon, func() error { // its first poll may have come before the primary's
		_, body = harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg2")
		return harness.Want(strings.Contains(body, `"lag_bytes":0`), "that pg2's lag is known")
	})
	var state map[string]any
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"node": "pg2", "cluster": "main", "url": sim.Node("pg2").URL(), "postgres": "10.0.0.12:5432", "leader": false, "fresh": true,
		"role": "replica", "state": "running", "timeline": 1.0, "lag_bytes": 0.0, "patroni_version": nodetest.DefaultVersion, "ttl_seconds": 5.0, "failures": 0.0,
	}
	got := maps.Clone(state)
	maps.DeleteFunc(got, func(key string, _ any) bool { return want[key] == nil })
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("GET /node/pg2 (-want +got):\n%s", d)
	}
	for _, key := range []string{"since", "polled_at", "age_seconds", "poll_seconds", "checks"} {
		if state[key] == nil {
			t.Errorf("GET /node/pg2: no %s", key)
		}
	}
}

func TestDaemonDedicatedAgents(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	var text strings.Builder
	text.WriteString("[frontend]\n" + harness.AnyPort + harness.FastPolls)
	primary, replica := map[string]string{}, map[string]string{}
	for _, n := range sim.Nodes() {
		primary[n.Name()], replica[n.Name()] = harness.FreePort(t), harness.FreePort(t)
		fmt.Fprintf(&text, "[[node]]\nname = '%s'\nurl = '%s'\nagent = { primary = '%s', replica = '%s' }\n", n.Name(), n.URL(), primary[n.Name()], replica[n.Name()])
	}
	p := harness.Start(t, "c.toml", text.String())
	p.Log.Await(t, 4, "message", "answering agent checks")
	// Whatever is or is not sent.
	for _, send := range []string{"", "pg2/replica\n", "nonsense"} {
		for addr, want := range map[string]string{
			primary["pg1"]: "ready up 100% #primary\n", replica["pg1"]: "maint down #primary\n",
			primary["pg2"]: "maint down #replica\n", replica["pg2"]: "ready up 100% #replica\n",
		} {
			if got := harness.AskAgent(t, addr, send); got != want {
				t.Errorf("agent at %s, %q sent: %q, want %q", addr, send, got, want)
			}
		}
	}
}
