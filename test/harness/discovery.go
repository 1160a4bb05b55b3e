package harness

import (
	"testing"

	"patroniglue/discovery/discoverytest"
)

// Discovering is a configuration without any node.
func Discovering(t testing.TB, e *discoverytest.Etcd, more string) string {
	return "[frontend]\nhost = '127.0.0.1'\nport = " + PortOf(FreePort(t)) + "\n" + FastPolls + "[discovery]\netcd = ['" + e.URL + "']\n" + more + "\n"
}
