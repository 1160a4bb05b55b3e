package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// headline says in one line which node is primary.
type headline struct {
	Strong, Text string
	Since        *moment
	About        string
	Lost         bool // there is no primary
}

// headlineOf makes a cluster's headline.
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
		return headline{Strong: "No primary here", About: "only one node is watched: another one may be it"}
	}
	h := headline{Strong: "No primary", About: "nobody can write", Lost: true}
	if !v.PrimaryLost.IsZero() {
		h.Since = momentAt(v.PrimaryLost, now)
	}
	return h
}

// announcementOf makes a text that screen readers read out whenever it changes. So it
// has no figures: it changes only when something happens.
func announcementOf(name string, h *headline, health cluster.Health) string {
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
