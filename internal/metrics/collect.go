package metrics

import (
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patroniglue/cluster"
	"patroniglue/node"
)

// collector reads the sources when somebody scrapes.
type collector struct{ Sources }

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
		s.gauge(discMembers, float64(d.Unlisted), "unlisted")
		s.gauge(discProblems, float64(d.Problems))
	}
	r := c.Reloads()
	s.is(reloadFine, r.Successful)
	s.gauge(reloadedAt, float64(r.At.Unix()))
	s.counter(reloadsTotal, float64(r.Succeeded), "success")
	s.counter(reloadsTotal, float64(r.Failed), "failure")
	s.gauge(buildInfo, 1, c.Version, runtime.Version())
}
