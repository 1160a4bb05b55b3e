package httpapi

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/cluster"
	"patroniglue/node"
)

// jsonKeys returns the keys of a struct in JSON.
func jsonKeys(v any) (keys []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			keys = append(keys, name)
		}
	}
	return keys
}

// Programs cannot rely on a field that is not explained, and break when one that is
// explained does not exist.
func TestEveryFieldIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections[title] = body
	}

	var buf bytes.Buffer
	appendAnswer(&buf, &cluster.Answer{View: new(cluster.View), Member: new(cluster.Member)})
	var check struct {
		Patroniglue map[string]any `json:"patroniglue"`
	}
	if err := json.Unmarshal(buf.Bytes(), &check); err != nil {
		t.Fatal(err)
	}
	answer := []string{"cluster", "nodes", "reasons"} // of a whole cluster
	for key := range check.Patroniglue {
		answer = append(answer, key)
	}
	for title, keys := range map[string][]string{
		"Codes":                cluster.Codes,
		"/health":              slices.Concat(jsonKeys(Health{}), jsonKeys(ClusterHealth{}), jsonKeys(cluster.Reason{})),
		"/node/{node}":         slices.Concat(jsonKeys(NodeState{}), jsonKeys(CheckVerdict{})),
		"/node/{node}/{check}": answer,
		"/cluster":             slices.Concat(jsonKeys(memberList{}), jsonKeys(patroniMember{})),
		"/history":             slices.Concat(jsonKeys(cluster.History{}), jsonKeys(cluster.Change{}), kinds),
		"/events":              {"change", "lost", "dropped"},
		"/node/{node}/leaving": jsonKeys(Leaving{}),
	} {
		var told []string // in the first column of a table
		for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(sections[title], -1) {
			for name := range strings.SplitSeq(row[1], ", ") {
				told = append(told, strings.Trim(name, "`"))
			}
		}
		if len(keys) == 0 || len(told) == 0 {
			t.Fatalf("%s: %d fields, %d documented", title, len(keys), len(told))
		}
		for _, key := range keys {
			if !slices.Contains(told, key) {
				t.Errorf("docs/api.md does not explain %q below %s", key, title)
			}
		}
		for _, name := range told {
			if !slices.Contains(keys, name) {
				t.Errorf("docs/api.md explains %q below %s, which there is not", name, title)
			}
		}
	}
	for outcome := node.Pass; outcome <= node.Fault; outcome++ {
		if !strings.Contains(sections["/node/{node}"], "`"+outcome.String()+"`") {
			t.Errorf("docs/api.md does not explain the outcome %q", outcome)
		}
	}

	_, example, _ := strings.Cut(sections["/health"], "```json\n")
	example, _, _ = strings.Cut(example, "```")
	var health Health
	dec := json.NewDecoder(strings.NewReader(example))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&health); err != nil || len(health.Clusters) != 1 || health.Clusters[0].Reasons[0].Code != cluster.CodeNodeDown {
		t.Errorf("the example of /health in docs/api.md: %v, %+v", err, health)
	}
	again, err := json.Marshal(health)
	var same bytes.Buffer
	if err != nil || json.Compact(&same, []byte(example)) != nil || same.String() != string(again) {
		t.Errorf("the example of /health in docs/api.md is %s (%v), it would be sent as %s", &same, err, again)
	}
}

// kinds are the kinds of changes.
var kinds = []string{
	cluster.KindLeader, cluster.KindPrimary, cluster.KindSplit, cluster.KindLevel, cluster.KindAnswering, cluster.KindKnown, cluster.KindRole,
	cluster.KindState, cluster.KindTimeline, cluster.KindIdentity, cluster.KindIdentityChanged, cluster.KindLeaving, cluster.KindUnlisted, cluster.KindReplica, cluster.KindSettings,
}
