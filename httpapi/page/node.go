package page

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// nodeRow is one node in the table of nodes, and the row of details below it.
type nodeRow struct {
	*rendering
	Name, URL, Postgres, Link string
	Level                     cluster.Level
	Sign                      template.HTML // of the level
	Leader, Fresh             bool
	Never                     bool // it has never answered
	Age                       string
	AgeBar                    template.HTML
	Failures                  int
	Error                     string // of the latest poll, for when no reason says it

	Lag, LagGraph, Took, TookGraph         template.HTML
	StateCell, Cells, VersionCell, Details template.HTML
}

func (r *Renderer) nodeRow(out *rendering, v *cluster.View, m *cluster.Member, reasons []cluster.Reason, now time.Time) nodeRow {
	e := &m.Entry
	row := nodeRow{
		rendering: out, Name: m.Name, Link: out.Base + "cluster/" + v.Cluster + "/node/" + m.Name, URL: m.URL, Postgres: m.Postgres,
		Leader: m.Name == v.Leader && e.Fresh(now), Fresh: e.Fresh(now), Failures: e.Failures, Never: !e.Known, Age: "never",
	}
	row.Level = levelOf(v, m, reasons, now)
	row.Sign = signs[row.Level]
	if e.Err != nil {
		row.Error = e.Err.Error()
	}
	if e.Known {
		age := e.Age(now)
		row.Age = strconv.FormatFloat(age.Seconds(), 'f', 1, 64) + " s of " + inWords(v.TTL)
		bar := ageBar{int(min(100, max(0, 100*age/max(1, v.TTL)))), row.Fresh}
		row.AgeBar = row.renderOnce("bar", fmt.Sprint(bar), &bar)
	}
	lag, took := row.figures(v, m)
	row.Lag, row.Took = row.renderOnce("figure", lag, lag), row.renderOnce("figure", took, took)
	if samples, ok := r.sup.Samples(v.Cluster, m.Name); ok {
		row.LagGraph, row.TookGraph = lagSparkline(&samples), latencySparkline(&samples)
	}
	state := stateOf(m, row.was(), now)
	row.StateCell = row.renderOnce("state", state.key(), &state)
	version := versionOf(m)
	row.VersionCell = row.renderOnce("version", version.key(), &version)
	r.answers(&row, v, m, now)
	return row
}

// levelOf returns the level of a node, which is that of its worst reason.
func levelOf(v *cluster.View, m *cluster.Member, reasons []cluster.Reason, now time.Time) (level cluster.Level) {
	// A split brain is a reason of the cluster, not of the nodes that claim.
	if v.Split && m.Entry.Fresh(now) && m.Entry.Value.Claims() {
		return cluster.Critical
	}
	for _, reason := range reasons {
		if reason.Node == m.Name {
			level = max(level, reason.Level)
		}
	}
	return level
}

// was is put before values that are no longer believed.
func (row *nodeRow) was() string {
	if row.Fresh {
		return ""
	}
	return "was "
}

// figures returns the node's lag and how long its last good poll took.
func (row *nodeRow) figures(v *cluster.View, m *cluster.Member) (lag, took string) {
	lag, took = "unknown", "unknown"
	if !m.Entry.Known {
		return lag, took
	}
	switch {
	case row.Leader:
		lag = "none: it leads"
	case m.Standing.Lag >= 0 && m.Name != v.Leader:
		lag = row.was() + node.FormatSize(m.Standing.Lag)
	}
	return lag, row.was() + inWords(m.Entry.Value.Took)
}

// ageBar shows how much of the TTL is over.
type ageBar struct {
	Share int // percent
	Fresh bool
}

// stateCell is the role and state of a node, as it reports them.
type stateCell struct {
	Role, State, Timeline string
	Notes                 []string
	Since                 *moment // since when role and state are unchanged
}

func stateOf(m *cluster.Member, was string, now time.Time) stateCell {
	c := stateCell{Role: "unknown", State: "unknown", Timeline: "timeline unknown"}
	if m.Entry.Known {
		d := &m.Entry.Value.Document
		c.Role, c.State, c.Since, c.Notes = was+string(d.Role), was+string(d.State), momentAt(m.Since, now), notesOf(m, d)
		if d.Timeline != 0 {
			c.Timeline = was + "timeline " + strconv.FormatInt(d.Timeline, 10)
		}
	}
	if _, leaves := m.Leaving(now); leaves {
		c.Notes = append(c.Notes, "leaving")
	}
	return c
}

// key differs between cells that differ.
func (c *stateCell) key() string {
	key := strings.Join(append(c.Notes, c.Role, c.State, c.Timeline), "\x00")
	if c.Since != nil {
		key += "\x00" + c.Since.Clock
	}
	return key
}

// versionCell is the versions and the tags of a node.
type versionCell struct {
	PostgreSQL, Patroni string
	Tags                []string
}

func versionOf(m *cluster.Member) (c versionCell) {
	if !m.Entry.Known {
		return c
	}
	d := &m.Entry.Value.Document
	c.Patroni, c.PostgreSQL = printable(d.Version), serverVersion(d.ServerVersion)
	for name := range d.Tags {
		text, _ := d.TagText(name)
		c.Tags = append(c.Tags, printable(name)+": "+printable(cmp.Or(text, "null")))
	}
	slices.Sort(c.Tags)
	return c
}

// key differs between cells that differ.
func (c *versionCell) key() string {
	return strings.Join(append(c.Tags, c.Patroni, c.PostgreSQL), "\x00")
}

// serverVersion writes PostgreSQL's server_version_num as people do: 150020 is 15.20.
// Versions before 10 have three parts.
func serverVersion(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 100000:
		return fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
	}
	return fmt.Sprintf("%d.%d", n/10000, n%10000)
}

// notesOf returns the conditions of a node, in a word or two each.
func notesOf(m *cluster.Member, d *node.Document) []string {
	var notes []string
	for _, n := range []struct {
		on   bool
		text string
	}{
		{m.Refused != "", "wrong cluster"},
		{d.Pause, "paused"},
		{d.Failsafe, "failsafe"},
		{!m.Standing.DCS, "DCS unseen"},
		{d.PendingRestart, "restart pending"},
		{d.ReplayPaused, "replay paused"},
		{d.SyncStandby, "sync standby"},
		{d.QuorumStandby, "quorum standby"},
	} {
		if n.on {
			notes = append(notes, n.text)
		}
	}
	if d.ReplicationState != "" && d.ReplicationState != "streaming" {
		notes = append(notes, d.ReplicationState)
	}
	return notes
}
