package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"patroniglue/node"
)

// metrics is what /metrics answers. Gauges are read from the views when somebody
// scrapes; what is not known has no sample, never a 0. Every counter begins at 0
// when the process starts. No label has a text that a node chose: the number of
// series depends on the configuration alone.
type Metrics struct {
	registry *prometheus.Registry
	failures map[node.Kind]prometheus.Counter // read-only after newMetrics
	took     *prometheus.HistogramVec
	failed   *prometheus.CounterVec
	kept     map[labels]bool // owned by who calls keep
}

func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), failures: make(map[node.Kind]prometheus.Counter)}
	// Per cluster: a node has 11 series without it, and it has 9.
	m.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "patroniglue_poll_duration_seconds", Help: "How long polls took, those that failed too.",
		Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 3},
	}, []string{"cluster"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "patroniglue_poll_failures_total", Help: "Polls of all nodes without an answer, by why.",
	}, []string{"kind"})
	for _, kind := range node.Kinds {
		m.failures[kind] = failures.WithLabelValues(string(kind))
	}
	m.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "patroniglue_node_poll_failures_total", Help: "Polls of the node without an answer.",
	}, nodeLabels)
	m.registry.MustRegister(m.took, failures, m.failed, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return m
}

// register makes a scrape read from these sources. It is called once.
func (m *Metrics) Register(s Sources) { m.registry.MustRegister(&collector{s}) }

// handler answers /metrics. One metric that cannot be collected does not hide
// the others: it is logged.
func (m *Metrics) Handler(log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

type scrapeLog struct{ log zerolog.Logger }

func (l scrapeLog) Println(v ...any) { l.log.Error().Msgf("answering /metrics: %v", v) }
