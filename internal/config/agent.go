package config

// Agent is [agent]: the port for HAProxy's agent-check of all nodes and checks.
type Agent struct {
	// Listen ("listen") is a host:port or :port. Default "": no shared port.
	Listen string
}

func (a *Agent) read(t *table) {
	t.listenAddress("listen", &a.Listen)
	t.rejectUnknown()
}
