package page

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// inWords writes a duration for people, in at most two units.
func inWords(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Millisecond) // a Change has seconds as a floating-point number
	}
	switch {
	case d < time.Millisecond:
		return strconv.FormatFloat(max(0, d.Seconds()*1000), 'f', 1, 64) + " ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(math.Trunc(d.Seconds()*10)/10, 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	}
	units := []struct {
		name string
		of   time.Duration
	}{{" d", 24 * time.Hour}, {" h", time.Hour}, {" min", time.Minute}, {" s", time.Second}}
	for i, u := range units[:3] {
		if d < u.of || d < 48*time.Hour && i == 0 { // "the last 24 h", not "the last 1 d"
			continue
		}
		text := strconv.Itoa(int(d/u.of)) + u.name
		if next := units[i+1]; d%u.of >= next.of {
			text += " " + strconv.Itoa(int(d%u.of/next.of)) + next.name
		}
		return text
	}
	return ""
}

// moment is a time as the page shows it.
type moment struct {
	Machine string // for <time datetime>
	Clock   string // 15:04:05, with the day unless it is today
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

// printable makes a text from a node fit to be shown: one line, and not a long one.
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

func count(n int, of string) string {
	if n != 1 {
		of += "s"
	}
	return strconv.Itoa(n) + " " + of
}
