package page

import (
	"fmt"
	"slices"
	"time"

	"patroniglue/cluster"
)

// How much of the past a cluster's page shows. /history has the rest.
const (
	pagePast    = 24 * time.Hour
	pageChanges = 100
)

// clusterPage is one cluster's page.
type clusterPage struct {
	*rendering
	Name, Title string
	cluster.Health
	Split     bool
	Headline  headline
	Announced string // for screen readers
	Nodes     []nodeRow
	Hour      timeline      // of the last hour
	Day       timeline      // of pagePast
	Intervals []intervalRow // of Day
	Changes   []changeRow
	More      bool // there are more changes than these
	Settings  string
}

// intervalRow says in words what the timeline draws.
type intervalRow struct {
	Kind, What, Length, Reason string
	From                       *moment
}

func intervalRowOf(i *interval, now time.Time) intervalRow {
	row := intervalRow{Kind: i.Kind, Length: i.Length(), Reason: printable(i.Reason), From: momentAt(i.From, now)}
	switch i.Kind {
	case wasPrimary:
		row.What = i.Node + " was primary"
	case wasNone:
		row.What = "nobody was primary"
	case wasSplit:
		row.What = "several nodes claimed to be primary"
	default:
		row.What = "nobody watched"
	}
	return row
}

// changeRow is one change of the last day.
type changeRow struct {
	ID                                uint64
	At                                *moment
	Node, Kind, Before, After, Reason string
	Gap                               string // for how long there was none before this
	Grave                             bool
}

func (r *Renderer) clusterPage(out *rendering, v *cluster.View, now time.Time) *clusterPage {
	h := v.Health(now)
	c := &clusterPage{rendering: out, Name: v.Cluster, Health: h, Split: v.Split, Headline: headlineOf(v, now)}
	c.Title = v.Cluster + ", " + c.Headline.Strong
	c.Announced = announcementOf(v.Cluster, &c.Headline, h)
	c.Settings = "An answer is believed for " + inWords(v.TTL) + "; Patroni's ttl and loop_wait are unknown."
	if p := v.Settings; p.TTL > 0 {
		c.Settings = fmt.Sprintf("An answer is believed for %s; Patroni's ttl is %s, its loop_wait %s.", inWords(v.TTL), inWords(p.TTL), inWords(p.LoopWait))
	}
	if v.Scope != "" {
		c.Settings += " Patroni calls this cluster " + printable(v.Scope) + "."
	}
	for _, member := range v.Members {
		c.Nodes = append(c.Nodes, r.nodeRow(out, v, member, h.Reasons, now))
	}
	past, _ := r.sup.History(cluster.Filter{Cluster: v.Cluster, Since: now.Add(-pagePast), Limit: pageChanges}) // it fails for an unknown cluster only
	kept, _, _ := r.sup.After(0)
	c.Hour, c.Day = timelineOf(kept, v, now.Add(-time.Hour), now), timelineOf(kept, v, now.Add(-pagePast), now)
	for i := range c.Day.Intervals {
		c.Intervals = append(c.Intervals, intervalRowOf(&c.Day.Intervals[i], now))
	}
	c.More = past.Truncated
	for _, ch := range slices.Backward(past.Changes) {
		c.Changes = append(c.Changes, changeRowOf(&ch, now))
	}
	return c
}

func changeRowOf(c *cluster.Change, now time.Time) changeRow {
	row := changeRow{
		ID: c.ID, At: momentAt(c.At, now), Node: c.Node, Kind: c.Kind,
		Before: printable(c.Before), After: printable(c.After), Reason: printable(c.Reason),
	}
	if c.Gap > 0 {
		row.Gap = inWords(time.Duration(c.Gap * float64(time.Second)))
	}
	switch c.Kind {
	case cluster.KindPrimary, cluster.KindSplit:
		row.Grave = true
	case cluster.KindLevel:
		row.Grave = c.After == cluster.Critical.String()
	}
	return row
}
