package harness

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"patroniglue/cluster"
)

// SameChanges fails the test if changes differ in their JSON: a time that was parsed has no
// monotonic clock.
func SameChanges(t *testing.T, got, want []cluster.Change) {
	t.Helper()
	g, w := ChangesAsJSON(t, got), ChangesAsJSON(t, want)
	if len(want) == 0 || !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", strings.Join(g, "\n     "), strings.Join(w, "\n     "))
	}
}

// ChangesAsJSON marshals each change.
func ChangesAsJSON(t *testing.T, changes []cluster.Change) []string {
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

// ReadLines returns the lines of a file, without their ends.
func ReadLines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
