package metrics

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
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

// sources is where a scrape reads what the rest of the program knows.
type Sources struct {
	Views        func() []*cluster.View
	Http         *httpapi.Server
	Agents       *agentapi.Server
	Certificates func() []httpapi.Certificate // of our own
	Reloads      func() ReloadState
	Discovery    func() *DiscoveryState // gives nil while nothing is discovered
	Version      string
}

// reloadState is the outcome of configuration reloads.
type ReloadState struct {
	Successful        bool      // the latest one, and the files that the configuration names
	At                time.Time // of the latest success, at first of the start
	Succeeded, Failed uint64
}

// discoveryState is what discovery knows.
type DiscoveryState struct {
	Status   discovery.Status
	Listed   int // members
	Left     int
	Problems int // that are of no node
}

// labels of a node, or of a cluster: without a node.
type labels struct{ cluster, node string }

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

// collector reads the sources when somebody scrapes.
type collector struct{ Sources }

// measure measures the polls of a node.
func (m *Metrics) Measure(cluster, node string, p cluster.Poller) cluster.Poller {
	return &measuredPoller{p, m, cluster, node}
}

// keep makes the counters of these clusters' nodes exist, and those of others go.
func (m *Metrics) Keep(clusters []cluster.ClusterConfig) {
	kept := make(map[labels]bool)
	for _, c := range clusters {
		kept[labels{c.Name, ""}] = true
		m.took.WithLabelValues(c.Name)
		for _, n := range c.Nodes {
			kept[labels{c.Name, n.Name}] = true
			m.failed.WithLabelValues(c.Name, n.Name)
		}
	}
	for was := range m.kept {
		switch {
		case kept[was]:
		case was.node == "":
			m.took.DeleteLabelValues(was.cluster)
		default:
			m.failed.DeleteLabelValues(was.cluster, was.node)
		}
	}
	m.kept = kept
}

type measuredPoller struct {
	cluster.Poller
	m             *Metrics
	cluster, node string
}

func (p *measuredPoller) Poll(ctx context.Context) (node.Report, error) {
	began := time.Now()
	r, err := p.Poller.Poll(ctx)
	if ctx.Err() != nil {
		return r, err // nobody asks any more: that is no failure of the node's
	}
	p.m.took.WithLabelValues(p.cluster).Observe(time.Since(began).Seconds())
	if err != nil {
		p.m.failed.WithLabelValues(p.cluster, p.node).Inc()
		p.m.failures[kindOf(err)].Inc()
	}
	return r, err
}

func kindOf(err error) node.Kind {
	if f, ok := errors.AsType[*node.Failure](err); ok && slices.Contains(node.Kinds, f.Kind) {
		return f.Kind
	}
	return node.KindOther
}

// handler answers /metrics. One metric that cannot be collected does not hide
// the others: it is logged.
func (m *Metrics) Handler(log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

type scrapeLog struct{ log zerolog.Logger }

func (l scrapeLog) Println(v ...any) { l.log.Error().Msgf("answering /metrics: %v", v) }

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("patroniglue_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// Describe is part of prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := samples{ch}
	views := c.Views()
	now := time.Now() // after it, or ages could be negative
	for _, v := range views {
		collectCluster(s, v, now)
		for _, member := range v.Members {
			collectNode(s, v, member, now)
		}
	}
	c.collectServers(s)
	c.collectDaemon(s)
}

// samples takes one sample at a time.
type samples struct{ ch chan<- prometheus.Metric }

func (s samples) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (s samples) counter(d *prometheus.Desc, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}

func (s samples) is(d *prometheus.Desc, b bool, labels ...string) {
	value := 0.0
	if b {
		value = 1
	}
	s.gauge(d, value, labels...)
}

func collectCluster(s samples, v *cluster.View, now time.Time) {
	if has, known := v.HasPrimary(now); known {
		s.is(clusterHas, has, v.Cluster)
	}
	s.counter(clusterChanges, float64(v.PrimaryChanges), v.Cluster)
	s.counter(clusterSplits, float64(v.SplitBrains), v.Cluster)
	s.counter(clusterWithout, v.WithoutPrimary().Seconds(), v.Cluster)
	s.gauge(clusterTTL, v.TTL.Seconds(), v.Cluster)
	h := v.Health(now)
	s.gauge(healthLevel, float64(h.Level), v.Cluster)
	for _, r := range h.Reasons {
		s.gauge(healthReason, float64(r.Level), v.Cluster, r.Node, r.Code)
	}
}

func collectNode(s samples, v *cluster.View, m *cluster.Member, now time.Time) {
	e := &m.Entry
	fresh := e.Fresh(now)
	s.is(nodeUp, fresh, v.Cluster, m.Name)
	s.is(nodeElected, v.Leader == m.Name, v.Cluster, m.Name)
	_, leaves := m.Leaving(now)
	s.is(nodeLeaving, leaves, v.Cluster, m.Name)
	if !m.Left.IsZero() {
		s.gauge(nodeLeft, 1, v.Cluster, m.Name)
	}
	if m.Polled {
		s.is(nodeAnswering, e.Failures == 0, v.Cluster, m.Name)
	}
	if e.Failures > 0 {
		s.gauge(nodeFailing, 1, v.Cluster, m.Name, string(kindOf(e.Err)))
	}
	if !e.Known {
		return
	}
	s.gauge(nodeAge, e.Age(now).Seconds(), v.Cluster, m.Name)
	s.is(nodeWrong, m.Refused != "", v.Cluster, m.Name)
	if ends := e.Value.CertificateEnds; !ends.IsZero() {
		s.gauge(nodeCert, float64(ends.Unix()), v.Cluster, m.Name)
	}
	if !fresh || m.Refused != "" {
		return // what it said is not believed, or is about another cluster
	}
	d := &e.Value.Document
	s.gauge(nodeRole, 1, v.Cluster, m.Name, oneOf(roles, d.Role))
	s.gauge(nodeState, 1, v.Cluster, m.Name, oneOf(states, d.State))
	if d.Timeline != 0 {
		s.gauge(nodeTimeline, float64(d.Timeline), v.Cluster, m.Name)
	}
	if m.Standing.Lag >= 0 && v.Leader != m.Name {
		s.gauge(nodeLag, float64(m.Standing.Lag), v.Cluster, m.Name)
	}
}

// oneOf keeps what a node says from making any number of series.
func oneOf[T ~string](known []T, said T) string {
	if slices.Contains(known, said) {
		return string(said)
	}
	return "other"
}

func (c *collector) collectServers(s samples) {
	for checks := range c.Http.Served() {
		s.counter(httpChecks, float64(checks.Passed), checks.Check, "pass")
		s.counter(httpChecks, float64(checks.Failed), checks.Check, "fail")
	}
	s.counter(httpSilent, float64(c.Http.Unanswered()))
	s.counter(httpPutOff, float64(c.Http.PutOff()))
	s.counter(httpRefused, float64(c.Http.Refused()))
	s.counter(httpOverflow, float64(c.Http.Overflowed()))
	s.gauge(httpConns, float64(c.Http.Conns()))
	logins := c.Http.Logins()
	s.counter(loginsFailed, float64(logins.Wrong), "wrong")
	s.counter(loginsFailed, float64(logins.Busy), "busy")
	for words, n := range c.Agents.Answers() {
		s.counter(agentAnswers, float64(n), words)
	}
	s.counter(agentSilent, float64(c.Agents.Unanswered()))
	s.counter(agentRefused, float64(c.Agents.Refused()))
	s.counter(agentOverflow, float64(c.Agents.Overflowed()))
	s.gauge(agentConns, float64(c.Agents.Conns()))
	s.gauge(agentPorts, float64(c.Agents.Ports()))
	streams := c.Http.Streams()
	s.gauge(eventStreams, float64(streams.Open))
	s.counter(eventsSent, float64(streams.Sent))
	s.counter(eventsDropped, float64(streams.Dropped))
	s.counter(eventsRefused, float64(streams.Refused))
}

func (c *collector) collectDaemon(s samples) {
	for _, own := range c.Certificates() {
		s.gauge(certExpires, float64(own.Ends.Unix()), own.Use, own.File)
	}
	if d := c.Discovery(); d != nil {
		s.is(discUp, d.Status.Live)
		if !d.Status.Heard.IsZero() {
			s.gauge(discHeard, float64(d.Status.Heard.Unix()))
		}
		s.counter(discRestarts, float64(d.Status.Restarts))
		s.gauge(discMembers, float64(d.Listed), "listed")
		s.gauge(discMembers, float64(d.Left), "left")
		s.gauge(discProblems, float64(d.Problems))
	}
	r := c.Reloads()
	s.is(reloadFine, r.Successful)
	s.gauge(reloadedAt, float64(r.At.Unix()))
	s.counter(reloadsTotal, float64(r.Succeeded), "success")
	s.counter(reloadsTotal, float64(r.Failed), "failure")
	s.gauge(buildInfo, 1, c.Version, runtime.Version())
}
