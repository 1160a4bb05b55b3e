package page

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

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
