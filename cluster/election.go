package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// claim is a node that claims to lead, as an election sees it.
type claim struct {
	name      string
	timeline  int64 // 0 = unknown, which loses to any other
	unlocked  bool  // its document says cluster_unlocked: it sees no leader key
	held      bool  // its latest answer was a 503 that is not believed yet: it counts only while no other node claims
	answering bool  // it answered a poll that began after the dispute did
	pending   bool  // such an answer may still come
}

// decision is the outcome of an election. winner is "" when no node leads.
type decision struct {
	winner  string
	judging bool   // claimants are being polled again; the winner is the one before
	split   bool   // several nodes claim and answer
	why     string // in words; "" with one claim or none
}

// elect finds the one leader among the claimants. It does not wait for a silent
// node, and whatever the nodes say, there is at most one winner.
func elect(claims []claim, incumbent string) decision {
	held := func(c claim) bool { return c.held }
	if slices.ContainsFunc(claims, held) { // rare, so that most elections, one for each poll, copy nothing
		if others := slices.DeleteFunc(slices.Clone(claims), held); len(others) > 0 {
			claims = others
		}
	}
	switch len(claims) {
	case 0:
		return decision{}
	case 1:
		return decision{winner: claims[0].name}
	}
	// In a clean switchover one of the claims is an old answer: poll again, then judge.
	undecided := decision{judging: true, why: "claims by " + names(claims) + ": asking again"}
	if slices.ContainsFunc(claims, func(c claim) bool { return c.name == incumbent }) {
		undecided.winner = incumbent
	}
	answering := slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return !c.answering })
	switch {
	case len(answering) == 0, slices.ContainsFunc(claims, func(c claim) bool { return c.pending }):
		return undecided
	case len(answering) == 1:
		return decision{winner: answering[0].name, why: fmt.Sprintf("claims by %s, of which only %s answers", names(claims), answering[0].name)}
	}
	return judgeSplit(answering, incumbent)
}

// judgeSplit decides between nodes that all claim and all answer. In a paused
// cluster without a DCS Patroni lets every running primary claim (api.py:346).
func judgeSplit(claims []claim, incumbent string) decision {
	d := decision{split: true}
	locked := slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return c.unlocked })
	if len(locked) > 0 {
		d.winner = highest(locked)
		switch {
		case len(locked) == 1:
			d.why = d.winner + " alone sees the cluster locked"
		case d.winner != "":
			d.why = d.winner + " has the highest timeline"
		default:
			d.why = "their timelines are equal"
		}
	} else if slices.ContainsFunc(claims, func(c claim) bool { return c.name == incumbent }) {
		d.winner, d.why = incumbent, "no claimant sees the cluster locked: "+incumbent+" stays"
	} else if d.winner = highest(claims); d.winner != "" {
		d.why = "no claimant sees the cluster locked: " + d.winner + " has the highest timeline"
	} else {
		d.why = "no claimant sees the cluster locked and their timelines are equal"
	}
	if d.winner == "" {
		d.why += ": no node is elected"
	}
	d.why = "claims by " + names(claims) + ": " + d.why
	return d
}

// highest returns the claimant with the highest timeline, "" if several have it.
func highest(claims []claim) string {
	best := claims[0]
	tie := false
	for _, c := range claims[1:] {
		switch {
		case c.timeline > best.timeline:
			best, tie = c, false
		case c.timeline == best.timeline:
			tie = true
		}
	}
	if tie {
		return ""
	}
	return best.name
}

func names(claims []claim) string {
	var s strings.Builder
	for i, c := range claims {
		if i > 0 {
			s.WriteString(" and ")
		}
		s.WriteString(fmt.Sprintf("%s (timeline %s)", c.name, timeline(c.timeline)))
	}
	return s.String()
}
