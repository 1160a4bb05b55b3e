package httpapi

import (
	"iter"
	"sync/atomic"

	"patroniglue/node"
)

// served counts answered checks, with atomics because every check is counted here.
type served [node.Questions]struct{ passed, failed atomic.Uint64 }

func (s *served) count(q node.Question, passes bool) {
	if passes {
		s[q].passed.Add(1)
	} else {
		s[q].failed.Add(1)
	}
}

// Served is the number of answers to a check, of a node or of a whole cluster.
type Served struct {
	Check          string // by its main name: "master" counts as "primary"
	Passed, Failed uint64 // answers 200 and 503
}

// Served yields the counts of every check since the start. Questions without an answer
// (an unknown node, a malformed parameter) are not counted.
func (s *Server) Served() iter.Seq[Served] {
	return func(yield func(Served) bool) {
		for q := range s.served {
			c := &s.served[q]
			if !yield(Served{node.PlainCheck(node.Question(q)).Name, c.passed.Load(), c.failed.Load()}) {
				return
			}
		}
	}
}
