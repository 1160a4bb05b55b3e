package harness

import (
	"fmt"
	"strings"
	"testing"

	"patroniglue/node/nodetest"
)

// FastPolls is the [backend] table that keeps tests short.
const FastPolls = "[backend]\ninterval = '200ms'\nprimary-interval = '100ms'\nfast-interval = '50ms'\n"

// AnyPort is lines of [frontend] that let the kernel choose the port.
const AnyPort = "host = '127.0.0.1'\nport = 0\n"

// NodeTables is the [[node]] tables of a simulated cluster, each with more keys.
func NodeTables(c *nodetest.Cluster, more string) string {
	var b strings.Builder
	for i, n := range c.Nodes() {
		fmt.Fprintf(&b, "[[node]]\nname = '%s'\ncluster = 'main'\nurl = '%s'\npostgres = '10.0.0.%d:5432'\n%s\n", n.Name(), n.URL(), 11+i, more)
	}
	return b.String()
}

// NewSimulated starts a cluster of simulated members, the first of which leads. A port
// stays a member's while the member is down.
func NewSimulated(t *testing.T, names ...string) *nodetest.Cluster {
	c := nodetest.Options{Addr: func(string) string { return FreePort(t) }}.NewCluster("main", names...)
	t.Cleanup(c.Close)
	return c
}
