package page

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"patroniglue/cluster"
)

// overviewPage lists clusters, the worst first.
type overviewPage struct {
	*rendering
	Title        string
	Level        cluster.Level
	Announced    string          // for screen readers
	Trouble      []overviewGroup // the critical clusters, the warnings
	Fine         overviewGroup
	Shown, Total int
	Search       string
	Only         bool // only clusters where something is wrong
}

// overviewGroup is the clusters of one level, in the configuration's order.
type overviewGroup struct {
	*rendering
	Level    cluster.Level
	Clusters []overviewRow
	count    int // of all clusters of the level, also those that the filter hides
}

// overviewRow is one cluster.
type overviewRow struct {
	Name      string
	Level     cluster.Level
	Sign      template.HTML // of the level
	Headline  headline
	Up, Nodes int
	Worst     *cluster.Reason
	More      int // further reasons
}

func (r *Renderer) overview(out *rendering, q Query, now time.Time) *overviewPage {
	o := &overviewPage{
		rendering: out, Search: q.Search, Only: q.Trouble,
		Trouble: []overviewGroup{{rendering: out, Level: cluster.Critical}, {rendering: out, Level: cluster.Warning}},
		Fine:    overviewGroup{rendering: out, Level: cluster.OK},
	}
	search := strings.ToLower(q.Search)
	for _, v := range r.sup.Views() {
		h := v.Health(now)
		o.Level = max(o.Level, h.Level)
		o.Total++
		g := &o.Fine
		if h.Level != cluster.OK {
			g = &o.Trouble[cluster.Critical-h.Level]
		}
		g.count++
		if q.Trouble && h.Level == cluster.OK || !matches(v, search) {
			continue
		}
		row := overviewRow{Name: v.Cluster, Level: h.Level, Sign: signs[h.Level], Headline: headlineOf(v, now), Nodes: len(v.Members)}
		for _, m := range v.Members {
			if m.Entry.Fresh(now) && m.Refused == "" {
				row.Up++
			}
		}
		if len(h.Reasons) > 0 {
			row.Worst, row.More = &h.Reasons[0], len(h.Reasons)-1
		}
		g.Clusters = append(g.Clusters, row)
		o.Shown++
	}
	o.Title = "nothing wrong in " + count(o.Total, "cluster")
	if o.Level > cluster.OK {
		o.Title = fmt.Sprintf("%d critical, %d warning of %s", o.Trouble[0].count, o.Trouble[1].count, count(o.Total, "cluster"))
	}
	o.Announced = o.Title
	return o
}

// matches reports whether the name of the cluster, its scope or one of its nodes contains search.
func matches(v *cluster.View, search string) bool {
	if strings.Contains(strings.ToLower(v.Cluster), search) || strings.Contains(strings.ToLower(v.Scope), search) {
		return true
	}
	for _, m := range v.Members {
		if strings.Contains(strings.ToLower(m.Name), search) {
			return true
		}
	}
	return false
}
