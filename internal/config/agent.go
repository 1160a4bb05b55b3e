package config

// agentConfig is the shared port of the agent protocol.
type Agent struct {
	// Listen ("listen") is a host:port or :port. Default "": no shared port.
	Listen string
}

func (a *Agent) read(t *table) {
	t.listenAddress("listen", &a.Listen)
	t.rejectUnknown()
}
