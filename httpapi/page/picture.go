package page

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
)

// The pictures have no style attributes and no scripts, so that the page's
// Content-Security-Policy can forbid both. What they show is also said in words.

// A timeline's measures, in pixels. It is as wide as the page: horizontal positions are
// in thousandths of the width.
const (
	stripHeight  = 18 // above the lanes, for labels
	laneHeight   = 34 // a node's name, and its bars below
	barTop       = 18 // within a lane
	barHeight    = 12
	axisHeight   = 20
	sparseHeight = 4 // of the mark for many short gaps
	maxLanes     = 8
)

// fine and coarse are the widths of the smallest thing that is drawn, in thousandths.
// More than crowd intervals are drawn coarse: nobody could tell the difference, and it
// takes fewer bytes.
const (
	fine   = 1
	coarse = 4
	crowd  = 200
)

// drawing is a timeline that is being drawn.
type drawing struct {
	strings.Builder
	from, now time.Time
	quantum   int
	height    int // of strip and lanes
}

// drawTimeline draws a lane for each node that was primary, and across all lanes the
// times without a primary. all begins with the oldest interval.
func drawTimeline(all []interval, v *cluster.View, label string, from, now time.Time) template.HTML {
	d := drawing{from: from, now: now, quantum: fine}
	if len(all) > crowd {
		d.quantum = coarse
	}
	lanes := lanesOf(all, v, from)
	d.height = stripHeight + max(1, len(lanes))*laneHeight
	label = template.HTMLEscapeString(label)
	id := fmt.Sprintf("%s-%d", v.Cluster, int(now.Sub(from).Minutes())) // a page may have several timelines
	fmt.Fprintf(&d, `<svg class="timeline" width="100%%" height="%d" role="img" aria-label="%s"><title>%[2]s</title><defs>`, d.height+axisHeight, label)
	fmt.Fprintf(&d, `<pattern id="gap-%s" width="6" height="6" patternUnits="userSpaceOnUse"><path class="gap-hatch" d="M0 6L6 0M-1 1L1-1M5 7L7 5"/></pattern>`, id)
	fmt.Fprintf(&d, `<pattern id="unknown-%s" width="8" height="8" patternUnits="userSpaceOnUse"><path class="unknown-hatch" d="M0 0L8 8M-1 7L1 9M7-1L9 1"/></pattern></defs>`, id)
	d.columns(all, wasUnknown, "unknown", fmt.Sprintf(` fill="url(#unknown-%s)"`, id))
	d.axis()
	for i, l := range lanes {
		d.lane(l, stripHeight+i*laneHeight)
	}
	d.columns(all, wasNone, "gap", fmt.Sprintf(` fill="url(#gap-%s)"`, id))
	d.columns(all, wasSplit, "split", "")
	for i, l := range lanes {
		fmt.Fprintf(&d, `<text class="name" y="%d">%s</text>`, stripHeight+i*laneHeight+barTop-4, template.HTMLEscapeString(l.name+" \u00b7 "+inWords(l.total)))
	}
	d.labels(all)
	d.WriteString(`</svg>`)
	return template.HTML(d.String())
}

// lane is the part of the picture for one node.
type lane struct {
	name   string
	series int // its colour
	bars   []interval
	total  time.Duration // within the picture
}

// maxSeries is the number of colours. They repeat, as each lane also has a name.
const maxSeries = 6

// lanesOf returns a lane for each node that was primary, in the configuration's order.
// Nodes that are no longer in it come last. The last lane combines those beyond maxLanes.
func lanesOf(all []interval, v *cluster.View, from time.Time) []lane {
	var lanes []lane
	for _, i := range all {
		if i.Kind != wasPrimary {
			continue
		}
		at := slices.IndexFunc(lanes, func(l lane) bool { return l.name == i.Node })
		if at < 0 {
			at = len(lanes)
			lanes = append(lanes, lane{name: i.Node, series: len(v.Members)})
			if m := slices.IndexFunc(v.Members, func(m *cluster.Member) bool { return m.Name == i.Node }); m >= 0 {
				lanes[at].series = m
			}
		}
		lanes[at].bars = append(lanes[at].bars, i)
		lanes[at].total += i.To.Sub(later(i.From, from))
	}
	slices.SortStableFunc(lanes, func(a, b lane) int { return a.series - b.series })
	if len(lanes) > maxLanes {
		rest := lane{name: fmt.Sprintf("%d other nodes", len(lanes)-maxLanes+1), series: lanes[maxLanes-1].series}
		for _, l := range lanes[maxLanes-1:] {
			rest.bars = append(rest.bars, l.bars...)
			rest.total += l.total
		}
		slices.SortFunc(rest.bars, func(a, b interval) int { return a.From.Compare(b.From) })
		lanes = append(lanes[:maxLanes-1], rest)
	}
	return lanes
}

// at returns the position of a time, in thousandths.
func (d *drawing) at(t time.Time) int {
	x := int(1000 * float64(t.Sub(d.from)) / float64(d.now.Sub(d.from)))
	return min(max(0, x), 1000) / d.quantum * d.quantum
}

// span is where intervals that touch are drawn, in thousandths.
type span struct {
	from, to  int
	intervals []interval
}

// spans returns where the intervals are drawn: each at least a quantum wide, and those
// that touch as one.
func (d *drawing) spans(intervals []interval) []span {
	var out []span
	for i, v := range intervals {
		from := min(d.at(v.From), 1000-d.quantum)
		to := max(d.at(v.To), from+d.quantum)
		if n := len(out); n > 0 && from <= out[n-1].to {
			last := &out[n-1]
			last.to, last.intervals = max(last.to, to), last.intervals[:len(last.intervals)+1]
		} else {
			out = append(out, span{from, to, intervals[i : i+1]})
		}
	}
	return out
}

// sparse reports whether the intervals cover less than half of the span: many short gaps
// must not look like a long one.
func (s *span) sparse() bool {
	var sum time.Duration
	for _, i := range s.intervals {
		sum += i.To.Sub(i.From)
	}
	n := len(s.intervals)
	return n > 1 && sum < s.intervals[n-1].To.Sub(s.intervals[0].From)/2
}

// lane draws a node's bars. They are stretched to the page's width; texts are not.
func (d *drawing) lane(l lane, y int) {
	fmt.Fprintf(d, `<svg y="%d" width="100%%" height="%d" viewBox="0 0 1000 1" preserveAspectRatio="none"><path class="series-%d" d="`, y+barTop, barHeight, l.series%maxSeries)
	for _, s := range d.spans(l.bars) {
		fmt.Fprintf(d, "M%d 0H%dv1H%dz", s.from, s.to, s.from)
	}
	d.WriteString(`"/></svg>`)
}

// columns draws the intervals of a kind across all lanes, but many short ones only at
// the top of the first lane. The style gives columns an edge of two pixels, so that even
// the shortest is visible.
func (d *drawing) columns(all []interval, kind, class, pattern string) {
	for _, s := range d.spans(ofKind(all, kind)) {
		height := d.height - stripHeight
		if s.sparse() {
			height = sparseHeight
		}
		fmt.Fprintf(d, `<rect class="%s" x="%s" y="%d" width="%s" height="%d"%s/>`, class, percent(s.from), stripHeight, percent(s.to-s.from), height, pattern)
		if kind == wasSplit {
			fmt.Fprintf(d, `<svg x="%s" y="%d" overflow="visible"><path class="split-mark" d="M-6-9H6L0 0z"/></svg>`, percent((s.from+s.to)/2), stripHeight)
		}
	}
}

func ofKind(all []interval, kind string) []interval {
	return slices.DeleteFunc(slices.Clone(all), func(i interval) bool { return i.Kind != kind })
}

// percent writes thousandths as a percentage.
func percent(x int) string {
	text := strconv.Itoa(x / 10)
	if x%10 != 0 {
		text += "." + strconv.Itoa(x%10)
	}
	return text + "%"
}

// widths are the widths of pages for which labels are laid out. The style shows the ones
// that fit.
var widths = []struct {
	class  string
	pixels int
}{{"narrow", 320}, {"wide", 860}}

const charWidth = 7 // pixels, at most, on average, in the style's 12 px

// labels writes above the lanes how long gaps were, and which times were not watched.
func (d *drawing) labels(all []interval) {
	for _, w := range widths {
		fmt.Fprintf(d, `<g class="%s">`, w.class)
		for _, l := range d.layOut(all, w.pixels) {
			class := "gap-label"
			if l.gaps == 0 {
				class = "unknown-label"
			}
			fmt.Fprintf(d, `<text class="%s" x="%s" y="%d"%s>%s</text>`, class, percent(l.x), stripHeight-6, l.anchor, l.text)
		}
		d.WriteString(`</g>`)
	}
}

// layOut returns labels that do not overlap: those that would are joined.
func (d *drawing) layOut(all []interval, pixels int) []label {
	var out []label
	for _, i := range all {
		l := label{from: d.at(i.From), to: d.at(i.To)}
		switch i.Kind {
		case wasNone:
			l.gaps, l.longest, l.text = 1, i.To.Sub(i.From), i.Length()
		case wasUnknown:
			l.text = "not watched"
			if (l.to-l.from)*pixels/1000 < len(l.text)*charWidth {
				continue
			}
		default:
			continue
		}
		l.place(pixels)
		for n := len(out); n > 0 && out[n-1].right+10 > l.left; n-- {
			l = out[n-1].join(l)
			l.place(pixels)
			out = out[:n-1]
		}
		out = append(out, l)
	}
	return out
}

// label is the text for some gaps, or for a time that was not watched.
type label struct {
	from, to    int // the labelled time, in thousandths
	gaps        int // 0 = the time was not watched
	longest     time.Duration
	text        string
	x           int
	anchor      string
	left, right int
}

// join makes one label of two. Gaps are more important than times that were not watched.
func (l label) join(next label) label {
	switch {
	case next.gaps == 0:
		return l
	case l.gaps == 0:
		return next
	}
	l.to, l.gaps, l.longest = max(l.to, next.to), l.gaps+next.gaps, max(l.longest, next.longest)
	l.text = fmt.Sprintf("%d gaps, up to %s", l.gaps, inWords(l.longest))
	return l
}

// place puts the label above the middle of its time, within the picture.
func (l *label) place(pixels int) {
	width := len(l.text) * charWidth * 1000 / pixels
	l.x, l.anchor = (l.from+l.to)/2, ` text-anchor="middle"`
	l.left, l.right = l.x-width/2, l.x+width/2
	switch {
	case l.left < 0:
		l.x, l.anchor, l.left, l.right = 0, "", 0, width
	case l.right > 1000:
		l.x, l.anchor, l.left, l.right = 1000, ` text-anchor="end"`, 1000-width, 1000
	}
}

// ticks are the steps that an axis may have, from one tick to the next.
var ticks = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// axis draws at most five times of day, in UTC, and midnight as a date.
func (d *drawing) axis() {
	step := ticks[len(ticks)-1]
	for _, s := range slices.Backward(ticks) {
		if d.now.Sub(d.from) <= 5*s {
			step = s
		}
	}
	fmt.Fprintf(d, `<g class="axis"><rect y="%d" width="100%%" height="1"/>`, d.height)
	for t := d.from.UTC().Truncate(step).Add(step); t.Before(d.now); t = t.Add(step) {
		x := d.at(t)
		fmt.Fprintf(d, `<rect x="%s" y="%d" width="1" height="%d"/>`, percent(x), stripHeight, d.height-stripHeight+4)
		if x < 150 || x > 840 { // there it would overlap "UTC" or "now"
			continue
		}
		layout := "15:04"
		if t.Equal(t.Truncate(24 * time.Hour)) {
			layout = "2 Jan"
		}
		fmt.Fprintf(d, `<text x="%s" y="%d" text-anchor="middle">%s</text>`, percent(x), d.height+16, t.Format(layout))
	}
	fmt.Fprintf(d, `<text y="%d">UTC</text><text x="100%%" y="%[1]d" text-anchor="end">now</text></g>`, d.height+16)
}
