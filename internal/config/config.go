package config

import (
	"crypto/tls"
	"time"
)

// Config is a configuration file after every default, rule and merge: what is here is
// valid and needs no more interpretation. Nothing changes it after Load; a reload
// loads another one.
//
// In the TOML file a duration is a string ("250ms") or a number of seconds, and
// a size is a string ("100MB") or a number of bytes. Paths are as the process
// sees them: relative ones start at its working directory.
type Config struct {
	Frontend  Frontend  // [frontend]
	Operator  Operator  // [operator]
	Backend   Backend   // [backend]: the defaults of all nodes; each node's own values are in Nodes
	Cache     Cache     // [cache]
	Checks    Checks    // [checks]
	Agent     Agent     // [agent]
	History   History   // [history]
	Limits    Limits    // [limits]
	Discovery Discovery // [discovery]
	Nodes     []Node    // every [[node]], in the file's order; at least one unless Discovery is on

	// Legacy says that the file was the YAML of patroniglue 1.x.
	Legacy bool

	// Notes are remarks about the file that are no errors, such as a key that no
	// longer has an effect. They are logged at start and after a reload.
	Notes []string

	// Text is the file as it was read. Files are the contents of the files that it
	// names, by path: certificates and secrets are used as they were checked.
	Text  []byte
	Files map[string][]byte
}

// Default returns what an empty file gives. It lacks only nodes.
func Default() *Config {
	return &Config{
		Frontend: Frontend{Host: "localhost", Port: 8009, TLSMinVersion: tls.VersionTLS12, FastChecks: true},
		Backend: Backend{
			Scheme:          "http",
			Verify:          "full",
			Interval:        time.Second,
			PrimaryInterval: 250 * time.Millisecond,
			FastInterval:    100 * time.Millisecond,
			Timeout:         3 * time.Second,
			Fall:            3,
		},
		Cache:     Cache{TTL: 5 * time.Second},
		Checks:    Checks{Primary: "writable", LagHold: 10 * time.Second, SameTimeline: true},
		History:   History{Size: 10_000},
		Limits:    Limits{HTTPConnections: 4096, AgentConnections: 4096, EventStreams: 256},
		Discovery: Discovery{Namespaces: []string{"/service/"}},
	}
}
