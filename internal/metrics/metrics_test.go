package metrics

import (
	"context"
	"fmt"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/cluster/clustertest"
	"patroniglue/httpapi"
	"patroniglue/test/harness"
)

const (
	leaderSays  = `{"state":"running","role":"primary","timeline":3,"xlog":{"location":1000000}}`
	replicaSays = `{"state":"running","role":"replica","timeline":3,"xlog":{"received_location":999000,"replayed_location":999000}}`
)

// scraped are the parts that metrics read.
type scraped struct {
	sup  *cluster.Supervisor
	http *httpapi.Server
}

// clusterOf is a cluster whose nodes are polled in every interval.
func clusterOf(name string, interval time.Duration, nodes ...*clustertest.Poller) cluster.ClusterConfig {
	c := cluster.ClusterConfig{Name: name}
	for _, p := range nodes {
		c.Nodes = append(c.Nodes, cluster.NodeConfig{
			Name: p.Name(), Client: p, Interval: interval, PrimaryInterval: interval, FastInterval: interval, Fall: 3,
		})
	}
	return c
}

// startScraped makes them, without ports.
func startScraped(ttl time.Duration, clusters ...cluster.ClusterConfig) scraped {
	m := New()
	for _, c := range clusters {
		for i, n := range c.Nodes {
			c.Nodes[i].Client = m.Measure(c.Name, n.Name, n.Client)
		}
	}
	sup := cluster.New(cluster.Config{TTL: ttl, Rules: cluster.Rules{LagHold: 10 * time.Second, SameTimeline: true}, Clusters: clusters})
	server := httpapi.New(httpapi.Config{Supervisor: sup, Metrics: m.Handler(zerolog.Nop())})
	m.Register(Sources{
		Views: sup.Views, HTTP: server, Agents: agentapi.New(agentapi.Config{Asker: sup}), Version: "test",
		Certificates: func() []httpapi.Certificate { return nil },
		Reloads:      func() ReloadState { return ReloadState{Successful: true} },
		Discovery:    func() *DiscoveryState { return nil },
	})
	m.SetClusters(clusters)
	return scraped{sup, server}
}

// poll polls until the test ends.
func (d scraped) poll(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.sup.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := d.sup.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// Alerts about the time without a primary, and about changes of it, need what happened
// between two scrapes.
func TestMetricsOfAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg1, pg2 := clustertest.New(t, "pg1", clustertest.Says(200, leaderSays)), clustertest.New(t, "pg2", clustertest.Says(503, replicaSays))
		d := startScraped(time.Second, clusterOf("main", 100*time.Millisecond, pg1, pg2))
		want := func(when string, samples map[string]string) {
			t.Helper()
			synctest.Wait()
			text := harness.Scrape(t, d.http.Handler())
			for series, value := range samples {
				if got := harness.MetricValue(text, "patroniglue_"+series); got != value {
					t.Errorf("%s: %s is %q, want %q", when, series, got, value)
				}
			}
		}
		want("before the first poll", map[string]string{
			`cluster_has_primary{cluster="main"}`: "", `node_up{cluster="main",node="pg1"}`: "0",
			`node_answering{cluster="main",node="pg1"}`: "", `node_knowledge_age_seconds{cluster="main",node="pg1"}`: "",
		})
		d.poll(t)
		time.Sleep(time.Second)
		want("at first", map[string]string{
			`cluster_has_primary{cluster="main"}`: "1", `cluster_primary_changes_total{cluster="main"}`: "0",
			`cluster_without_primary_seconds_total{cluster="main"}`: "0", `health_level{cluster="main"}`: "0",
			`node_role{cluster="main",node="pg1",role="primary"}`: "1", `node_lag_bytes{cluster="main",node="pg2"}`: "1000",
			`node_lag_bytes{cluster="main",node="pg1"}`: "",
		})

		// The primary demotes itself; /metrics is not read for a minute.
		pg1.Set(clustertest.Says(503, strings.Replace(leaderSays, "primary", "demoted", 1)))
		time.Sleep(20 * time.Second)
		pg2.Set(clustertest.Says(200, leaderSays))
		time.Sleep(40 * time.Second)
		synctest.Wait()
		text := harness.Scrape(t, d.http.Handler())
		var without, gaps float64
		h, err := d.sup.History(cluster.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range h.Changes {
			if c.Kind == cluster.KindPrimary {
				gaps += c.Gap
			}
		}
		if _, err := fmt.Sscan(harness.MetricValue(text, `patroniglue_cluster_without_primary_seconds_total{cluster="main"}`), &without); err != nil || without != gaps || without < 19.5 || without > 20.5 {
			t.Errorf("time without a primary: %v s (%v), want 20, and %v as in the history", without, err, gaps)
		}
		want("after the failover", map[string]string{
			`cluster_has_primary{cluster="main"}`: "1", `cluster_primary_changes_total{cluster="main"}`: "1",
			`node_elected{cluster="main",node="pg2"}`: "1", `node_elected{cluster="main",node="pg1"}`: "0",
			`node_role{cluster="main",node="pg1",role="demoted"}`: "1", `node_role{cluster="main",node="pg1",role="primary"}`: "",
		})

		// Both claim, with the same timeline.
		pg1.Set(clustertest.Says(200, leaderSays))
		time.Sleep(5 * time.Second)
		want("with two that claim", map[string]string{
			`cluster_has_primary{cluster="main"}`: "0", `cluster_split_brains_total{cluster="main"}`: "1",
			`health_level{cluster="main"}`: "2", `health_reason{cluster="main",code="split_brain",node=""}`: "2",
		})

		// What is no longer believed has no sample.
		pg1.Set(clustertest.Refuses())
		pg2.Set(clustertest.Refuses())
		time.Sleep(5 * time.Second)
		want("with both gone", map[string]string{
			`node_up{cluster="main",node="pg2"}`: "0", `node_answering{cluster="main",node="pg2"}`: "0",
			`node_failing{cluster="main",kind="refused",node="pg2"}`: "1", `node_lag_bytes{cluster="main",node="pg2"}`: "",
			`node_timeline{cluster="main",node="pg2"}`: "", `node_role{cluster="main",node="pg2",role="primary"}`: "",
			`node_role{cluster="main",node="pg1",role="primary"}`: "", `cluster_has_primary{cluster="main"}`: "0",
		})
	})
}

// No sample has text from a node, which could end a line.
func TestMetricsOfAHostileNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := `x\"} 1\nevil_metric{a=\"\u0000\u2028`
		d := startScraped(time.Second, clusterOf("main", 100*time.Millisecond,
			clustertest.New(t, "pg1", clustertest.Says(200, leaderSays)),
			clustertest.New(t, "pg2", clustertest.Says(503, fmt.Sprintf(`{"state":"%[1]s","role":"%[1]s","timeline":-9223372036854775808,"replication_state":"%[1]s","server_version":"%[1]s",`+
				`"tags":{"%[1]s":"%[1]s"},"patroni":{"version":"%[1]s","scope":"%[1]s","name":"%[1]s"}}`, bad))),
			clustertest.New(t, "pg3", clustertest.Says(503, strings.Replace(replicaSays, "999000", "-9223372036854775808", 2))),
		))
		d.poll(t)
		time.Sleep(time.Second)
		text := harness.Scrape(t, d.http.Handler())
		if strings.Contains(text, "evil") {
			t.Errorf("GET /metrics has a node's words:\n%s", harness.OurMetrics(text))
		}
		for _, series := range []string{`patroniglue_node_role{cluster="main",node="pg2",role="other"}`, `patroniglue_node_state{cluster="main",node="pg2",state="other"}`} {
			if harness.MetricValue(text, series) != "1" {
				t.Errorf("GET /metrics: no %s 1:\n%s", series, harness.OurMetrics(text))
			}
		}
	})
}

// What nodes say and clients ask must not fill Prometheus: new words make no series.
func TestMetricsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg1, pg2 := clustertest.New(t, "pg1", clustertest.Says(200, leaderSays)), clustertest.New(t, "pg2", clustertest.Says(503, replicaSays))
		d := startScraped(time.Second, clusterOf("main", 100*time.Millisecond, pg1, pg2))
		d.poll(t)
		seen := make(map[string]bool)
		storm := func(words string) {
			for i := range 20 {
				word := fmt.Sprint(words, i)
				pg2.Set(clustertest.Says(503, fmt.Sprintf(`{"state":%[1]q,"role":%[1]q,"timeline":%[2]d,"tags":{%[1]q:%[1]q},"patroni":{"version":%[1]q,"scope":"s","name":%[1]q}}`, word, i)))
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
			pg2.Set(clustertest.Refuses())
			time.Sleep(3 * time.Second)
			pg2.Set(clustertest.Says(503, replicaSays))
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

// BenchmarkScrape answers /metrics for 3,000 nodes with certificates, without the network.
func BenchmarkScrape(b *testing.B) {
	for _, size := range []int{3, 3000} {
		var clusters []cluster.ClusterConfig
		certificateEnds := time.Now().AddDate(1, 0, 0)
		for i := range 3000 / size {
			nodes := []*clustertest.Poller{clustertest.New(b, "pg1", clustertest.Says(200, leaderSays).WithCertificateEnd(certificateEnds))}
			for j := range size - 1 {
				nodes = append(nodes, clustertest.New(b, fmt.Sprintf("pg%d", j+2), clustertest.Says(503, replicaSays).WithCertificateEnd(certificateEnds)))
			}
			clusters = append(clusters, clusterOf(fmt.Sprintf("cluster%d", i), time.Hour, nodes...))
		}
		d := startScraped(time.Hour, clusters...)
		d.poll(b)
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(fmt.Sprintf("clusters=%d/%s", len(clusters), encoding), func(b *testing.B) {
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
