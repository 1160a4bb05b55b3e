package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/node"
)

// Alerts that ask for a metric that is not there never fire, and nobody notices.
func TestPrometheusRules(t *testing.T) {
	dir := filepath.Join("contrib", "prometheus")
	rules, tests, scraped := readFile(t, filepath.Join(dir, "rules.yml")), readFile(t, filepath.Join(dir, "rules_test.yml")), readFile(t, "testdata/metrics.txt")

	records := make(map[string]bool)
	for _, m := range regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(rules, -1) {
		records[m[1]] = true
	}
	for _, name := range regexp.MustCompile(`[a-z_:]*\bpatroniglue_[a-z0-9_:]+`).FindAllString(rules, -1) {
		if name == "patroniglue_certificate_expiry_timestamp_seconds" || records[name] { // only with a certificate
			continue
		}
		if !strings.Contains(scraped, "\n"+name+" ") && !strings.Contains(scraped, "\n"+name+"{") {
			t.Errorf("rules.yml asks for %s, which is not in /metrics", name)
		}
	}
	values := func(label string) []string {
		var all []string
		for _, m := range regexp.MustCompile(label+`=~?"([^"]+)"`).FindAllStringSubmatch(rules, -1) {
			all = append(all, strings.Split(m[1], "|")...)
		}
		return all
	}
	health := readFile(t, "cluster/health.go")
	for _, code := range values("code") {
		if !strings.Contains(health, `"`+code+`"`) {
			t.Errorf("rules.yml asks for the code %q, which /health does not have", code)
		}
	}
	for _, kind := range values("kind") {
		if !slices.Contains(node.Kinds, node.Kind(kind)) {
			t.Errorf("rules.yml asks for the kind %q, want one of %q", kind, node.Kinds)
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\S+)`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(tests, "- alertname: "+m[1]+"\n") {
			t.Errorf("rules_test.yml does not say when %s fires", m[1])
		}
	}

	promtool := installedPromtool(t)
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v, it said:\n%s", strings.Join(args, " "), err, out)
		}
	}
}
