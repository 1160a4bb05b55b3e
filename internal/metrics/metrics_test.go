package metrics

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
	"patroniglue/test/harness"
)

var updateMetrics = flag.Bool("update-metrics", false, "write testdata/metrics.txt anew")

// scripted is a node that says what the test wants it to.
type scripted struct {
	mu       sync.Mutex
	status   int       // guarded by mu, as is document
	document string    // "" = it refuses
	ends     time.Time // its certificate; zero = no TLS
}

func says(status int, document string) *scripted {
	return &scripted{status: status, document: document}
}

func (s *scripted) says(status int, document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.document = status, document
}

func (s *scripted) Poll(context.Context) (node.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := time.Now()
	if s.document == "" {
		return node.Report{}, &node.Failure{Kind: node.KindRefused, Err: errors.New("connection refused")}
	}
	d, err := node.ParseDocument([]byte(s.document))
	if err != nil {
		return node.Report{}, &node.Failure{Kind: node.KindDocument, Err: err}
	}
	return node.Report{Began: began, Status: s.status, Document: d, Raw: []byte(s.document), CertificateEnds: s.ends}, nil
}

func (s *scripted) Settings(context.Context) (node.Settings, error) {
	return node.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second}, nil
}

func (s *scripted) URL() string { return "http://10.0.0.1:8008" }

func (s *scripted) Timeout() time.Duration { return time.Second }

const (
	leaderSays  = `{"state":"running","role":"primary","timeline":3,"xlog":{"location":1000000}}`
	replicaSays = `{"state":"running","role":"replica","timeline":3,"xlog":{"received_location":999000,"replayed_location":999000}}`
)

// scraped are the parts that metrics read, over scripted nodes.
type scraped struct {
	sup  *cluster.Supervisor
	http *httpapi.Server
}

// startScraped makes them, without ports.
func startScraped(interval, ttl time.Duration, clusters map[string][]*scripted, names ...string) scraped {
	var cfg []cluster.ClusterConfig
	for _, name := range names {
		c := cluster.ClusterConfig{Name: name}
		for i, s := range clusters[name] {
			c.Nodes = append(c.Nodes, cluster.NodeConfig{
				Name: fmt.Sprintf("pg%d", i+1), Client: s, Interval: interval, PrimaryInterval: interval, FastInterval: interval, Fall: 3,
			})
		}
		cfg = append(cfg, c)
	}
	m := New()
	for _, c := range cfg {
		for i := range c.Nodes {
			c.Nodes[i].Client = m.Measure(c.Name, c.Nodes[i].Name, c.Nodes[i].Client)
		}
	}
	sup := cluster.New(cluster.Config{TTL: ttl, Rules: cluster.Rules{LagHold: 10 * time.Second, SameTimeline: true}, Clusters: cfg})
	server := httpapi.New(httpapi.Config{Supervisor: sup, Metrics: m.Handler(zerolog.Nop())})
	m.Register(Sources{
		Views: sup.Views, Http: server, Agents: agentapi.New(agentapi.Config{Asker: sup}), Version: "test",
		Certificates: func() []httpapi.Certificate { return nil },
		Reloads:      func() ReloadState { return ReloadState{Successful: true} },
		Discovery:    func() *DiscoveryState { return nil },
	})
	m.Keep(cfg)
	return scraped{sup, server}
}

// watchMeasured polls until the test ends.
func watchMeasured(t testing.TB, d scraped) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.sup.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := d.sup.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// What an operator's queries and alerts are built on does not change unseen.
func TestMetrics(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	sim.Kill("pg3")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""))
	url := "http://" + p.HTTP + "/metrics"
	for range 2 {
		harness.Ask(t, nil, "OPTIONS", "http://"+p.HTTP+"/node/pg1/primary")
	}
	harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg2/master")
	harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/replica")
	harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/node/pg4/replica") // is no check of anything
	harness.AskAgent(t, p.Agents[0], "pg1/primary\n")
	var text string
	harness.Eventually(t, harness.Soon, func() error {
		_, text = harness.Ask(t, nil, "GET", url)
		return harness.Want(harness.ValueOf(text, `patroniglue_node_lag_bytes{cluster="main",node="pg2"}`) == "0" && harness.ValueOf(text, `patroniglue_agent_answers_total{answer="ready up"}`) == "1", "that pg2's lag is known and the agent has counted")
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

	got := harness.OurLines(text)
	for _, volatile := range []string{
		`(?m)^(patroniglue_(?:poll_duration_seconds_\w+|node_knowledge_age_seconds|(?:agent|http)_connections|config_last_reload_success_timestamp_seconds)(?:{.*})?) .*$`,
		`(?m)^(patroniglue_(?:node_)?poll_failures_total{.*}) [^0].*$`,
	} {
		got = regexp.MustCompile(volatile).ReplaceAllString(got, "$1 N")
	}
	got = regexp.MustCompile(`(?m)^(patroniglue_build_info){.*}`).ReplaceAllString(got, "$1{…}")
	golden := filepath.Join("testdata", "metrics.txt")
	if *updateMetrics {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf("GET /metrics (-want +got; go test -run TestMetrics -update-metrics writes it anew):\n%s", d)
	}

	harness.LintMetrics(t, text)
}

// An alert by time without a primary, or by changes of it, needs what was
// between two scrapes.
func TestMetricsOfAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg1, pg2 := says(200, leaderSays), says(503, replicaSays)
		d := startScraped(100*time.Millisecond, time.Second, map[string][]*scripted{"main": {pg1, pg2}}, "main")
		want := func(when string, samples map[string]string) {
			t.Helper()
			synctest.Wait()
			text := harness.Scrape(t, d.http.Handler())
			for series, value := range samples {
				if got := harness.ValueOf(text, "patroniglue_"+series); got != value {
					t.Errorf("%s: %s is %q, want %q", when, series, got, value)
				}
			}
		}
		want("before the first poll", map[string]string{
			`cluster_has_primary{cluster="main"}`: "", `node_up{cluster="main",node="pg1"}`: "0",
			`node_answering{cluster="main",node="pg1"}`: "", `node_knowledge_age_seconds{cluster="main",node="pg1"}`: "",
		})
		watchMeasured(t, d)
		time.Sleep(time.Second)
		want("at first", map[string]string{
			`cluster_has_primary{cluster="main"}`: "1", `cluster_primary_changes_total{cluster="main"}`: "0",
			`cluster_without_primary_seconds_total{cluster="main"}`: "0", `health_level{cluster="main"}`: "0",
			`node_role{cluster="main",node="pg1",role="primary"}`: "1", `node_lag_bytes{cluster="main",node="pg2"}`: "1000",
			`node_lag_bytes{cluster="main",node="pg1"}`: "",
		})

		// The primary demotes itself; nobody looks at /metrics until a minute is over.
		pg1.says(503, strings.Replace(leaderSays, "primary", "demoted", 1))
		time.Sleep(20 * time.Second)
		pg2.says(200, leaderSays)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		text := harness.Scrape(t, d.http.Handler())
		var without, told float64
		h, err := d.sup.History(cluster.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range h.Changes {
			if c.Kind == cluster.KindPrimary {
				told += c.Gap
			}
		}
		if _, err := fmt.Sscan(harness.ValueOf(text, `patroniglue_cluster_without_primary_seconds_total{cluster="main"}`), &without); err != nil || without != told || without < 19.5 || without > 20.5 {
			t.Errorf("time without a primary: %v s (%v), want 20, and %v as in the history", without, err, told)
		}
		want("after the failover", map[string]string{
			`cluster_has_primary{cluster="main"}`: "1", `cluster_primary_changes_total{cluster="main"}`: "1",
			`node_elected{cluster="main",node="pg2"}`: "1", `node_elected{cluster="main",node="pg1"}`: "0",
			`node_role{cluster="main",node="pg1",role="demoted"}`: "1", `node_role{cluster="main",node="pg1",role="primary"}`: "",
		})

		// Both claim, with the same timeline.
		pg1.says(200, leaderSays)
		time.Sleep(5 * time.Second)
		want("with two that claim", map[string]string{
			`cluster_has_primary{cluster="main"}`: "0", `cluster_split_brains_total{cluster="main"}`: "1",
			`health_level{cluster="main"}`: "2", `health_reason{cluster="main",code="split_brain",node=""}`: "2",
		})

		// What is no longer believed is not told.
		pg1.says(0, "")
		pg2.says(0, "")
		time.Sleep(5 * time.Second)
		want("with both gone", map[string]string{
			`node_up{cluster="main",node="pg2"}`: "0", `node_answering{cluster="main",node="pg2"}`: "0",
			`node_failing{cluster="main",kind="refused",node="pg2"}`: "1", `node_lag_bytes{cluster="main",node="pg2"}`: "",
			`node_timeline{cluster="main",node="pg2"}`: "", `node_role{cluster="main",node="pg2",role="primary"}`: "",
			`node_role{cluster="main",node="pg1",role="primary"}`: "", `cluster_has_primary{cluster="main"}`: "0",
		})
	})
}

// A node may say anything: no sample has its words, none of them ends a line.
func TestMetricsOfAHostileNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := `x\"} 1\nevil_metric{a=\"\u0000\u2028`
		d := startScraped(100*time.Millisecond, time.Second, map[string][]*scripted{"main": {
			says(200, leaderSays),
			says(503, fmt.Sprintf(`{"state":"%[1]s","role":"%[1]s","timeline":-9223372036854775808,"replication_state":"%[1]s","server_version":"%[1]s",`+
				`"tags":{"%[1]s":"%[1]s"},"patroni":{"version":"%[1]s","scope":"%[1]s","name":"%[1]s"}}`, bad)),
			says(503, strings.Replace(replicaSays, "999000", "-9223372036854775808", 2)),
		}}, "main")
		watchMeasured(t, d)
		time.Sleep(time.Second)
		text := harness.Scrape(t, d.http.Handler())
		if strings.Contains(text, "evil") {
			t.Errorf("GET /metrics has a node's words:\n%s", harness.OurLines(text))
		}
		for _, series := range []string{`patroniglue_node_role{cluster="main",node="pg2",role="other"}`, `patroniglue_node_state{cluster="main",node="pg2",state="other"}`} {
			if harness.ValueOf(text, series) != "1" {
				t.Errorf("GET /metrics: no %s 1:\n%s", series, harness.OurLines(text))
			}
		}
	})
}

// Whatever nodes say and clients ask: Prometheus must not be filled by it. What
// was never said or asked before makes no series.
func TestMetricsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg1, pg2 := says(200, leaderSays), says(503, replicaSays)
		d := startScraped(100*time.Millisecond, time.Second, map[string][]*scripted{"main": {pg1, pg2}}, "main")
		watchMeasured(t, d)
		seen := make(map[string]bool)
		storm := func(words string) {
			for i := range 20 {
				word := fmt.Sprint(words, i)
				pg2.says(503, fmt.Sprintf(`{"state":%[1]q,"role":%[1]q,"timeline":%[2]d,"tags":{%[1]q:%[1]q},"patroni":{"version":%[1]q,"scope":"s","name":%[1]q}}`, word, i))
				for _, path := range []string{"/" + word, "/node/" + word + "/primary", "/node/pg1/" + word, "/node/pg1/replica?tag_" + word + "=" + word,
					"/health?cluster=" + word, "/history?node=" + word, "/events?cluster=" + word, "/cluster/" + word + "/replica"} {
					d.http.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
				}
				time.Sleep(300 * time.Millisecond)
				for line := range strings.Lines(harness.Scrape(t, d.http.Handler())) {
					if series, _, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") && strings.HasPrefix(line, "patroniglue_") {
						seen[series] = true
					}
				}
			}
			pg2.says(0, "")
			time.Sleep(3 * time.Second)
			pg2.says(503, replicaSays)
			time.Sleep(3 * time.Second)
		}
		storm("first")
		first := maps.Clone(seen)
		storm("second")
		for series := range seen {
			if !first[series] {
				t.Errorf("words that were new made the series %s", series)
			}
		}
		if len(first) < 80 || len(first) > 150 {
			t.Errorf("%d series of two nodes", len(first))
		}
	})
}

// BenchmarkScrape is the whole of /metrics for 3,000 nodes with certificates, but for the network.
func BenchmarkScrape(b *testing.B) {
	for _, size := range []int{3, 3000} {
		clusters := make(map[string][]*scripted)
		var names []string
		for i := range 3000 / size {
			name := fmt.Sprintf("cluster%d", i)
			names = append(names, name)
			for j := range size {
				s := says(503, replicaSays)
				if j == 0 {
					s = says(200, leaderSays)
				}
				s.ends = time.Now().AddDate(1, 0, 0)
				clusters[name] = append(clusters[name], s)
			}
		}
		d := startScraped(time.Hour, time.Hour, clusters, names...)
		watchMeasured(b, d)
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(fmt.Sprintf("clusters=%d/%s", len(names), encoding), func(b *testing.B) {
				r := httptest.NewRequest("GET", "/metrics", nil)
				r.Header.Set("Accept-Encoding", encoding)
				bytes := 0
				for b.Loop() {
					w := httptest.NewRecorder()
					d.http.Handler().ServeHTTP(w, r)
					if w.Code != 200 {
						b.Fatal(w.Code)
					}
					bytes = w.Body.Len()
				}
				b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/scrape")
				b.ReportMetric(float64(bytes), "bytes")
			})
		}
	}
}
