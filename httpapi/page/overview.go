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
	Told         string
	Trouble      []overviewGroup // critical, warning
	Fine         overviewGroup
	Shown, Total int
	Search       string
	Only         bool // trouble
}

// overviewGroup is the clusters of one level, in the order of the configuration.
type overviewGroup struct {
	*rendering
	Level    cluster.Level
	Clusters []overviewRow
	count    int // before the filter
}

type overviewRow struct {
	Name      string
	Level     cluster.Level
	Sign      template.HTML // of the level
	Headline  headline
	Up, Nodes int
	Worst     *cluster.Reason
	More      int // further reasons
}

func (s *Renderer) overview(r *rendering, q Query, now time.Time) *overviewPage {
	o := &overviewPage{
		rendering: r, Search: q.Search, Only: q.Trouble,
		Trouble: []overviewGroup{{rendering: r, Level: cluster.Critical}, {rendering: r, Level: cluster.Warning}},
		Fine:    overviewGroup{rendering: r, Level: cluster.OK},
	}
	search := strings.ToLower(q.Search)
	for _, v := range s.sup.Views() {
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
	o.Told = o.Title
	return o
}

// matches reports whether the cluster or one of its nodes has that in its name.
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
