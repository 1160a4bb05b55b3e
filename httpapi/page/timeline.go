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

// timeline says which node was primary when, as a picture and in words.
type timeline struct {
	SVG       template.HTML
	Summary   string     // one sentence
	Intervals []interval // the newest first, at most maxIntervals
	More      int        // older ones that are left out
}

// maxIntervals is how many intervals a timeline lists at most. A cluster that flaps all
// night has thousands.
const maxIntervals = 100

// interval is a time during which one node was primary, or none, or the supervisor does
// not know.
type interval struct {
	Kind     string // one of those below; a split overlaps other intervals
	Node     string // the primary
	From, To time.Time
	AtLeast  bool   // it may have begun before From, or ended after To
	Open     bool   // it has not ended
	Reason   string // why it began; "" = unknown
}

// The kinds of an interval.
const (
	wasPrimary = "primary" // a node passed the check primary
	wasNone    = "none"    // no node did
	wasUnknown = "unknown" // the supervisor did not run, or its changes are no longer kept
	wasSplit   = "split"   // several nodes that answered claimed to be primary
)

// Length returns how long the interval was, in words.
func (i interval) Length() string {
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

// timelineOf makes the timeline of a cluster between from and now. changes are all kept
// changes, of all clusters, as [cluster.Supervisor.After] returns them: where an id is
// missing, the supervisor did not run. They have to be read before v, so that v is newer.
func timelineOf(changes []cluster.Change, v *cluster.View, from, now time.Time) timeline {
	b := intervalBuilder{now: now, cur: interval{Kind: wasUnknown}}
	for i := range changes {
		b.add(&changes[i], v.Cluster)
	}
	b.finish(v)
	var all []interval
	for _, i := range append(append(b.done, b.cur), b.splits...) {
		if i.To.After(from) {
			if i.From.IsZero() {
				i.From = from
			}
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b interval) int { return a.From.Compare(b.From) })
	out := timeline{Summary: summary(all, v.Cluster, from, now)}
	out.SVG = drawTimeline(all, v, out.Summary, from, now)
	slices.Reverse(all)
	out.More = max(0, len(all)-maxIntervals)
	out.Intervals = all[:len(all)-out.More]
	return out
}

// intervalBuilder makes intervals from changes.
type intervalBuilder struct {
	now    time.Time
	done   []interval
	cur    interval // has not ended; its From is zero before the first kept change
	splits []interval

	id    uint64    // of the latest change
	at    time.Time // of the latest change
	begun time.Time // the time of the first kept change of the same run of the supervisor
	known bool      // that run recorded a change of the primary
}

// add adds the next change. Changes of other clusters show that the supervisor ran.
func (b *intervalBuilder) add(c *cluster.Change, name string) {
	at := c.At
	if at.Before(b.at) {
		at = b.at // the clock was set back
	}
	if at.After(b.now) {
		at = b.now
	}
	// Ids grow by one; the first id of a run is made from the time.
	if c.ID != b.id+1 {
		b.unknown()
		b.begun, b.known = at, false
	}
	if c.Cluster == name {
		switch c.Kind {
		case cluster.KindPrimary:
			b.primary(c, at)
		case cluster.KindSplit:
			b.split(c.After == "yes", at, c.Reason)
		case cluster.KindWatching:
			b.at = at
			b.unknown()
			b.begun, b.known = at, false
		}
	}
	b.id, b.at = c.ID, at
}

// primary adds a change of the primary.
func (b *intervalBuilder) primary(c *cluster.Change, at time.Time) {
	none, gap := c.Before == "none", time.Duration(c.Gap*float64(time.Second))
	switch {
	case !b.known && !none: // that has been so since the run's first kept change
		b.begin(interval{Kind: wasPrimary, Node: c.Before, From: b.begun, AtLeast: true})
	case !b.known && c.Gap > 0:
		b.begin(interval{Kind: wasNone, From: at.Add(-gap)})
	case b.known && gap > at.Sub(b.cur.From) && b.cur.Kind == wasNone: // the clock was set back meanwhile
		at = b.cur.From.Add(gap)
	case b.known && (none != (b.cur.Kind == wasNone) || !none && c.Before != b.cur.Node || none && c.Gap == 0 && at.Sub(b.cur.From) > time.Millisecond):
		b.unknown() // another run began, with consecutive ids as the clock had been set back
	}
	next := interval{Kind: wasPrimary, Node: c.After, From: at, Reason: c.Reason}
	if c.After == "none" {
		next.Kind, next.Node = wasNone, ""
	}
	b.begin(next)
	b.known = true
}

// split begins or ends a split brain.
func (b *intervalBuilder) split(begins bool, at time.Time, why string) {
	n := len(b.splits)
	open := n > 0 && b.splits[n-1].Open
	switch {
	case begins && !open:
		b.splits = append(b.splits, interval{Kind: wasSplit, From: at, To: at, Open: true, Reason: why})
	case !begins && open:
		b.splits[n-1].To, b.splits[n-1].Open = at, false
	}
}

// unknown ends what is known at the latest change.
func (b *intervalBuilder) unknown() {
	if n := len(b.splits); n > 0 && b.splits[n-1].Open {
		b.splits[n-1].To, b.splits[n-1].Open, b.splits[n-1].AtLeast = b.at, false, true
	}
	if b.cur.Kind != wasUnknown {
		b.cur.AtLeast = true
		b.begin(interval{Kind: wasUnknown, From: b.at})
	}
}

// begin begins the next interval, and ends the current one there.
func (b *intervalBuilder) begin(next interval) {
	if next.From.Before(b.cur.From) {
		next.From = b.cur.From
	}
	if b.cur.To = next.From; b.cur.To.After(b.cur.From) || b.cur.AtLeast {
		b.done = append(b.done, b.cur)
	}
	b.cur = next
}

// finish continues until now from the view, which may be newer than all changes.
func (b *intervalBuilder) finish(v *cluster.View) {
	name := passesPrimary(v, v.At)
	switch {
	case name != "":
		m := v.Member(name)
		if b.cur.Kind != wasPrimary || b.cur.Node != name {
			since := v.At
			if !b.known { // since it claims, as far as this run's changes are kept
				since = m.Since
				if since.Before(b.begun) {
					since = b.begun
				}
			}
			b.begin(interval{Kind: wasPrimary, Node: name, From: since, AtLeast: !b.known})
		}
		if passesPrimary(v, b.now) == "" {
			b.begin(interval{Kind: wasNone, From: m.Entry.Began.Add(m.Entry.TTL), Reason: m.Verdict(&leaderCheck, b.now).Reason})
		}
	case v.PrimaryLost.IsZero(): // no primary since the start
		b.unknown()
	case b.cur.Kind != wasNone:
		b.begin(interval{Kind: wasNone, From: v.PrimaryLost})
	}
	b.split(v.Split, v.At, v.Why)
	if n := len(b.splits); n > 0 && b.splits[n-1].Open {
		b.splits[n-1].To = b.now
	}
	b.cur.To, b.cur.Open = b.now, true
}

var leaderCheck = node.PlainCheck(node.AskLeader)

// passesPrimary returns the node that is primary, or leads a standby cluster; "" = none.
func passesPrimary(v *cluster.View, at time.Time) string {
	if has, _ := v.HasPrimary(at); has {
		return v.Leader
	}
	return ""
}

// summary says in one sentence what the picture shows.
func summary(all []interval, name string, from, now time.Time) string {
	var changes, gaps, splits int
	var longest, without, unknown time.Duration
	present := "not known who is"
	var last string // the primary before
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
