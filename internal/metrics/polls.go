package metrics

import (
	"context"
	"errors"
	"slices"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// labels of a node, or of a cluster: without a node.
type labels struct{ cluster, node string }

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
