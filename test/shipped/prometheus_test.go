package shipped

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/cluster"
	"patroniglue/node"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// Alerts that ask for a metric that is not there never fire, and nobody notices.
func TestPrometheusRules(t *testing.T) {
	dir := filepath.Join("contrib", "prometheus")
	rules, tests, scraped := harness.ReadFile(t, filepath.Join(dir, "rules.yml")), harness.ReadFile(t, filepath.Join(dir, "rules_test.yml")), harness.ReadFile(t, "internal/metrics/testdata/metrics.txt")

	records := make(map[string]bool)
	for _, m := range regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(rules, -1) {
		records[m[1]] = true
	}
	for _, name := range regexp.MustCompile(`[a-z_:]*\bpatroniglue_[a-z0-9_:]+`).FindAllString(rules, -1) {
		if strings.HasSuffix(name, "certificate_expiry_timestamp_seconds") || records[name] { // TestCertificates has seen these
			continue
		}
		if slices.Contains([]string{"patroniglue_node_unlisted", "patroniglue_discovery_up", "patroniglue_discovery_problems"}, name) { // as TestDiscovery has
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
	for _, code := range values("code") {
		if !slices.Contains(cluster.Codes, code) {
			t.Errorf("rules.yml asks for the code %q, want one of %q", code, cluster.Codes)
		}
	}
	alerted := regexp.MustCompile(`exp_labels: {.*\bcode: (\w+)`).FindAllStringSubmatch(tests, -1)
	for _, code := range cluster.Codes {
		has := slices.ContainsFunc(alerted, func(m []string) bool { return m[1] == code })
		if over := code == cluster.CodeLeaving; has == over { // in a minute at most
			t.Errorf("the code %s: an alert has it: %t, want %t", code, has, !over)
		}
	}
	for _, m := range alerted {
		if !slices.Contains(cluster.Codes, m[1]) {
			t.Errorf("an alert has the code %q, want one of %q", m[1], cluster.Codes)
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

	promtool := harness.RequireProgram(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v, it said:\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// A panel that asks for what is not there is empty, and looks like peace.
func TestGrafanaDashboard(t *testing.T) {
	program := harness.RequireProgram(t, "prometheus")
	var dashboard struct {
		Templating struct{ List []struct{ Query any } }
		Panels     []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(harness.ReadFile(t, "contrib/grafana/patroniglue.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	if len(dashboard.Panels) == 0 {
		t.Fatal("the dashboard has no panels")
	}

	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	sim := nodetest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Load(t, "server")}}}.NewCluster("main", "pg1", "pg2", "pg3")
	t.Cleanup(sim.Close)
	sim.Kill("pg3")
	trust := &tls.Config{RootCAs: ca.Pool()}
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+ca.Pair("server")+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+
		harness.NodesOf(sim, "cafile = '"+ca.File("ca.crt")+"'"))
	prometheus := startPrometheus(t, program, p.HTTP, ca.File("ca.crt"))
	isAnswered := func(what, expr string) {
		t.Helper()
		expr = strings.NewReplacer("$job", "patroniglue", "$cluster", ".*", "$__rate_interval", "10s", "$__range", "10s").Replace(expr)
		harness.Eventually(t, harness.Soon, func() error {
			harness.Ask(t, trust, "GET", "https://"+p.HTTP+"/node/pg1/primary") // so that there is a rate
			return harness.Want(len(queryPrometheus(t, prometheus, expr)) > 0, "that %s is not empty: %s", what, expr)
		})
	}
	for _, v := range dashboard.Templating.List {
		if m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(fmt.Sprint(v.Query)); m != nil {
			isAnswered("the variable's list", "count by ("+m[2]+") ("+m[1]+")")
		}
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			isAnswered(panel.Title, target.Expr)
		}
	}
	for _, record := range []string{"cluster_node:patroniglue_knowledge_age:ttl_ratio", "cluster:patroniglue_poll_duration_seconds:p99_rate5m", "patroniglue_agent_answers:rate5m"} {
		harness.Eventually(t, harness.Soon, func() error {
			return harness.Want(len(queryPrometheus(t, prometheus, record)) > 0, "that %s is recorded", record)
		})
	}
}

// startPrometheus runs a real one that scrapes target by https, with our rules, and gives its address.
func startPrometheus(t *testing.T, program, target, cafile string) string {
	t.Helper()
	rules, err := filepath.Abs("contrib/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := harness.WriteFile(t, "prometheus.yml", fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: ['%s']\n"+
		"scrape_configs:\n  - job_name: patroniglue\n    scheme: https\n    tls_config: {ca_file: '%s'}\n    static_configs: [{targets: ['%s']}]\n", rules, cafile, target))
	addr := harness.FreePort(t)
	var log harness.Log
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus:\n%s", &log)
		}
	})
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(len(queryPrometheus(t, addr, `up{job="patroniglue"} == 1`)) > 0, "that Prometheus has scraped the program")
	})
	return addr
}

// queryPrometheus gives the samples of an instant query; none while it does not answer yet.
func queryPrometheus(t *testing.T, addr, expr string) []any {
	t.Helper()
	resp, body, err := harness.TryToAsk(t.Context(), nil, "GET", "http://"+addr+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil || resp.StatusCode == 503 {
		return nil
	}
	var answer struct {
		Error string
		Data  struct{ Result []any }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error != "" {
		t.Fatalf("query %s: %v: %s", expr, err, body)
	}
	return answer.Data.Result
}
