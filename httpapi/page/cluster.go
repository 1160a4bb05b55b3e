package page

import (
	"fmt"
	"slices"
	"time"

	"patroniglue/cluster"
)

// How much of the past a cluster's page shows; the rest is in /history.
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
	Told      string // for those who listen: changes only when it matters
	Nodes     []nodeRow
	Hour      Timeline      // who was primary in the last hour,
	Day       Timeline      // and in pagePast
	Intervals []intervalRow // of the day
	Changes   []changeRow
	More      bool // there were more changes than these
	Settings  string
}

// intervalRow tells in words what the timeline draws.
type intervalRow struct {
	Kind, What, Length, Reason string
	From                       *moment
}

func intervalRowOf(i *Interval, now time.Time) intervalRow {
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

type changeRow struct {
	ID                                uint64
	At                                *moment
	Node, Kind, Before, After, Reason string
	Gap                               string // for how long there was none before
	Grave                             bool
}

func (s *Renderer) clusterPage(r *rendering, v *cluster.View, now time.Time) *clusterPage {
	h := v.Health(now)
	c := &clusterPage{rendering: r, Name: v.Cluster, Health: h, Split: v.Split, Headline: headlineOf(v, now)}
	c.Title = v.Cluster + ", " + c.Headline.Strong
	c.Told = toldOf(v.Cluster, &c.Headline, h)
	c.Settings = "An answer is believed for " + inWords(v.TTL) + "; Patroni's ttl and loop_wait are unknown."
	if p := v.Settings; p.TTL > 0 {
		c.Settings = fmt.Sprintf("An answer is believed for %s; Patroni's ttl is %s, its loop_wait %s.", inWords(v.TTL), inWords(p.TTL), inWords(p.LoopWait))
	}
	if v.Scope != "" {
		c.Settings += " Patroni calls this cluster " + printable(v.Scope) + "."
	}
	for _, member := range v.Members {
		c.Nodes = append(c.Nodes, s.nodeRow(r, v, member, h.Reasons, now))
	}
	past, _ := s.sup.History(cluster.Filter{Cluster: v.Cluster, Since: now.Add(-pagePast), Limit: pageChanges}) // a cluster that is watched is known
	kept, _, _ := s.sup.After(0)
	c.Hour, c.Day = primaryTimeline(kept, v, now.Add(-time.Hour), now), primaryTimeline(kept, v, now.Add(-pagePast), now)
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
