package harness

import (
	"testing"

	"patroniglue/discovery/discoverytest"
)

// DiscoveryConfig is a configuration whose nodes come from etcd alone.
func DiscoveryConfig(t testing.TB, e *discoverytest.Etcd, more string) string {
	return "[frontend]\nhost = '127.0.0.1'\nport = " + PortOf(FreePort(t)) + "\n" + FastPolls + "[discovery]\netcd = ['" + e.URL + "']\n" + more + "\n"
}
