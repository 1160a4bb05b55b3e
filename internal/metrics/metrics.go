// Package metrics answers /metrics: with what the rest of the program knows at the scrape
// (sources.go, collect.go), and with what it counts and measures at each poll (polls.go).
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"patroniglue/node"
)

// Metrics answers /metrics. Gauges are read from [Sources] at each scrape; an unknown value
// has no sample, never a 0. Every counter begins at 0 when the process starts. No label
// has text from a node, so the number of series depends on the configuration alone.
type Metrics struct {
	registry     *prometheus.Registry
	durations    *prometheus.HistogramVec         // of polls, by cluster
	failures     map[node.Kind]prometheus.Counter // of polls; read-only after New
	nodeFailures *prometheus.CounterVec           // of polls, by node
	series       map[labels]bool                  // series that exist; owned by the caller of SetClusters
}

// New makes the metrics of polls and of the process. [Metrics.Register] adds the others.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), failures: make(map[node.Kind]prometheus.Counter)}
	// Per cluster, because it has 9 series, and a node has 11 without it.
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "patroniglue_poll_duration_seconds", Help: "How long polls took, including those that failed.",
		Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 3},
	}, []string{"cluster"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "patroniglue_poll_failures_total", Help: "Polls of all nodes that brought no answer, by the reason.",
	}, []string{"kind"})
	for _, kind := range node.Kinds {
		m.failures[kind] = failures.WithLabelValues(string(kind))
	}
	m.nodeFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "patroniglue_node_poll_failures_total", Help: "Polls of the node that brought no answer.",
	}, nodeLabels)
	m.registry.MustRegister(m.durations, failures, m.nodeFailures, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return m
}

// Register makes scrapes read from s. It is called once.
func (m *Metrics) Register(s Sources) { m.registry.MustRegister(&collector{s}) }

// Handler answers /metrics. A metric that cannot be collected is logged, and does not hide
// the others.
func (m *Metrics) Handler(log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

type scrapeLog struct{ log zerolog.Logger }

func (l scrapeLog) Println(v ...any) { l.log.Error().Msgf("answering /metrics: %v", v) }
