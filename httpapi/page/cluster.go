package page

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"patroniglue/cluster"
	"patroniglue/node"
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

// headline says in one line who is primary.
type headline struct {
	Strong, Text string
	Since        *moment
	About        string
	Lost         bool // nobody can write
}

// moment is a time as the page tells it.
type moment struct {
	Machine string // for <time datetime>
	Clock   string // 15:04:05, with the day when it is another than today
	Ago     string
}

func momentAt(t, now time.Time) *moment {
	t, now = t.UTC(), now.UTC()
	layout := "15:04:05"
	if t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		layout = "2 Jan 15:04:05"
	}
	return &moment{t.Format(time.RFC3339), t.Format(layout), inWords(now.Sub(t).Truncate(time.Second))}
}

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

// checkCell is what a check answers now.
type checkCell struct {
	Check, Question, Word, Reason string
	Outcome                       node.Outcome
	Agent                         string
}

// answerRow is an answer that several checks give.
type answerRow struct {
	Checks, Word, Reason string
	Outcome              node.Outcome
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

func headlineOf(v *cluster.View, now time.Time) headline {
	leader := v.Member(v.Leader)
	if leader != nil {
		lead := node.PlainCheck(node.AskStandbyLeader)
		about := "timeline unknown"
		if n := leader.Entry.Value.Document.Timeline; n != 0 {
			about = "timeline " + strconv.FormatInt(n, 10)
		}
		h := headline{Strong: leader.Name, Text: "is primary", About: about}
		if leader.Verdict(&lead, now).Passes() {
			h.Text, h.About = "leads this standby cluster", about+", and takes no writes"
		}
		if has, _ := v.HasPrimary(now); has {
			if !v.PrimarySince.IsZero() {
				h.Since = momentAt(v.PrimarySince, now)
			}
			if v.PrimaryAtStart {
				h.Text += ", at least"
			}
			return h
		}
		if _, leaves := leader.Leaving(now); leaves {
			return headline{Strong: leader.Name, Text: "is about to stop, as announced", About: "nobody can write", Lost: true}
		}
	}
	if slices.ContainsFunc(v.Members, func(m *cluster.Member) bool { return !m.Polled }) {
		return headline{Strong: "Not known yet", Text: "who is primary: the first polls are under way", Lost: true}
	}
	if len(v.Members) == 1 {
		return headline{Strong: "No primary here", About: "one node alone is watched: another may be it"}
	}
	h := headline{Strong: "No primary", About: "nobody can write", Lost: true}
	if !v.PrimaryLost.IsZero() {
		h.Since = momentAt(v.PrimaryLost, now)
	}
	return h
}

// toldOf changes when something happens, not when a figure in a reason does: it
// is read out.
func toldOf(name string, h *headline, health cluster.Health) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s. %s %s", name, health.Level, h.Strong, h.Text)
	for _, r := range health.Reasons {
		b.WriteString("; " + strings.ReplaceAll(r.Code, "_", " "))
		if r.Node != "" {
			b.WriteString(" " + r.Node)
		}
	}
	return b.String()
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

// shown are the checks whose answer stands in the table; all are in the details.
var shown = []struct{ check, question string }{{"primary", "Takes writes?"}, {"replica", "Serves reads?"}}

// answers are what all checks answer for a node.
type answers struct {
	Shown   []checkCell
	Rows    []answerRow
	Passing string
}

// answers renders what every check answers: in the details sorted by the answer,
// because a dozen names share a few.
func (s *Renderer) answers(row *nodeRow, v *cluster.View, m *cluster.Member, now time.Time) {
	var all answers
	var key strings.Builder
	for i := range plainChecks {
		c := &plainChecks[i]
		verdict := m.Verdict(c, now)
		if verdict.Passes() {
			all.Passing += ", " + c.Name
		}
		at := slices.IndexFunc(all.Rows, func(a answerRow) bool { return a.Outcome == verdict.Outcome && a.Reason == verdict.Reason })
		if at < 0 {
			at = len(all.Rows)
			all.Rows = append(all.Rows, answerRow{Word: yesNo(verdict), Outcome: verdict.Outcome, Reason: verdict.Reason})
			key.WriteString(verdict.Reason)
		} else {
			all.Rows[at].Checks += ", "
		}
		all.Rows[at].Checks += c.Name
		key.Write([]byte{0, byte(at), byte(verdict.Outcome)})
		for _, sh := range shown {
			if sh.check != c.Name {
				continue
			}
			cell := checkCell{sh.check, sh.question, yesNo(verdict), verdict.Reason, verdict.Outcome, ""}
			if s.cfg.AgentLine != nil {
				line := s.cfg.AgentLine(nil, cluster.Answer{View: v, Member: m, Check: *c, Verdict: verdict, At: now})
				cell.Agent = string(bytes.TrimSuffix(line, []byte("\n")))
			}
			key.WriteString(cell.Agent)
			all.Shown = append(all.Shown, cell)
		}
	}
	all.Passing = cmp.Or(strings.TrimPrefix(all.Passing, ", "), "none")
	row.Cells, row.Details = row.once("cells", key.String(), &all), row.once("details", key.String(), &all)
}

// plainChecks is every check by every name it has.
var plainChecks = func() []node.Check {
	var checks []node.Check
	for _, name := range node.CheckNames() {
		c, err := node.ParseCheck(name, "")
		if err != nil {
			panic(err) // its own names parse
		}
		checks = append(checks, c)
	}
	return checks
}()

func yesNo(v node.Verdict) string {
	if v.Passes() {
		return "yes"
	}
	return "no"
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

// printable makes one line, and not a long one, of what nodes say.
func printable(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
