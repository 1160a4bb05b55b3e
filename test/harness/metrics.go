package harness

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// Scrape returns what a handler serves as /metrics.
func Scrape(t testing.TB, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("GET /metrics: %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// OurMetrics returns the samples and descriptions of our own metrics in text.
func OurMetrics(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "patroniglue_") && !strings.HasPrefix(line, "go_build_info") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// MetricValue returns a sample's value, "" when there is none.
func MetricValue(text, series string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// LintMetrics runs Prometheus' own linter, which prints nothing when all is well.
func LintMetrics(t *testing.T, text string) {
	t.Run("promtool", func(t *testing.T) {
		lint := exec.CommandContext(t.Context(), RequireProgram(t, "promtool"), "check", "metrics")
		lint.Stdin = strings.NewReader(text)
		if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v, it said:\n%s", err, out)
		}
	})
}
