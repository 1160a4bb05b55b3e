package cluster

import (
	"testing"
)

func TestElect(t *testing.T) {
	yes := func(name string, timeline int64) claim { return claim{name: name, timeline: timeline, answering: true} }
	pending := func(c claim) claim { c.answering, c.pending = false, true; return c }
	silent := func(c claim) claim { c.answering = false; return c }
	unlocked := func(c claim) claim { c.unlocked = true; return c }
	held := func(c claim) claim { c.held = true; return c }
	tests := []struct {
		name      string
		claims    []claim
		incumbent string
		want      decision
	}{
		{"nobody", nil, "a", decision{}},
		{"one", []claim{yes("a", 1)}, "", decision{winner: "a"}},
		{"one that is silent", []claim{silent(yes("a", 1))}, "a", decision{winner: "a"}},
		{"one whose 503 is not believed yet", []claim{held(yes("a", 1))}, "a", decision{winner: "a"}},
		{"another claims during the blip", []claim{held(yes("a", 9)), pending(yes("b", 1))}, "a", decision{winner: "b"}},
		{"both are being asked", []claim{pending(yes("a", 1)), pending(yes("b", 2))}, "a",
			decision{winner: "a", judging: true, why: "claims by a (timeline 1) and b (timeline 2): asking again"}},
		{"one is being asked", []claim{yes("a", 1), pending(yes("b", 2))}, "b",
			decision{winner: "b", judging: true, why: "claims by a (timeline 1) and b (timeline 2): asking again"}},
		{"both are being asked, nobody was it before", []claim{pending(yes("a", 1)), pending(yes("b", 2))}, "",
			decision{judging: true, why: "claims by a (timeline 1) and b (timeline 2): asking again"}},
		{"both are being asked, a third was it before", []claim{pending(yes("a", 1)), pending(yes("b", 2))}, "c",
			decision{judging: true, why: "claims by a (timeline 1) and b (timeline 2): asking again"}},
		{"neither answers", []claim{silent(yes("a", 1)), silent(yes("b", 2))}, "a",
			decision{winner: "a", judging: true, why: "claims by a (timeline 1) and b (timeline 2): asking again"}},
		{"only one answers", []claim{silent(yes("a", 5)), yes("b", 0)}, "a",
			decision{winner: "b", why: "claims by a (timeline 5) and b (timeline unknown), of which only b answers"}},
		{"the higher timeline", []claim{yes("a", 1), yes("b", 2)}, "a",
			decision{winner: "b", split: true, why: "claims by a (timeline 1) and b (timeline 2): b has the highest timeline"}},
		{"any timeline beats unknown", []claim{yes("a", 0), yes("b", 1)}, "a",
			decision{winner: "b", split: true, why: "claims by a (timeline unknown) and b (timeline 1): b has the highest timeline"}},
		{"equal timelines", []claim{yes("a", 2), yes("b", 2)}, "a",
			decision{split: true, why: "claims by a (timeline 2) and b (timeline 2): their timelines are equal: no node is elected"}},
		{"two of three are highest", []claim{yes("a", 3), yes("b", 2), yes("c", 3)}, "b",
			decision{split: true, why: "claims by a (timeline 3) and b (timeline 2) and c (timeline 3): their timelines are equal: no node is elected"}},
		{"one of three is highest", []claim{yes("a", 2), yes("b", 2), yes("c", 3)}, "a",
			decision{winner: "c", split: true, why: "claims by a (timeline 2) and b (timeline 2) and c (timeline 3): c has the highest timeline"}},
		{"locked beats unlocked", []claim{unlocked(yes("a", 9)), yes("b", 2)}, "a",
			decision{winner: "b", split: true, why: "claims by a (timeline 9) and b (timeline 2): b alone sees the cluster locked"}},
		{"two locked of three", []claim{unlocked(yes("a", 9)), yes("b", 2), yes("c", 1)}, "a",
			decision{winner: "b", split: true, why: "claims by a (timeline 9) and b (timeline 2) and c (timeline 1): b has the highest timeline"}},
		{"all unlocked: the incumbent", []claim{unlocked(yes("a", 1)), unlocked(yes("b", 2))}, "a",
			decision{winner: "a", split: true, why: "claims by a (timeline 1) and b (timeline 2): no claimant sees the cluster locked: a stays"}},
		{"all unlocked, no incumbent", []claim{unlocked(yes("a", 1)), unlocked(yes("b", 2))}, "c",
			decision{winner: "b", split: true, why: "claims by a (timeline 1) and b (timeline 2): no claimant sees the cluster locked: b has the highest timeline"}},
		{"all unlocked, no incumbent, equal", []claim{unlocked(yes("a", 2)), unlocked(yes("b", 2))}, "",
			decision{split: true, why: "claims by a (timeline 2) and b (timeline 2): no claimant sees the cluster locked and their timelines are equal: no node is elected"}},
		{"the silent one of three does not count", []claim{silent(yes("a", 9)), yes("b", 1), yes("c", 2)}, "a",
			decision{winner: "c", split: true, why: "claims by b (timeline 1) and c (timeline 2): c has the highest timeline"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := elect(test.claims, test.incumbent); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}
