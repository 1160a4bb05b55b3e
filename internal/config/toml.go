package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// parseTOML reads a configuration file. It reads the files that the text names with
// readFile.
func parseTOML(text []byte, readFile func(string) ([]byte, error)) (*Config, error) {
	// Not into the struct: the decoder stops at the first wrong type, and it would
	// take a plain 5 as 5 ns.
	var values map[string]any
	if err := toml.Unmarshal(text, &values); err != nil {
		return nil, syntaxError(err, string(text))
	}

	r := &reader{readFile: readFile}
	top := &table{reader: r, values: values}
	c := Default()
	cache := c.readSections(top)
	c.readNodes(top.tables("node"), cache)
	top.rejectUnknown()
	c.checkNames(r)
	c.checkURLs(r)
	c.checkListenAddresses(r)
	discoveryFailed := slices.ContainsFunc(r.mistakes, func(m mistake) bool { return strings.HasPrefix(m.path, "discovery") })
	if len(c.Nodes) == 0 && top.isValid("node") && !c.Discovery.On() && !discoveryFailed {
		r.addMistake("node", "want at least one [[node]], or [discovery] (got nothing)")
	}
	c.Notes = r.notes
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// readSections reads all tables but the nodes. It returns [cache], against which the
// nodes' intervals are checked.
func (c *Config) readSections(top *table) (cache *table) {
	c.Frontend.read(top.table("frontend"))
	operator := top.table("operator")
	c.Operator.read(operator)
	c.Operator.inheritFrom(&c.Frontend)
	c.Operator.checkProtection(operator, &c.Frontend)
	backend := top.table("backend")
	c.Backend.read(backend)
	cache = top.table("cache")
	c.Cache.read(cache)
	c.Checks.read(top.table("checks"))
	c.Agent.read(top.table("agent"))
	c.History.read(top.table("history"))
	c.Limits.read(top.table("limits"))
	c.Discovery.read(top.table("discovery"))
	c.checkTTL(cache, backend)
	return cache
}

// readNodes reads every [[node]] over what [backend] gives.
func (c *Config) readNodes(tables []*table, cache *table) {
	for _, t := range tables {
		n := Node{Backend: c.Backend}
		n.read(t)
		if cache.isValid("ttl") {
			c.checkNodeTTL(t, &n.Backend)
		}
		c.Nodes = append(c.Nodes, n)
	}
}

// checkTTL requires that ttl fits to the interval of [backend], else nodes are stale
// between polls. The mistake is at the key that the file has.
func (c *Config) checkTTL(cache, backend *table) {
	b := &c.Backend
	if !cache.isValid("ttl") || !backend.isValid("interval") || !backend.isValid("timeout") || c.Cache.TTL >= b.leastTTL() {
		return
	}
	if backend.has("interval") && !cache.has("ttl") {
		backend.reject("interval", c.wantTTL(b))
		return
	}
	cache.reject("ttl", "want "+b.ttlSum()+", else nodes are stale between polls")
}

// checkNodeTTL is checkTTL for the keys that a [[node]] has itself.
func (c *Config) checkNodeTTL(t *table, b *Backend) {
	if !t.isValid("interval") || !t.isValid("timeout") || c.Cache.TTL >= b.leastTTL() {
		return
	}
	switch {
	case t.has("interval"):
		t.reject("interval", c.wantTTL(b))
	case t.has("timeout") && c.Cache.TTL >= c.Backend.leastTTL():
		t.reject("timeout", c.wantTTL(b))
	}
}

func (c *Config) wantTTL(b *Backend) string {
	return fmt.Sprintf("want cache.ttl, which is %s, to be %s", c.Cache.TTL, b.ttlSum())
}

// syntaxError shows the line that cannot be read. ParseError.ErrorWithPosition
// would too, but toml 1.6 panics there when its lexer puts an error on line 0.
func syntaxError(err error, text string) error {
	at, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return err
	}
	lines := strings.Split(text, "\n")
	n := min(max(at.Position.Line, 1), len(lines))
	message := strings.TrimSuffix(strings.ReplaceAll(at.Message, "\n", " "), ".")
	return fmt.Errorf("line %d: %s (got %s)", n, message, showValue(strings.TrimSpace(lines[n-1])))
}
