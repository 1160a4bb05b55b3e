package metrics

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

// Every counter exists from the start, with 0 for each value of its labels: what is
// counted before a series is scraped for the first time is lost to rate().
func TestCountersFromTheStart(t *testing.T) {
	d := startScraped(5*time.Second, clusterOf("main", time.Second, clustertest.New(t, "pg1", clustertest.Says(200, leaderSays))))
	w := httptest.NewRecorder() // nothing was polled or asked yet
	d.http.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	lines := strings.Split(w.Body.String(), "\n")
	var want []string
	for q := range node.Question(node.Questions) {
		for _, result := range []string{"pass", "fail"} {
			want = append(want, `patroniglue_http_checks_total{check="`+node.PlainCheck(q).Name+`",result="`+result+`"} 0`)
		}
	}
	for _, kind := range node.Kinds {
		want = append(want, `patroniglue_poll_failures_total{kind="`+string(kind)+`"} 0`)
	}
	for _, answer := range []string{"ready up", "ready down", "drain up", "maint down"} {
		want = append(want, `patroniglue_agent_answers_total{answer="`+answer+`"} 0`)
	}
	for _, why := range []string{"wrong", "busy"} {
		want = append(want, `patroniglue_operator_logins_failed_total{why="`+why+`"} 0`)
	}
	for _, result := range []string{"success", "failure"} {
		want = append(want, `patroniglue_reloads_total{result="`+result+`"} 0`)
	}
	for _, counter := range []string{"node_poll_failures_total", "cluster_primary_changes_total", "cluster_split_brains_total", "cluster_without_primary_seconds_total", "poll_duration_seconds_count"} {
		labels := `{cluster="main"}`
		if strings.HasPrefix(counter, "node_") {
			labels = `{cluster="main",node="pg1"}`
		}
		want = append(want, "patroniglue_"+counter+labels+" 0")
	}
	for _, line := range want {
		if !slices.Contains(lines, line) {
			t.Errorf("at the start there is no %s", line)
		}
	}
	// No counter is forgotten here: each has a series, and is 0.
	for _, line := range lines {
		name, isCounter := strings.CutSuffix(strings.TrimPrefix(line, "# TYPE "), " counter")
		if !isCounter || !strings.HasPrefix(name, "patroniglue_") {
			continue
		}
		if !slices.ContainsFunc(lines, func(s string) bool {
			return (strings.HasPrefix(s, name+"{") || strings.HasPrefix(s, name+" ")) && strings.HasSuffix(s, " 0")
		}) {
			t.Errorf("%s has no series with 0", name)
		}
	}
}
