package main

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

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
)

// metrics is what /metrics answers. Gauges are read from the views when somebody
// scrapes; what is not known has no sample, never a 0. Every counter begins at 0
// when the process starts. No label has a text that a node chose: the number of
// series depends on the configuration alone.
type metrics struct {
	registry     *prometheus.Registry
	failures     map[node.Kind]prometheus.Counter // read-only after newMetrics
	took         *prometheus.HistogramVec
	failed       *prometheus.CounterVec
	certificates func() []httpapi.Certificate // of our own; nil = there are none
	kept         map[labels]bool              // owned by who calls keep
	d            *daemon                      // set by of, before anything is served
}

// labels of a node, or of a cluster: without a node.
type labels struct{ cluster, node string }

func newMetrics(certificates func() []httpapi.Certificate) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), failures: make(map[node.Kind]prometheus.Counter), certificates: certificates}
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
	m.registry.MustRegister(m, m.took, failures, m.failed, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return m
}

// of says whose metrics these are.
func (m *metrics) of(d *daemon) *daemon {
	m.d, d.metrics = d, m
	m.keep(d.plan.Load().clusters.Clusters)
	return d
}

// measure measures the polls of a node.
func (m *metrics) measure(cluster, node string, p cluster.Poller) cluster.Poller {
	return &measuredPoller{p, m, cluster, node}
}

// keep makes the counters of these clusters' nodes exist, and those of others go.
func (m *metrics) keep(clusters []cluster.ClusterConfig) {
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
	m             *metrics
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
func (m *metrics) handler(log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

type scrapeLog struct{ log zerolog.Logger }

func (l scrapeLog) Println(v ...any) { l.log.Error().Msgf("answering /metrics: %v", v) }

var (
	descs      []*prometheus.Desc
	nodeLabels = []string{"cluster", "node"}

	nodeUp        = desc("node_up", "Whether what the node said last is believed.", nodeLabels...)
	nodeAnswering = desc("node_answering", "Whether the last poll brought an answer.", nodeLabels...)
	nodeFailing   = desc("node_failing", "1 while polls bring no answer, by why the last one did not.", "cluster", "node", "kind")
	nodeElected   = desc("node_elected", "Whether the node is the elected leader of its cluster.", nodeLabels...)
	nodeRole      = desc("node_role", "1 for the node's role as it says itself; no sample of any other role.", "cluster", "node", "role")
	nodeState     = desc("node_state", "1 for the state of the node's PostgreSQL; no sample of any other state.", "cluster", "node", "state")
	nodeTimeline  = desc("node_timeline", "Timeline of the node's PostgreSQL.", nodeLabels...)
	nodeLag       = desc("node_lag_bytes", "How far a replica's replay is behind the newest known position of the primary.", nodeLabels...)
	nodeAge       = desc("node_knowledge_age_seconds", "Time since the last poll began that brought an answer.", nodeLabels...)
	nodeWrong     = desc("node_identity_wrong", "Whether the node belongs to another cluster, or is another member, than configured.", nodeLabels...)
	nodeLeaving   = desc("node_leaving", "Whether an announced stop of the node holds.", nodeLabels...)
	nodeCert      = desc("node_certificate_expiry_timestamp_seconds", "When the certificate that the REST API of the node showed last expires, in Unix time.", nodeLabels...)

	clusterHas     = desc("cluster_has_primary", "Whether a node passes the check of the leader: the primary, or in a standby cluster its leader.", "cluster")
	clusterChanges = desc("cluster_primary_changes_total", "How often another node than the one before passed the check of the leader.", "cluster")
	clusterWithout = desc("cluster_without_primary_seconds_total", "Time during which no node passed the check of the leader: the sum of the gaps in /history.", "cluster")
	clusterSplits  = desc("cluster_split_brains_total", "How often several nodes claimed to be primary, and answered.", "cluster")
	clusterTTL     = desc("cluster_ttl_seconds", "How long an answer of a node is believed.", "cluster")
	healthLevel    = desc("health_level", "Health of the cluster: 0 ok, 1 warning, 2 critical.", "cluster")
	healthReason   = desc("health_reason", "What is wrong at the moment: 1 warning, 2 critical; node is empty where it is about the whole cluster.", "cluster", "node", "code")

	httpChecks    = desc("http_checks_total", "Checks answered by HTTP.", "check", "result")
	httpSilent    = desc("http_unanswered_total", "HTTP connections that ended without a request: silent, malformed, too large, too slow or given up.")
	httpPutOff    = desc("http_put_off_total", "Requests for the page, the history or metrics that got a 503, because too many were asked for or not read.")
	httpRefused   = desc("http_connections_refused_total", "HTTP connections that the allow list closed.")
	httpOverflow  = desc("http_connections_overflowed_total", "HTTP connections that gave way to newer ones, because too many were open.")
	httpConns     = desc("http_connections", "Open HTTP connections.")
	loginsFailed  = desc("operator_logins_failed_total", "Requests to the operator's listener that were not let in: with a wrong name, password or token, or while too many passwords were to be verified.", "why")
	agentAnswers  = desc("agent_answers_total", "Answers to agent checks, by their words.", "answer")
	agentSilent   = desc("agent_unanswered_total", "Agent checks that ended without an answer.")
	agentRefused  = desc("agent_connections_refused_total", "Connections to agent ports that the allow list closed.")
	agentOverflow = desc("agent_connections_overflowed_total", "Connections to agent ports that gave way to newer ones, because too many were open.")
	agentConns    = desc("agent_connections", "Open connections to agent ports.")
	agentPorts    = desc("agent_listeners", "Agent ports that are open.")
	eventStreams  = desc("event_streams", "Open streams of events: /events and live pages.")
	eventsSent    = desc("events_sent_total", "Events sent to streams, also those that only keep them alive.")
	eventsDropped = desc("event_streams_dropped_total", "Streams of events that ended because their reader was too slow.")
	eventsRefused = desc("event_streams_refused_total", "Streams of events that were refused because too many were open.")
	nodeUnlisted  = desc("node_unlisted", "1 while the DCS does not list the node any more; no sample of others.", nodeLabels...)
	discUp        = desc("discovery_up", "Whether the watch of etcd works.")
	discHeard     = desc("discovery_last_heard_timestamp_seconds", "When etcd was heard last, in Unix time.")
	discMembers   = desc("discovery_members", "Members that are known by discovery: listed, or unlisted.", "state")
	discProblems  = desc("discovery_problems", "Things that etcd lists and that cannot be used, but those that are of one node.")
	discRestarts  = desc("discovery_restarts_total", "How often everything was read anew from etcd.")
	certExpires   = desc("certificate_expiry_timestamp_seconds", "When a certificate of the supervisor itself expires, in Unix time: of the frontend, of the operator's listener, or shown to nodes as a client.", "use", "file")
	reloadFine    = desc("config_last_reload_successful", "Whether the configuration, and the files that it names, could be loaded when that was tried last.")
	reloadedAt    = desc("config_last_reload_success_timestamp_seconds", "When the configuration was loaded last, in Unix time.")
	reloadsTotal  = desc("reloads_total", "How often the configuration was to be loaded anew, by SIGHUP or because files that it names had changed.", "result")
	buildInfo     = desc("build_info", "1, with the version of patroniglue and of the Go that built it.", "version", "goversion")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("patroniglue_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	s := samples{ch}
	views := m.d.sup.Views()
	now := time.Now() // after it, or ages could be negative
	for _, v := range views {
		collectCluster(s, v, now)
		for _, member := range v.Members {
			collectNode(s, v, member, now)
		}
	}
	m.collectServers(s)
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
	if !m.Unlisted.IsZero() {
		s.gauge(nodeUnlisted, 1, v.Cluster, m.Name)
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

// The roles and states that get a label of their own: Patroni's (4.1, misc.py:13-34).
var (
	roles = []node.Role{
		node.RolePrimary, node.RoleReplica, node.RoleStandbyLeader, node.RoleDemoted, node.RoleUninitialized, node.RolePromoted,
	}
	states = []node.State{
		node.StateRunning, node.StateUnknown, node.StateStarting, node.StateStopping, node.StateStopped, node.StateRestarting, node.StateCrashed,
		"creating replica", "initializing new cluster", "initdb failed", "running custom bootstrap script", "custom bootstrap failed",
		"starting after custom bootstrap", "start failed", "restart failed", "stop failed",
	}
)

// oneOf keeps what a node says from making any number of series.
func oneOf[T ~string](known []T, said T) string {
	if slices.Contains(known, said) {
		return string(said)
	}
	return "other"
}

func (m *metrics) collectServers(s samples) {
	for c := range m.d.http.Served() {
		s.counter(httpChecks, float64(c.Passed), c.Check, "pass")
		s.counter(httpChecks, float64(c.Failed), c.Check, "fail")
	}
	s.counter(httpSilent, float64(m.d.http.Unanswered()))
	s.counter(httpPutOff, float64(m.d.http.PutOff()))
	s.counter(httpRefused, float64(m.d.http.Refused()))
	s.counter(httpOverflow, float64(m.d.http.Overflowed()))
	s.gauge(httpConns, float64(m.d.http.Conns()))
	logins := m.d.http.Logins()
	s.counter(loginsFailed, float64(logins.Wrong), "wrong")
	s.counter(loginsFailed, float64(logins.Busy), "busy")
	for words, n := range m.d.agents.Answers() {
		s.counter(agentAnswers, float64(n), words)
	}
	s.counter(agentSilent, float64(m.d.agents.Unanswered()))
	s.counter(agentRefused, float64(m.d.agents.Refused()))
	s.counter(agentOverflow, float64(m.d.agents.Overflowed()))
	s.gauge(agentConns, float64(m.d.agents.Conns()))
	s.gauge(agentPorts, float64(m.d.agents.Ports()))
	streams := m.d.http.Streams()
	s.gauge(eventStreams, float64(streams.Open))
	s.counter(eventsSent, float64(streams.Sent))
	s.counter(eventsDropped, float64(streams.Dropped))
	s.counter(eventsRefused, float64(streams.Refused))
	if m.certificates != nil {
		for _, c := range m.certificates() {
			s.gauge(certExpires, float64(c.Ends.Unix()), c.Use, c.File)
		}
	}
	if m.d.plan.Load().source != nil {
		m.d.discovered.collect(s)
	}
	m.d.reloads.collect(s)
	s.gauge(buildInfo, 1, version, runtime.Version())
}

func (f *discovered) collect(s samples) {
	p := f.d.plan.Load()
	status := f.watcher.Status()
	s.is(discUp, status.Live)
	if !status.Heard.IsZero() {
		s.gauge(discHeard, float64(status.Heard.Unix()))
	}
	s.counter(discRestarts, float64(status.Restarts))
	unlisted := 0
	for i := range p.members {
		if !p.members[i].Unlisted.IsZero() {
			unlisted++
		}
	}
	s.gauge(discMembers, float64(len(p.members)-unlisted), "listed")
	s.gauge(discMembers, float64(unlisted), "unlisted")
	problems := 0
	if p := f.problems.Load(); p != nil {
		problems = len(*p)
	}
	s.gauge(discProblems, float64(problems))
}

func (r *reloads) collect(s samples) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.is(reloadFine, r.config == nil && r.files == nil)
	s.gauge(reloadedAt, float64(r.at.Unix()))
	s.counter(reloadsTotal, float64(r.succeeded), "success")
	s.counter(reloadsTotal, float64(r.failed), "failure")
}
