package shipped

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// documented are the command lines of docs/clients.md that begin with a program.
func documented(t *testing.T, program string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(harness.ReadFile(t, "docs/clients.md")) {
		if strings.HasPrefix(line, "    "+program+" ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) == 0 {
		t.Fatalf("docs/clients.md shows no %s", program)
	}
	return lines
}

// watched is the program over a simulated cluster, as docs/clients.md has it:
// pg1 leads, pg2 and pg3 follow.
func watched(t *testing.T, version string) (*nodetest.Cluster, *harness.Program) {
	t.Helper()
	sim := nodetest.Options{Version: version}.NewCluster("main", "pg1", "pg2", "pg3")
	t.Cleanup(sim.Close)
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""))
	harness.Eventually(t, harness.Soon, func() error {
		resp, _ := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/health?strict")
		_, list := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/cluster") // lag is known when a replica was polled after the primary
		return harness.Want(resp.StatusCode == http.StatusOK && !strings.Contains(list, "unknown"), "a healthy cluster whose lag is known (got %s, %s)", resp.Status, list)
	})
	return sim, p
}

// The Monitoring Plugins, as docs/clients.md calls them: OK while all is well,
// CRITICAL afterwards.
func TestMonitoringPlugins(t *testing.T) {
	harness.RequireProgram(t, "/usr/lib/nagios/plugins/check_http")
	sim, p := watched(t, "")
	lines := append(documented(t, "check_http"), documented(t, "check_tcp")...)
	is := func(want int, word string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if code, said := p.Shell(t, line); code != want || !strings.Contains(said, word) {
				t.Errorf("%s: exit code %d, %q, want %d and %q", line, code, said, want, word)
			}
		}
	}
	is(0, " OK", lines...)

	sim.Kill("pg1")
	sim.Kill("pg2")
	p.AwaitStatus(t, "/health", http.StatusServiceUnavailable)
	is(2, " CRITICAL", lines...)
	is(2, " CRITICAL", "check_http -H localhost -p 8009 -u /node/nosuch/primary -e ' 200 '")
	is(1, " WARNING", "check_http -H localhost -p 8009 -u /node/nosuch/primary")
}

// The one-liners of docs/clients.md.
func TestShellClients(t *testing.T) {
	harness.RequireProgram(t, "curl")
	harness.RequireProgram(t, "jq")
	_, p := watched(t, "")
	want := []string{"pg1\n", "pg1\tleader\trunning\t-\npg2\treplica\tstreaming\t0\npg3\treplica\tstreaming\t0\n", "running replica\n", ""}
	for i, line := range documented(t, "curl") {
		if code, said := p.Shell(t, line); i >= len(want) || code != 0 || said != want[i] {
			t.Errorf("%s: exit code %d, %q, want %q", line, code, said, want[min(i, len(want)-1)])
		}
	}
	if code, _ := p.Shell(t, "curl -sf -o /dev/null http://localhost:8009/node/pg2/primary"); code == 0 {
		t.Error("curl -f passes for a replica")
	}
}

// performance is a value as the Monitoring Plugins Development Guidelines define
// it: 'label'=value[UOM];[warn];[crit];[min];[max].
var performance = regexp.MustCompile(`^([^ '=]+|'[^'=]+')=-?[0-9]+(\.[0-9]+)?(us|ms|s|%|B|KB|MB|TB|c)?(;(@?(~|-?[0-9.]+)?:?(-?[0-9.]+)?)?){0,2}(;-?[0-9.]*){0,2}$`)

// Who draws graphs drops a value that is not in the grammar, and says nothing.
func TestNagiosPerformanceData(t *testing.T) {
	sim, p := watched(t, "")
	for _, kill := range []string{"", "pg3", "pg1"} {
		if kill != "" {
			sim.Kill(kill)
			p.AwaitBody(t, "/health", `"node":"`+kill+`"`)
		}
		_, said, _ := p.Command(t, "status", "-nagios")
		text, data, _ := strings.Cut(strings.TrimSuffix(said, "\n"), "|")
		values := strings.Fields(data)
		if !regexp.MustCompile(`^PATRONIGLUE (OK|WARNING|CRITICAL) - main: `).MatchString(text) || len(values) < 3 {
			t.Errorf("status -nagios: %q", said)
		}
		for _, v := range values {
			if !performance.MatchString(v) {
				t.Errorf("%q is no performance data: %q", v, said)
			}
		}
	}
}

// patroniClient asks as check_patroni 2.0.0 does (types.py rest_api): any other
// status than 200 is an error, and so is what is no JSON.
type patroniClient struct {
	t    *testing.T
	base string
}

func (c patroniClient) get(service string) (map[string]any, error) {
	c.t.Helper()
	resp, body := harness.Ask(c.t, nil, "GET", c.base+"/"+service)
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/%s: status code %d", service, resp.StatusCode)
	}
	var doc map[string]any
	return doc, json.Unmarshal([]byte(body), &doc)
}

// replicas is its cluster_has_replica (cluster.py): healthy are those of the
// leader's timeline which stream or, where Patroni does not tell (before 3.0.4), run.
func (c patroniClient) replicas() (healthy int, err error) {
	doc, err := c.get("patroni")
	if err != nil {
		return 0, err
	}
	want := "streaming"
	if version := doc["patroni"].(map[string]any)["version"].(string); version == "3.0.2" {
		want = "running"
	}
	list, err := c.get("cluster")
	if err != nil {
		return 0, err
	}
	var timeline any
	for _, m := range list["members"].([]any) {
		if m := m.(map[string]any); m["role"] == "leader" && m["state"] == "running" {
			timeline = m["timeline"].(float64)
		}
	}
	for _, m := range list["members"].([]any) {
		m := m.(map[string]any)
		if role := m["role"]; role == "leader" || role == "standby_leader" {
			continue
		}
		if _, measured := m["lag"].(float64); measured && m["state"] == want && m["timeline"].(float64) == timeline {
			healthy++
		}
	}
	return healthy, nil
}

// check_patroni is not in Debian 12: this asks for what it asks, and reads what it
// reads.
func TestCheckPatroni(t *testing.T) {
	for _, version := range []string{"3.0.2", "4.1.4"} {
		t.Run(version, func(t *testing.T) {
			sim, p := watched(t, version)
			sim.Node("pg2").Set(func(s *nodetest.State) {
				s.SyncStandby, s.Extra = true, map[string]any{"pending_restart": true, "scheduled_restart": map[string]any{"schedule": "2026-12-01T03:00:00+00:00"}}
			})
			node := func(name string) patroniClient { return patroniClient{t, "http://" + p.HTTP + "/node/" + name} }
			harness.Eventually(t, harness.Soon, func() error {
				doc, err := node("pg2").get("sync")
				return harness.Want(err == nil && doc["sync_standby"] == true, "that pg2 is synchronous (got %v, %v)", doc, err)
			})
			for _, base := range []string{"", "/cluster/main", "/node/pg1"} {
				c := patroniClient{t, "http://" + p.HTTP + base}
				if n, err := c.replicas(); n != 2 || err != nil {
					t.Errorf("%s: cluster_has_replica sees %d, %v, want 2", base, n, err)
				}
				list, err := c.get("cluster")
				if err != nil {
					t.Fatal(err)
				}
				if paused, ok := list["pause"]; ok { // cluster_is_in_maintenance
					t.Errorf("%s: pause is %v", base, paused)
				}
				if _, ok := list["members"].([]any)[1].(map[string]any)["scheduled_restart"]; !ok { // cluster_has_scheduled_action
					t.Errorf("%s: no scheduled_restart: %v", base, list)
				}
			}
			for check, want := range map[string]string{ // the nodes that pass
				"primary": "pg1", "leader": "pg1", "standby-leader": "", "replica": "pg2 pg3", "replica?lag=1MB": "pg2 pg3", "liveness": "pg1 pg2 pg3",
				"config": "", // cluster_config_has_changed: UNKNOWN, rather than a configuration that is none
			} {
				var pass []string
				for _, name := range []string{"pg1", "pg2", "pg3"} {
					if _, err := node(name).get(check); err == nil {
						pass = append(pass, name)
					}
				}
				if got := strings.Join(pass, " "); got != want {
					t.Errorf("/%s passes for %q, want %q", check, got, want)
				}
			}
			doc, err := node("pg2").get("patroni") // node_is_pending_restart, node_tl_has_changed, node_patroni_version
			if err != nil || doc["pending_restart"] != true || doc["timeline"] != 1.0 || doc["patroni"].(map[string]any)["version"] != version {
				t.Errorf("/node/pg2/patroni: %v, %v", doc, err)
			}

			// With a node down its own address is no use for the cluster; the cluster's is.
			sim.Kill("pg1")
			sim.Promote("pg2")
			harness.Eventually(t, harness.Soon, func() error {
				n, err := patroniClient{t, "http://" + p.HTTP}.replicas()
				return harness.Want(n == 1 && err == nil, "one replica of pg2 (got %d, %v)", n, err)
			})
			harness.Eventually(t, harness.Soon, func() error {
				_, err := node("pg1").replicas()
				return harness.Want(err != nil, "an error from /patroni of a dead node")
			})
			sim.SetPause(true)
			harness.Eventually(t, harness.Soon, func() error {
				list, err := patroniClient{t, "http://" + p.HTTP}.get("cluster")
				return harness.Want(err == nil && list["pause"] == true, "that cluster_is_in_maintenance (got %v, %v)", list, err)
			})
		})
	}
}
