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

type nodeRow struct {
	*rendering
	Name, URL, Postgres, Link string
	Level                     cluster.Level
	Sign                      template.HTML // of the level
	Leader, Fresh             bool
	Never                     bool // has it answered
	Age                       string
	AgeBar                    template.HTML // as a part of the TTL
	Failures                  int
	Error                     string // of the latest, while the reasons do not tell it

	Lag, LagGraph, Took, TookGraph         template.HTML
	StateCell, Cells, VersionCell, Details template.HTML
}

func (s *Renderer) nodeRow(r *rendering, v *cluster.View, m *cluster.Member, reasons []cluster.Reason, now time.Time) nodeRow {
	e, d := &m.Entry, &m.Entry.Value.Document
	row := nodeRow{
		rendering: r, Name: m.Name, Link: r.Base + "cluster/" + v.Cluster + "/node/" + m.Name, URL: m.URL, Postgres: m.Postgres,
		Leader: m.Name == v.Leader && e.Fresh(now), Fresh: e.Fresh(now), Failures: e.Failures, Never: !e.Known, Age: "never",
	}
	lag, took := "unknown", "unknown"
	state, version := stateCell{Role: "unknown", State: "unknown", Timeline: "timeline unknown"}, versionCell{}
	for _, reason := range reasons {
		if reason.Node == m.Name {
			row.Level = max(row.Level, reason.Level)
		}
	}
	// Whose claim is not accepted is part of a split brain, which is no node's own reason.
	if v.Split && row.Fresh && e.Value.Claims() {
		row.Level = cluster.Critical
	}
	if e.Err != nil {
		row.Error = e.Err.Error()
	}
	if e.Known {
		was := ""
		if !row.Fresh {
			was = "was "
		}
		state.Role, state.State = was+string(d.Role), was+string(d.State)
		state.Since = momentAt(m.Since, now)
		age := e.Age(now)
		row.Age = strconv.FormatFloat(age.Seconds(), 'f', 1, 64) + " s of " + inWords(v.TTL)
		b := ageBar{int(min(100, max(0, 100*age/max(1, v.TTL)))), row.Fresh}
		row.AgeBar = row.once("bar", fmt.Sprint(b), &b)
		if d.Timeline != 0 {
			state.Timeline = was + "timeline " + strconv.FormatInt(d.Timeline, 10)
		}
		switch {
		case row.Leader:
			lag = "none: it leads"
		case m.Standing.Lag >= 0 && m.Name != v.Leader:
			lag = was + node.FormatSize(m.Standing.Lag)
		}
		took = was + inWords(e.Value.Took)
		version.Patroni, version.PostgreSQL = printable(d.Version), serverVersion(d.ServerVersion)
		for name := range d.Tags {
			text, _ := d.TagText(name)
			version.Tags = append(version.Tags, printable(name)+": "+printable(cmp.Or(text, "null")))
		}
		slices.Sort(version.Tags)
		state.Notes = notesOf(m, d)
	}
	if _, leaves := m.Leaving(now); leaves {
		state.Notes = append(state.Notes, "leaving")
	}
	row.Sign, row.Lag, row.Took = signs[row.Level], row.once("figure", lag, lag), row.once("figure", took, took)
	if samples, ok := s.sup.Samples(v.Cluster, m.Name); ok {
		row.LagGraph, row.TookGraph = lagSparkline(&samples), latencySparkline(&samples)
	}
	row.StateCell = row.once("state", state.key(), &state)
	row.VersionCell = row.once("version", strings.Join(append(version.Tags, version.Patroni, version.PostgreSQL), "\x00"), &version)
	s.answers(&row, v, m, now)
	return row
}

// ageBar is how much of the TTL is over.
type ageBar struct {
	Share int // percent
	Fresh bool
}

// stateCell is what a node says of itself.
type stateCell struct {
	Role, State, Timeline string
	Notes                 []string
	Since                 *moment // role and state are unchanged since
}

func (c *stateCell) key() string {
	key := strings.Join(append(c.Notes, c.Role, c.State, c.Timeline), "\x00")
	if c.Since != nil {
		key += "\x00" + c.Since.Clock
	}
	return key
}

type versionCell struct {
	PostgreSQL, Patroni string
	Tags                []string
}

// serverVersion writes PostgreSQL's server_version_num as people do: 150020 is
// 15.20, and before 10 there were three parts.
func serverVersion(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 100000:
		return fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
	}
	return fmt.Sprintf("%d.%d", n/10000, n%10000)
}

// notesOf are a node's conditions in a word or two.
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
