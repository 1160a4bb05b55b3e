package config

// limitsConfig bounds what clients may cost. What else does is the same for all.
type Limits struct {
	// HTTPConnections ("http-connections") is how many HTTP connections may be
	// open at once; for one more the one gives way that was neither opened nor
	// answered for longest. Default 4096.
	HTTPConnections int

	// AgentConnections ("agent-connections") is the same of all agent ports
	// together. Default 4096.
	AgentConnections int

	// EventStreams ("event-streams") is how many of the HTTP connections may be
	// streams of events, such as open status pages; one more gets a 503. Default 256.
	EventStreams int
}

// MinConnections leave room for the checks of one node by some load balancers.
const MinConnections = 16

func (l *Limits) read(t *table) {
	t.integer("http-connections", &l.HTTPConnections, MinConnections, 1_000_000)
	t.integer("agent-connections", &l.AgentConnections, MinConnections, 1_000_000)
	t.integer("event-streams", &l.EventStreams, 1, 1_000_000)
	t.rejectUnknown()
}
