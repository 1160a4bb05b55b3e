package cluster

import (
	"fmt"
	"strings"
)

// UnknownError says that no cluster or node has the name, and which names exist.
type UnknownError struct {
	What, Name string   // What is "cluster" or "node"
	Valid      []string // all names that exist
	Pending    string   // why the name may become known later; "" = it will not
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

// AmbiguousError says that several clusters have a node of the name, so that the
// question must name the cluster, too.
type AmbiguousError struct {
	Node     string
	Clusters []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("node %q is in several clusters, name one of %s with it", e.Node, strings.Join(e.Clusters, ", "))
}
