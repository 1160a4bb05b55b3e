package config

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// config is a configuration file after every default, rule and merge: what
// stands here is valid and needs no more interpretation. It is not changed
// after loadConfig; a reload makes a new one.
//
// In the TOML file a duration is a string ("250ms") or a number of seconds, and
// a size is a string ("100MB") or a number of bytes. Paths are as the process
// sees them: relative ones start at its working directory.
type Config struct {
	Frontend  Frontend  // [frontend]
	Operator  Operator  // [operator]
	Backend   Backend   // [backend]: what nodes start from; a node's own values are in Nodes
	Cache     Cache     // [cache]
	Checks    Checks    // [checks]
	Agent     Agent     // [agent]
	History   History   // [history]
	Limits    Limits    // [limits]
	Discovery Discovery // [discovery]
	Nodes     []Node    // every [[node]], at least one without discovery, in the file's order

	// Legacy says that the file was the YAML of patroniglue 1.x.
	Legacy bool

	// Notes are remarks about the file that are no errors, such as a key that has
	// no effect any more: for the log, at start and after a reload.
	Notes []string

	// Text is the file as it was read, and Files is what the files had that it names:
	// certificates and secrets are used as they were checked.
	Text  []byte
	Files map[string][]byte
}

// defaultConfig is a file that gives nothing; only its lack of nodes is wrong.
func Default() *Config {
	return &Config{
		Frontend: Frontend{Host: "localhost", Port: 8009, TLSMinVersion: tls.VersionTLS12, FastChecks: true},
		Backend: Backend{
			Scheme:          "http",
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

// parseConfig reads TOML. Files that it names are read with readFile.
func parseTOML(data []byte, readFile func(string) ([]byte, error)) (*Config, error) {
	// Not into the struct: the decoder stops at the first wrong type, and it would
	// take a plain 5 as 5 ns.
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, syntaxError(err, string(data))
	}

	r := &reader{readFile: readFile}
	top := &table{reader: r, values: values}
	c := Default()
	c.Frontend.read(top.table("frontend"))
	operator := top.table("operator")
	c.Operator.read(operator)
	c.Operator.complete(operator, &c.Frontend)
	backend := top.table("backend")
	c.Backend.read(backend)
	cache := top.table("cache")
	c.Cache.read(cache)
	c.Checks.read(top.table("checks"))
	c.Agent.read(top.table("agent"))
	c.History.read(top.table("history"))
	c.Limits.read(top.table("limits"))
	c.Discovery.read(top.table("discovery"))
	c.checkTTL(cache, backend)

	for _, t := range top.tables("node") {
		n := Node{Backend: c.Backend}
		n.read(t)
		if t.isValid("interval") && t.has("interval") && cache.isValid("ttl") && n.Interval >= c.Cache.TTL {
			t.reject("interval", "want less than cache.ttl, "+c.Cache.TTL.String())
		}
		c.Nodes = append(c.Nodes, n)
	}
	top.rejectUnknown()
	c.distinct(r)
	if len(c.Nodes) == 0 && top.isValid("node") && !c.Discovery.On() && !slices.ContainsFunc(r.mistakes, func(m mistake) bool { return strings.HasPrefix(m.path, "discovery") }) {
		r.addMistake("node", "want at least one [[node]], or [discovery] (got nothing)")
	}
	c.Notes = r.notes
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// outlive wants that a node does not get stale between two polls, and says so at
// the key that is given.
func (c *Config) checkTTL(cache, backend *table) {
	if !cache.isValid("ttl") || !backend.isValid("interval") || c.Cache.TTL > c.Backend.Interval {
		return
	}
	if backend.has("interval") && !cache.has("ttl") {
		backend.reject("interval", "want less than cache.ttl, "+c.Cache.TTL.String())
		return
	}
	cache.reject("ttl", "want more than backend.interval, "+c.Backend.Interval.String()+", or nodes are stale between two polls")
}
