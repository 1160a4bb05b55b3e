package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// programLog takes JSON lines.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Lines gives those that have all of the fields, as key, value, key, value.
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

// Values gives one field of those lines.
func (l *Log) Values(field string, fields ...string) []string {
	var out []string
	for _, line := range l.Lines(fields...) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			panic(err) // lines took it
		}
		out = append(out, fmt.Sprint(got[field]))
	}
	return out
}
