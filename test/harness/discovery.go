package harness

import (
	"strings"
	"testing"

	"patroniglue/discovery/discoverytest"
)

// DiscoveryConfig is a configuration whose nodes come from etcd alone. Members of a test are
// on this machine.
func DiscoveryConfig(t testing.TB, e *discoverytest.Etcd, more string) string {
	if !strings.Contains(more, "allow =") {
		more = "allow = ['127.0.0.0/8', '::1']\n" + more
	}
	return "[frontend]\nhost = '127.0.0.1'\nport = " + PortOf(FreePort(t)) + "\n" + FastPolls + "[discovery]\netcd = ['" + e.URL + "']\n" + more + "\n"
}
