package metrics

import (
	"time"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/discovery"
	"patroniglue/httpapi"
)

// sources is where a scrape reads what the rest of the program knows.
type Sources struct {
	Views        func() []*cluster.View
	Http         *httpapi.Server
	Agents       *agentapi.Server
	Certificates func() []httpapi.Certificate // of our own
	Reloads      func() ReloadState
	Discovery    func() *DiscoveryState // gives nil while nothing is discovered
	Version      string
}

// reloadState is the outcome of configuration reloads.
type ReloadState struct {
	Successful        bool      // the latest one, and the files that the configuration names
	At                time.Time // of the latest success, at first of the start
	Succeeded, Failed uint64
}

// discoveryState is what discovery knows.
type DiscoveryState struct {
	Status   discovery.Status
	Listed   int // members
	Unlisted int
	Problems int // that are of no node
}
