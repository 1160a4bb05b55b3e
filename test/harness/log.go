package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Log takes what a program writes and finds the JSON lines in it. The zero value is
// ready; many goroutines may use it at once.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// after is a copy without the first n bytes.
func (l *Log) after(n int) *Log {
	rest := new(Log)
	rest.text.WriteString(l.String()[n:])
	return rest
}

// Lines returns the JSON lines that have all of the fields, which are given as key,
// value, key, value.
func (l *Log) Lines(fields ...string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		var got map[string]any
		if json.Unmarshal([]byte(line), &got) != nil {
			continue // a line that is being written
		}
		all := true
		for f := range slices.Chunk(fields, 2) {
			all = all && fmt.Sprint(got[f[0]]) == f[1]
		}
		if all {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// Values returns one field of each of those lines.
func (l *Log) Values(field string, fields ...string) []string {
	var out []string
	for _, line := range l.Lines(fields...) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			panic(err) // Lines could read it
		}
		out = append(out, fmt.Sprint(got[field]))
	}
	return out
}

// Await waits until n lines have all of the fields, or more.
func (l *Log) Await(t testing.TB, n int, fields ...string) {
	t.Helper()
	Eventually(t, Soon, func() error {
		got := len(l.Lines(fields...))
		return Want(got >= n, "%d lines in the log with %q (got %d)", n, fields, got)
	})
}

// showIfFailed puts all that was written into the output of a test that failed.
func (l *Log) showIfFailed(t *testing.T) {
	t.Helper()
	if t.Failed() {
		t.Logf("the program's log:\n%s", l)
	}
}
