package config

// Limits is [limits]: how many connections may be open at once. Other bounds, such as
// those of time and of size, are fixed.
type Limits struct {
	// HTTPConnections ("http-connections") is how many HTTP connections may be open at
	// once. Beyond it, a new one replaces the one that has neither been opened nor
	// answered for the longest time. Default 4096.
	HTTPConnections int

	// AgentConnections ("agent-connections") is the same for all agent ports together.
	// Default 4096.
	AgentConnections int

	// EventStreams ("event-streams") is how many of the HTTP connections may be
	// streams of events, such as open status pages; one more gets a 503.
	// Default 256.
	EventStreams int
}

// MinConnections is the lowest limit of connections: it leaves room for the checks of
// one node by some load balancers.
const MinConnections = 16

func (l *Limits) read(t *table) {
	t.integer("http-connections", &l.HTTPConnections, MinConnections, 1_000_000)
	t.integer("agent-connections", &l.AgentConnections, MinConnections, 1_000_000)
	t.integer("event-streams", &l.EventStreams, 1, 1_000_000)
	t.rejectUnknown()
}
