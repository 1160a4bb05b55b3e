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

// checkCell is the answer to a check, as a cell of the table.
type checkCell struct {
	Check, Question, Word, Reason string
	Outcome                       node.Outcome
	Agent                         string
}

// answerRow is an answer with all the checks that give it, as a row of the details.
type answerRow struct {
	Checks, Word, Reason string
	Outcome              node.Outcome
}

// shown are the checks whose answers are in the table; the details have all.
var shown = []struct{ check, question string }{{"primary", "Takes writes?"}, {"replica", "Serves reads?"}}

// answers are the answers to all checks of a node.
type answers struct {
	Shown   []checkCell
	Rows    []answerRow
	Passing string
}

// answers renders the answers to all checks. The details are grouped by answer, as a
// dozen checks have only a few different ones.
func (r *Renderer) answers(row *nodeRow, v *cluster.View, m *cluster.Member, now time.Time) {
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
			if r.cfg.AgentLine != nil {
				line := r.cfg.AgentLine(nil, cluster.Answer{View: v, Member: m, Check: *c, Verdict: verdict, At: now})
				cell.Agent = string(bytes.TrimSuffix(line, []byte("\n")))
			}
			key.WriteString(cell.Agent)
			all.Shown = append(all.Shown, cell)
		}
	}
	all.Passing = cmp.Or(strings.TrimPrefix(all.Passing, ", "), "none")
	row.Cells, row.Details = row.renderOnce("cells", key.String(), &all), row.renderOnce("details", key.String(), &all)
}

// plainChecks are all checks, by all of their names, without parameters.
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
