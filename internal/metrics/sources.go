package metrics

import (
	"time"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
)

// Sources are what a scrape reads. All of them are set. The functions are called at each
// scrape, by several goroutines at once.
type Sources struct {
	Views        func() []*cluster.View       // the present view of each cluster
	HTTP         *httpapi.Server              // for the counters of HTTP
	Agents       *agentapi.Server             // for the counters of agent checks
	Certificates func() []httpapi.Certificate // that this program shows to others
	Reloads      func() ReloadState
	Discovery    func() *DiscoveryState // returns nil while discovery is off
	Version      string                 // of this program
}

// ReloadState is the outcome of configuration reloads.
type ReloadState struct {
	Successful bool      // the configuration and the files that it names are in use as they were read last
	At         time.Time // of the latest success; before it, of the start
	Succeeded  uint64    // how many reloads succeeded since the start
	Failed     uint64    // how many did not
}

// DiscoveryState is what discovery knows.
type DiscoveryState struct {
	Status   discovery.Status // of the connection to etcd
	Listed   int              // members that etcd lists
	Unlisted int              // members that it no longer lists
	Problems int              // without those of members that are not polled
}
