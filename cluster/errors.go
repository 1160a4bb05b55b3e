package cluster

import (
	"fmt"
	"strings"
)

// UnknownError says that there is no such cluster or node, and which there are.
type UnknownError struct {
	What, Name string
	Valid      []string
	Pending    string // why it may be one that is not known yet; "" = there is none
}

// maxNamed bounds how many names an error lists.
const maxNamed = 20

func (e *UnknownError) Error() string {
	if e.Pending != "" {
		return fmt.Sprintf("%s %q is not known yet: %s", e.What, e.Name, e.Pending)
	}
	valid := e.Valid[:min(len(e.Valid), maxNamed)]
	text := fmt.Sprintf("unknown %s %q, want one of %s", e.What, e.Name, strings.Join(valid, ", "))
	if more := len(e.Valid) - len(valid); more > 0 {
		text += fmt.Sprintf(" or %d more", more)
	}
	return text
}

// AmbiguousError says that several clusters have a node of that name.
type AmbiguousError struct {
	Node     string
	Clusters []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("node %q is in several clusters, name one of %s with it", e.Node, strings.Join(e.Clusters, ", "))
}
