package config

const (
	AgentChecks  Service = iota
	FrontendHTTP         // HTTP: checks, and all else where operators have no listener
	OperatorHTTP         // HTTP: all
)
