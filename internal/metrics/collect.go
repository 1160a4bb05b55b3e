package metrics

import (
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patroniglue/cluster"
	"patroniglue/node"
)

// collector reads the sources at each scrape.
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
	now := time.Now() // after the views, or ages could be negative
	for _, v := range views {
		collectCluster(s, v, now)
		for _, member := range v.Members {
			collectNode(s, v, member, now)
		}
	}
	c.collectServers(s)
	c.collectDaemon(s)
}

// samples sends samples, one at a time.
type samples struct{ ch chan<- prometheus.Metric }

func (s samples) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (s samples) counter(d *prometheus.Desc, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}

// is sends 1 or 0.
func (s samples) is(d *prometheus.Desc, b bool, labels ...string) {
	value := 0.0
	if b {
		value = 1
	}
	s.gauge(d, value, labels...)
}

func collectCluster(s samples, v *cluster.View, now time.Time) {
	if has, known := v.HasPrimary(now); known {
		s.is(clusterHasPrimary, has, v.Cluster)
	}
	s.counter(clusterChanges, float64(v.PrimaryChanges), v.Cluster)
	s.counter(clusterSplitBrains, float64(v.SplitBrains), v.Cluster)
	s.counter(clusterWithoutPrimary, v.WithoutPrimary().Seconds(), v.Cluster)
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
	s.is(nodeIdentityWrong, m.Refused != "", v.Cluster, m.Name)
	if ends := e.Value.CertificateEnds; !ends.IsZero() {
		s.gauge(nodeCertificate, float64(ends.Unix()), v.Cluster, m.Name)
	}
	if !fresh || m.Refused != "" {
		return // its report is not believed, or is about another cluster
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

// oneOf is what a node says, or "other" where that is not known: so nodes cannot make any
// number of series.
func oneOf[T ~string](known []T, said T) string {
	if slices.Contains(known, said) {
		return string(said)
	}
	return "other"
}

func (c *collector) collectServers(s samples) {
	for checks := range c.HTTP.Served() {
		s.counter(httpChecks, float64(checks.Passed), checks.Check, "pass")
		s.counter(httpChecks, float64(checks.Failed), checks.Check, "fail")
	}
	s.counter(httpUnanswered, float64(c.HTTP.Unanswered()))
	s.counter(httpPutOff, float64(c.HTTP.PutOff()))
	s.counter(httpRefused, float64(c.HTTP.Refused()))
	s.counter(httpOverflowed, float64(c.HTTP.Overflowed()))
	s.gauge(httpConnections, float64(c.HTTP.Conns()))
	logins := c.HTTP.Logins()
	s.counter(loginsFailed, float64(logins.Wrong), "wrong")
	s.counter(loginsFailed, float64(logins.Busy), "busy")
	for words, n := range c.Agents.Answers() {
		s.counter(agentAnswers, float64(n), words)
	}
	s.counter(agentUnanswered, float64(c.Agents.Unanswered()))
	s.counter(agentRefused, float64(c.Agents.Refused()))
	s.counter(agentOverflowed, float64(c.Agents.Overflowed()))
	s.gauge(agentConnections, float64(c.Agents.Conns()))
	s.gauge(agentPorts, float64(c.Agents.Ports()))
	streams := c.HTTP.Streams()
	s.gauge(eventStreams, float64(streams.Open))
	s.counter(eventsSent, float64(streams.Sent))
	s.counter(eventsDropped, float64(streams.Dropped))
	s.counter(eventsRefused, float64(streams.Refused))
}

func (c *collector) collectDaemon(s samples) {
	for _, own := range c.Certificates() {
		s.gauge(certificateExpiry, float64(own.Ends.Unix()), own.Use, own.File)
	}
	if d := c.Discovery(); d != nil {
		s.is(discoveryUp, d.Status.Live)
		if !d.Status.Heard.IsZero() {
			s.gauge(discoveryHeard, float64(d.Status.Heard.Unix()))
		}
		s.counter(discoveryRestarts, float64(d.Status.Restarts))
		s.gauge(discoveryMembers, float64(d.Listed), "listed")
		s.gauge(discoveryMembers, float64(d.Unlisted), "unlisted")
		s.gauge(discoveryProblems, float64(d.Problems))
	}
	r := c.Reloads()
	s.is(reloadSuccessful, r.Successful)
	s.gauge(reloadedAt, float64(r.At.Unix()))
	s.counter(reloadsTotal, float64(r.Succeeded), "success")
	s.counter(reloadsTotal, float64(r.Failed), "failure")
	s.gauge(buildInfo, 1, c.Version, runtime.Version())
}
