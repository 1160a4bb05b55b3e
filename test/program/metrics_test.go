package program

import (
	"regexp"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// What an operator's queries and alerts are built on does not change unseen.
func TestMetrics(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	sim.Kill("pg3")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodeTables(sim, ""))
	url := "http://" + p.HTTP + "/metrics"
	for range 2 {
		harness.Ask(t, nil, "OPTIONS", "http://"+p.HTTP+"/node/pg1/primary")
	}
	harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg2/master")
	harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/replica")
	harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg4/replica") // no check
	harness.AskAgent(t, p.Agents[0], "pg1/primary\n")
	var text string
	harness.Eventually(t, harness.Soon, func() error {
		_, text = harness.Ask(t, nil, "GET", url)
		return harness.Want(harness.MetricValue(text, `patroniglue_node_lag_bytes{cluster="main",node="pg2"}`) == "0" && harness.MetricValue(text, `patroniglue_agent_answers_total{answer="ready up"}`) == "1", "that pg2's lag is known and the agent has counted")
	})

	if resp, body := harness.Ask(t, nil, "HEAD", url); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD /metrics: %d and %q, want 200 and nothing", resp.StatusCode, body)
	}
	if resp, _ := harness.Ask(t, nil, "OPTIONS", url); resp.StatusCode != 405 {
		t.Errorf("OPTIONS /metrics: %d, want 405: it is no check", resp.StatusCode)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "go_build_info"} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("GET /metrics: no %s", name)
		}
	}

	got := harness.OurMetrics(text)
	for _, volatile := range []string{
		`(?m)^(patroniglue_(?:poll_duration_seconds_\w+|node_knowledge_age_seconds|(?:agent|http)_connections|config_last_reload_success_timestamp_seconds)(?:{.*})?) .*$`,
		`(?m)^(patroniglue_(?:node_)?poll_failures_total{.*}) [^0].*$`,
	} {
		got = regexp.MustCompile(volatile).ReplaceAllString(got, "$1 N")
	}
	got = regexp.MustCompile(`(?m)^(patroniglue_build_info){.*}`).ReplaceAllString(got, "$1{…}")
	harness.Golden(t, "internal/metrics/testdata/metrics.txt", got)

	harness.LintMetrics(t, text)
}
