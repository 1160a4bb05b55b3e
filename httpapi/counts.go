package httpapi

import (
	"iter"
	"sync/atomic"

	"patroniglue/node"
)

// served counts answered checks: atomics, because every check passes here.
type served [node.Questions]struct{ passed, failed atomic.Uint64 }

func (s *served) count(q node.Question, passes bool) {
	if passes {
		s[q].passed.Add(1)
	} else {
		s[q].failed.Add(1)
	}
}

// Served is how often a check was answered, of a node or of a whole cluster.
type Served struct {
	Check          string // under its first name: "master" counts as "primary"
	Passed, Failed uint64 // answers 200 and 503
}

// Served yields every check's count since the start. What could not be answered
// (an unknown node, a malformed parameter) is not in it.
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
