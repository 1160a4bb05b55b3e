package harness

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"patroniglue/cluster"
)

// Same compares changes as JSON tells them: a time that was read has no
// monotonic clock.
func Same(t *testing.T, got, want []cluster.Change) {
	t.Helper()
	g, w := AsJSON(t, got), AsJSON(t, want)
	if len(want) == 0 || !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", strings.Join(g, "\n     "), strings.Join(w, "\n     "))
	}
}

func AsJSON(t *testing.T, changes []cluster.Change) []string {
	t.Helper()
	var out []string
	for _, c := range changes {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

func LinesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
