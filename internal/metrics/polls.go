package metrics

import (
	"context"
	"errors"
	"slices"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// labels are those of a node or, with an empty node, of a cluster.
type labels struct{ cluster, node string }

// Measure makes a poller of a node that also counts and measures its polls.
func (m *Metrics) Measure(cluster, node string, p cluster.Poller) cluster.Poller {
	return &measuredPoller{p, m, cluster, node}
}

// SetClusters makes the series of polls of these clusters and their nodes exist, from 0, and
// removes those of others.
func (m *Metrics) SetClusters(clusters []cluster.ClusterConfig) {
	series := make(map[labels]bool)
	for _, c := range clusters {
		series[labels{c.Name, ""}] = true
		m.durations.WithLabelValues(c.Name)
		for _, n := range c.Nodes {
			series[labels{c.Name, n.Name}] = true
			m.nodeFailures.WithLabelValues(c.Name, n.Name)
		}
	}
	for old := range m.series {
		switch {
		case series[old]:
		case old.node == "":
			m.durations.DeleteLabelValues(old.cluster)
		default:
			m.nodeFailures.DeleteLabelValues(old.cluster, old.node)
		}
	}
	m.series = series
}

// measuredPoller is a poller whose polls are counted and measured.
type measuredPoller struct {
	cluster.Poller
	metrics       *Metrics
	cluster, node string
}

func (p *measuredPoller) Poll(ctx context.Context) (node.Report, error) {
	began := time.Now()
	r, err := p.Poller.Poll(ctx)
	if ctx.Err() != nil {
		return r, err // the supervisor ended the poll, so it says nothing of the node
	}
	p.metrics.durations.WithLabelValues(p.cluster).Observe(time.Since(began).Seconds())
	if err != nil {
		p.metrics.nodeFailures.WithLabelValues(p.cluster, p.node).Inc()
		p.metrics.failures[kindOf(err)].Inc()
	}
	return r, err
}

// kindOf is the kind of a failed poll, one of [node.Kinds].
func kindOf(err error) node.Kind {
	if f, ok := errors.AsType[*node.Failure](err); ok && slices.Contains(node.Kinds, f.Kind) {
		return f.Kind
	}
	return node.KindOther
}
