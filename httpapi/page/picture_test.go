package page

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
)

// plain checks that an SVG is well-formed and has nothing that the page's policy forbids.
func plain(svg string) error {
	dec := xml.NewDecoder(strings.NewReader(svg))
	ids := map[string]bool{}
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch e.Name.Local {
		case "svg", "title", "path", "rect", "text", "g", "defs", "pattern":
		default:
			return fmt.Errorf("element %s", e.Name.Local)
		}
		for _, a := range e.Attr {
			switch {
			case a.Name.Local == "style", strings.HasPrefix(a.Name.Local, "on"), strings.HasSuffix(a.Name.Local, "href"):
				return fmt.Errorf("attribute %s of %s", a.Name.Local, e.Name.Local)
			case a.Name.Local == "id" && ids[a.Value]:
				return errors.New("id twice: " + a.Value)
			case a.Name.Local == "id":
				ids[a.Value] = true
			}
		}
	}
}

func TestTimelinePicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(26*time.Hour + 20*time.Minute) // it is 2000 in a bubble
		v, now := present(t, "pg2"), time.Now()
		got := timelineOf(at(t, now, "-7h none pg1", "split -2h no yes", "split -2h yes no", "other -90m none x", "restart -40m none pg1", "-30m pg1 none", "-29m55.8s none pg2"),
			v, now.Add(-5*time.Hour), now)
		if err := plain(string(got.SVG)); err != nil {
			t.Error(err)
		}
		const label = "Primary of main in the last 5 h: now pg2, for 29 min 55 s so far; 1 change; 4.2 s without a primary; not watched for 50 min; 1 split brain"
		want := strings.ReplaceAll(`<svg class="timeline" width="100%" height="106" role="img" aria-label="LABEL">
<title>LABEL</title>
<defs>
<pattern id="gap-main-300" width="6" height="6" patternUnits="userSpaceOnUse">
<path class="gap-hatch" d="M0 6L6 0M-1 1L1-1M5 7L7 5"/>
</pattern>
<pattern id="unknown-main-300" width="8" height="8" patternUnits="userSpaceOnUse">
<path class="unknown-hatch" d="M0 0L8 8M-1 7L1 9M7-1L9 1"/>
</pattern>
</defs>
<rect class="unknown" x="70%" y="18" width="16.6%" height="68" fill="url(#unknown-main-300)"/>
<g class="axis">
<rect y="86" width="100%" height="1"/>
<rect x="13.3%" y="18" width="1" height="72"/>
<rect x="33.3%" y="18" width="1" height="72"/>
<text x="33.3%" y="102" text-anchor="middle">23:00</text>
<rect x="53.3%" y="18" width="1" height="72"/>
<text x="53.3%" y="102" text-anchor="middle">2 Jan</text>
<rect x="73.3%" y="18" width="1" height="72"/>
<text x="73.3%" y="102" text-anchor="middle">01:00</text>
<rect x="93.3%" y="18" width="1" height="72"/>
<text y="102">UTC</text>
<text x="100%" y="102" text-anchor="end">now</text>
</g>
<svg y="36" width="100%" height="12" viewBox="0 0 1000 1" preserveAspectRatio="none">
<path class="series-0" d="M0 0H700v1H0zM866 0H900v1H866z"/>
</svg>
<svg y="70" width="100%" height="12" viewBox="0 0 1000 1" preserveAspectRatio="none">
<path class="series-1" d="M900 0H1000v1H900z"/>
</svg>
<rect class="gap" x="90%" y="18" width="0.1%" height="68" fill="url(#gap-main-300)"/>
<rect class="split" x="60%" y="18" width="0.1%" height="68"/>
<svg x="60%" y="18" overflow="visible">
<path class="split-mark" d="M-6-9H6L0 0z"/>
</svg>
<text class="name" y="32">pg1 · 3 h 40 min</text>
<text class="name" y="66">pg2 · 29 min 55 s</text>
<g class="narrow">
<text class="gap-label" x="90%" y="12" text-anchor="middle">4.2 s</text>
</g>
<g class="wide">
<text class="unknown-label" x="78.3%" y="12" text-anchor="middle">not watched</text>
<text class="gap-label" x="90%" y="12" text-anchor="middle">4.2 s</text>
</g>
</svg>`, "LABEL", label)
		if svg := strings.ReplaceAll(string(got.SVG), "><", ">\n<"); svg != want {
			t.Errorf("%s\nwant\n%s", svg, want)
		}
	})
}

// A history that is read back may have been written by anybody.
func TestTimelineEscapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, now := present(t, "pg1"), time.Now()
		got := timelineOf(at(t, now, `-5h <script>alert(1)</script> "onload="x`, `-2h "onload="x pg1 <b>`), v, now.Add(-24*time.Hour), now)
		if err := plain(string(got.SVG)); err != nil || strings.Contains(string(got.SVG), "<b>") {
			t.Errorf("%v in %s", err, got.SVG)
		}
	})
}

var (
	rects = regexp.MustCompile(`<rect class="(gap|unknown|split)" x="([0-9.]+)%" y="18" width="([0-9.]+)%"`)
	bars  = regexp.MustCompile(`<path class="series-\d" d="([^"]*)"`)
	bar   = regexp.MustCompile(`M(\d+) 0H(\d+)v1H(\d+)z`)
)

// Whatever happened, the picture covers all of its time and nothing else, shows every
// gap, and is bounded in size.
func TestTimelineProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		views := []*cluster.View{present(t, ""), present(t, "pg2")}
		now := time.Now()
		r := rand.New(rand.NewPCG(1, 2))
		for round := range 300 {
			window := time.Duration(1+r.IntN(48)) * time.Hour / 2
			var lines []string
			was, ago := "none", window+window/10
			for range r.IntN(1500 >> r.IntN(10)) {
				ago -= time.Duration(r.Int64N(int64(window) / int64(1+r.IntN(1000))))
				if ago < 0 {
					break
				}
				is := "none"
				if r.IntN(3) > 0 {
					is = fmt.Sprintf("pg%d", 1+r.IntN(1+r.IntN(12)))
				}
				switch r.IntN(20) {
				case 0:
					lines = append(lines, fmt.Sprintf("split -%s no yes", ago))
				case 1:
					lines = append(lines, fmt.Sprintf("split -%s yes no", ago))
				case 2:
					lines, was = append(lines, fmt.Sprintf("restart -%s none pg1", ago)), "pg1"
				default:
					if is != was {
						lines, was = append(lines, fmt.Sprintf("-%s %s %s", ago, was, is)), is
					}
				}
			}
			tl := timelineOf(at(t, now, lines...), views[round%2], now.Add(-window), now)
			if err := covers(tl, window, now); err != nil {
				t.Fatalf("round %d: %v\nof %d changes %q\n%s", round, err, len(lines), lines, tl.SVG)
			}
			if n := len(tl.SVG); n > 60_000 {
				t.Errorf("%d bytes for %d changes", n, len(lines))
			}
		}
	})
}

func covers(tl timeline, window time.Duration, now time.Time) error {
	svg := string(tl.SVG)
	if err := plain(svg); err != nil {
		return err
	}
	drawn := map[string]*[1001]bool{"gap": {}, "unknown": {}, "split": {}, "bar": {}}
	draw := func(kind string, from, to int) error {
		if from < 0 || to > 1000 || from >= to {
			return fmt.Errorf("%s from %d to %d", kind, from, to)
		}
		for x := from; x < to; x++ {
			drawn[kind][x] = true
		}
		return nil
	}
	thousandths := func(s string) int {
		f, _ := strconv.ParseFloat(s, 64)
		return int(f*10 + 0.5)
	}
	for _, m := range rects.FindAllStringSubmatch(svg, -1) {
		if err := draw(m[1], thousandths(m[2]), thousandths(m[2])+thousandths(m[3])); err != nil {
			return err
		}
	}
	for _, path := range bars.FindAllStringSubmatch(svg, -1) {
		end := -1
		for _, m := range bar.FindAllStringSubmatch(path[1], -1) {
			from, _ := strconv.Atoi(m[1])
			to, _ := strconv.Atoi(m[2])
			if m[1] != m[3] || from <= end {
				return fmt.Errorf("bar %s after %d", m[0], end)
			}
			if err := draw("bar", from, to); err != nil {
				return err
			}
			end = to
		}
		if left := bar.ReplaceAllString(path[1], ""); left != "" || end < 0 {
			return fmt.Errorf("bars %q", path[1])
		}
	}
	for x := range 1000 {
		if !drawn["gap"][x] && !drawn["unknown"][x] && !drawn["bar"][x] {
			return fmt.Errorf("nothing is drawn at %d", x)
		}
	}
	for i, v := range tl.Intervals {
		if v.To.Before(v.From) || v.To.After(now) {
			return fmt.Errorf("interval %+v", v)
		}
		if i > 0 && v.From.After(tl.Intervals[i-1].From) {
			return fmt.Errorf("interval %+v after %+v", tl.Intervals[i-1], v)
		}
		kind := map[string]string{"none": "gap", "primary": "bar"}[v.Kind]
		if kind == "" {
			kind = v.Kind
		}
		moments := []time.Time{v.From}
		if d := v.To.Sub(v.From); d > window/100 {
			moments = append(moments, v.From.Add(d/2))
		}
		for _, m := range moments {
			x := int(1000 * float64(window-now.Sub(m)) / float64(window))
			if x = min(x, 999); x >= 0 && !drawn[kind][x] {
				return fmt.Errorf("interval %+v is not drawn at %d", v, x)
			}
		}
	}
	return nil
}

func BenchmarkTimeline(b *testing.B) {
	now := time.Now()
	v := &cluster.View{Cluster: "main"}
	var changes []cluster.Change
	for i := range 10000 {
		changes = append(changes, cluster.Change{ID: uint64(i + 1), At: now.Add(-time.Duration(10000-i) * 8 * time.Second), Cluster: "main", Kind: cluster.KindState})
		if i%100 == 0 {
			changes[i].Kind, changes[i].Before, changes[i].After = cluster.KindPrimary, fmt.Sprintf("pg%d", i/100%2), fmt.Sprintf("pg%d", (i/100+1)%2)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		timelineOf(changes, v, now.Add(-24*time.Hour), now)
	}
}
