package page

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// Timeline is who passed primary when: a picture, and the same in words.
type Timeline struct {
	SVG       template.HTML
	Summary   string     // one sentence
	Intervals []Interval // the newest first, at most maxIntervals
	More      int        // older ones that are left out
}

// maxIntervals bounds the list: a cluster that flaps all night has thousands.
const maxIntervals = 100

// Interval is for how long one node was primary, or none, or nobody knows.
type Interval struct {
	Kind     string // "primary", "none", "unknown", or "split", which is beside the others
	Node     string // of a primary
	From, To time.Time
	AtLeast  bool   // it may have begun before From, or ended after To
	Open     bool   // it goes on
	Reason   string // why it began; "" when that is not told
}

// The kinds of an [Interval].
const (
	wasPrimary = "primary" // a node passed the check primary
	wasNone    = "none"    // nobody did
	wasUnknown = "unknown" // nobody watched, or what was seen is not kept
	wasSplit   = "split"   // several nodes claimed and answered
)

// Length is how long it was, in words.
func (i Interval) Length() string {
	text := inWords(i.To.Sub(i.From))
	if i.AtLeast {
		if i.To.Equal(i.From) {
			return "length unknown"
		}
		text = "at least " + text
	}
	if i.Open {
		text += " so far"
	}
	return text
}

// primaryTimeline tells and draws who passed primary between from and now.
// changes are all that are kept, of all clusters, as [cluster.Supervisor.After]
// gives them: where an id is missing, the supervisor did not run. They are to be
// asked for before v is, which is then the newer.
func primaryTimeline(changes []cluster.Change, v *cluster.View, from, now time.Time) Timeline {
	t := teller{now: now, cur: Interval{Kind: wasUnknown}}
	for i := range changes {
		t.hear(&changes[i], v.Cluster)
	}
	t.present(v)
	var all []Interval
	for _, i := range append(append(t.done, t.cur), t.splits...) {
		if i.To.After(from) {
			if i.From.IsZero() {
				i.From = from
			}
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b Interval) int { return a.From.Compare(b.From) })
	out := Timeline{Summary: summary(all, v.Cluster, from, now)}
	out.SVG = drawTimeline(all, v, out.Summary, from, now)
	slices.Reverse(all)
	out.More = max(0, len(all)-maxIntervals)
	out.Intervals = all[:len(all)-out.More]
	return out
}

// teller makes intervals from changes.
type teller struct {
	now    time.Time
	done   []Interval
	cur    Interval // goes on; its From is zero before all that is kept
	splits []Interval

	id    uint64    // of the latest change
	at    time.Time // when that was
	begun time.Time // the first change that is kept of the run that it is of
	told  bool      // that run told of a primary
}

// hear takes in the next change. Those of other clusters tell that the
// supervisor ran.
func (t *teller) hear(c *cluster.Change, name string) {
	at := c.At
	if at.Before(t.at) {
		at = t.at // the clock was set back
	}
	if at.After(t.now) {
		at = t.now
	}
	// Ids grow by one, but a new run begins with the time.
	if c.ID != t.id+1 {
		t.lost()
		t.begun, t.told = at, false
	}
	if c.Cluster == name {
		switch c.Kind {
		case cluster.KindPrimary:
			t.primary(c, at)
		case cluster.KindSplit:
			t.split(c.After == "yes", at, c.Reason)
		case cluster.KindWatching:
			t.at = at
			t.lost()
			t.begun, t.told = at, false
		}
	}
	t.id, t.at = c.ID, at
}

func (t *teller) primary(c *cluster.Change, at time.Time) {
	none, gap := c.Before == "none", time.Duration(c.Gap*float64(time.Second))
	switch {
	case !t.told && !none: // it was so since that run's first change that is kept
		t.turn(Interval{Kind: wasPrimary, Node: c.Before, From: t.begun, AtLeast: true})
	case !t.told && c.Gap > 0:
		t.turn(Interval{Kind: wasNone, From: at.Add(-gap)})
	case t.told && gap > at.Sub(t.cur.From) && t.cur.Kind == wasNone: // the clock was set back meanwhile
		at = t.cur.From.Add(gap)
	case t.told && (none != (t.cur.Kind == wasNone) || !none && c.Before != t.cur.Node || none && c.Gap == 0 && at.Sub(t.cur.From) > time.Millisecond):
		t.lost() // a run began whose ids go on, as the clock had been set back
	}
	next := Interval{Kind: wasPrimary, Node: c.After, From: at, Reason: c.Reason}
	if c.After == "none" {
		next.Kind, next.Node = wasNone, ""
	}
	t.turn(next)
	t.told = true
}

// split notes when nodes begin and end to claim at once.
func (t *teller) split(is bool, at time.Time, why string) {
	n := len(t.splits)
	open := n > 0 && t.splits[n-1].Open
	switch {
	case is && !open:
		t.splits = append(t.splits, Interval{Kind: wasSplit, From: at, To: at, Open: true, Reason: why})
	case !is && open:
		t.splits[n-1].To, t.splits[n-1].Open = at, false
	}
}

// lost: nobody knows how it went on after the latest change.
func (t *teller) lost() {
	if n := len(t.splits); n > 0 && t.splits[n-1].Open {
		t.splits[n-1].To, t.splits[n-1].Open, t.splits[n-1].AtLeast = t.at, false, true
	}
	if t.cur.Kind != wasUnknown {
		t.cur.AtLeast = true
		t.turn(Interval{Kind: wasUnknown, From: t.at})
	}
}

// turn ends the current interval where the next begins.
func (t *teller) turn(next Interval) {
	if next.From.Before(t.cur.From) {
		next.From = t.cur.From
	}
	if t.cur.To = next.From; t.cur.To.After(t.cur.From) || t.cur.AtLeast {
		t.done = append(t.done, t.cur)
	}
	t.cur = next
}

// present goes on to now with what the view tells, which may be newer than all
// changes.
func (t *teller) present(v *cluster.View) {
	is := passesPrimary(v, v.At)
	switch {
	case is != "":
		m := v.Member(is)
		if t.cur.Kind != wasPrimary || t.cur.Node != is {
			since := v.At
			if !t.told { // so for as long as this run's changes are kept, and it claims
				since = m.Since
				if since.Before(t.begun) {
					since = t.begun
				}
			}
			t.turn(Interval{Kind: wasPrimary, Node: is, From: since, AtLeast: !t.told})
		}
		if passesPrimary(v, t.now) == "" {
			t.turn(Interval{Kind: wasNone, From: m.Entry.Began.Add(m.Entry.TTL), Reason: m.Verdict(&leaderCheck, t.now).Reason})
		}
	case v.PrimaryLost.IsZero(): // none since the start
		t.lost()
	case t.cur.Kind != wasNone:
		t.turn(Interval{Kind: wasNone, From: v.PrimaryLost})
	}
	t.split(v.Split, v.At, v.Why)
	if n := len(t.splits); n > 0 && t.splits[n-1].Open {
		t.splits[n-1].To = t.now
	}
	t.cur.To, t.cur.Open = t.now, true
}

var leaderCheck = node.PlainCheck(node.AskLeader)

// passesPrimary gives who is primary, or leads a standby cluster; "" when nobody does.
func passesPrimary(v *cluster.View, at time.Time) string {
	if has, _ := v.HasPrimary(at); has {
		return v.Leader
	}
	return ""
}

// summary is what the picture shows, in words.
func summary(all []Interval, name string, from, now time.Time) string {
	var changes, gaps, splits int
	var longest, without, unknown time.Duration
	present := "not known who is"
	var last string // who was primary before
	for _, i := range all {
		within := i.To.Sub(later(i.From, from))
		switch i.Kind {
		case wasPrimary:
			if last != "" && last != i.Node {
				changes++
			}
			last = i.Node
		case wasNone:
			gaps++
			longest, without = max(longest, i.To.Sub(i.From)), without+within
		case wasUnknown:
			unknown += within
		case wasSplit:
			splits++
		}
		if i.Open && i.Kind != wasSplit {
			switch i.Kind {
			case wasPrimary:
				present = "now " + i.Node + ", for " + i.Length()
			case wasNone:
				present = "now none, for " + i.Length()
			}
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "Primary of %s in the last %s: %s; %s", name, inWords(now.Sub(from)), present, count(changes, "change"))
	switch {
	case gaps == 1:
		fmt.Fprintf(&s, "; %s without a primary", inWords(longest))
	case gaps > 1:
		fmt.Fprintf(&s, "; %d times without a primary, longest %s, together %s", gaps, inWords(longest), inWords(without))
	}
	if unknown > 0 {
		fmt.Fprintf(&s, "; not watched for %s", inWords(unknown))
	}
	if splits > 0 {
		fmt.Fprintf(&s, "; %s", count(splits, "split brain"))
	}
	return s.String()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
