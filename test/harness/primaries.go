package harness

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Sample is what everybody was told at a moment.
type Sample struct {
	at       time.Duration // since the beginning of the watch
	HTTP     []string      // nodes that pass primary, asked one after another
	Agent    []string      // nodes that are ready, likewise
	Replicas []string      // that pass replica, in one view
	two      string        // how two passed at once
	Err      error
}

func (s Sample) String() string { return fmt.Sprintf("after %v", s.at.Round(time.Millisecond)) }

// Watch asks every 50 ms who is primary.
func (e *Cluster) Watch(t *testing.T) *Recorder[Sample] {
	begun := time.Now()
	return Record(t, 1, 50*time.Millisecond, func() Sample {
		s := e.sample()
		s.at = time.Since(begun)
		return s
	})
}

func (e *Cluster) sample() (s Sample) {
	check := func(err error) { s.Err = errors.Join(s.Err, err) }
	pass := func(name string) bool {
		a, err := e.Ask(e.Lab.HTTP, "HEAD", "/node/"+name+"/primary")
		check(err)
		return a.Status == http.StatusOK
	}
	ready := func(name string) bool {
		line, err := e.AskAgent(name + "/primary")
		check(err)
		return strings.HasPrefix(line, "ready up")
	}
	// Two questions are two moments, and between them one primary may have given
	// way to another. But whoever passes again after another one passed, passed
	// at the same time.
	var order []string
	for _, n := range e.Lab.Nodes {
		if pass(n.Name) {
			s.HTTP, order = append(s.HTTP, n.Name), append(order, n.Name)
		}
	}
	for _, n := range e.Lab.Nodes {
		if ready(n.Name) {
			s.Agent, order = append(s.Agent, n.Name), append(order, n.Name)
		}
	}
	if len(order) > 0 && slices.ContainsFunc(order, func(name string) bool { return name != order[0] }) && (pass(order[0]) || ready(order[0])) {
		s.two = fmt.Sprintf("%v passed in this order, and then %s again", order, order[0])
	}
	together, err := e.Passing("primary")
	check(err)
	if len(together) > 1 {
		s.two += fmt.Sprintf(" %v pass in one view", together)
	}
	s.Replicas, err = e.Passing("replica")
	check(err)
	return s
}

// NeverTwo: at no moment two nodes were primary, and there always was an answer.
func NeverTwo(t *testing.T, samples []Sample) {
	t.Helper()
	if len(samples) < 10 {
		t.Errorf("%d samples, want at least 10", len(samples))
	}
	two, failed := 0, 0
	for _, s := range samples {
		if s.two != "" {
			if two++; two == 1 {
				t.Errorf("%s: two primaries: %s", s, s.two)
			}
		}
		if s.Err != nil {
			if failed++; failed == 1 {
				t.Errorf("%s: %v", s, s.Err)
			}
		}
	}
	if two > 1 || failed > 1 {
		t.Errorf("of %d samples %d show two primaries, %d an error", len(samples), two, failed)
	}
}

// Gap says for how long nobody was primary.
func Gap(samples []Sample) string {
	var first, last time.Duration
	none := 0
	for _, s := range samples {
		if len(s.HTTP) > 0 {
			continue
		}
		if none == 0 {
			first = s.at
		}
		last = s.at
		none++
	}
	return fmt.Sprintf("nobody primary in %d of %d samples, %v", none, len(samples), (last - first).Round(10*time.Millisecond))
}
