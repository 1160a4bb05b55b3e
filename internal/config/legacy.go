package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// minLegacyTTL bounds how often a legacy file can make us poll: 1.x asked Patroni
// only when it was asked itself, we poll all the time.
const minLegacyTTL = 300 * time.Millisecond

// parseLegacy reads the YAML of patroniglue 1.x: one Patroni, behind a cache.
func parseLegacy(text []byte, readFile func(string) ([]byte, error)) (*Config, error) {
	values, lines, err := decodeYAML(text)
	if err != nil {
		return nil, err
	}
	r := &reader{readFile: readFile, lines: lines}
	top := &table{reader: r, values: values}
	c := Default()
	c.Legacy = true
	// 1.x relayed what Patroni answers to /primary: 200 for the lock, running or not.
	c.Checks.Primary = "lock"
	c.readLegacyFrontend(top.table("frontend"))
	address := c.readLegacyBackend(top.table("backend"))
	c.readLegacyCache(top.table("cache"))
	top.rejectUnknown()
	// 1.x knew neither the name nor the scope of its Patroni, so none is checked.
	c.Nodes = []Node{{Name: "local", Cluster: defaultCluster, URL: address, Backend: c.Backend}}
	c.Notes = r.notes
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) readLegacyFrontend(t *table) {
	f := &c.Frontend
	f.Port = 80
	t.host("host", &f.Host)
	t.integer("port", &f.Port, 0, math.MaxUint16)
	t.keyPair(&f.Certfile, &f.Keyfile)
	t.tlsVersion("tls-min-version", &f.TLSMinVersion)
	t.tlsCiphers("tls-ciphers", &f.TLSCiphers)
	var format string
	t.text("logformat", &format)
	if t.has("logformat") {
		t.addNote(t.pathOf("logformat"), "has no effect, single checks are not logged")
	}
	t.rejectUnknown()
}

// readLegacyBackend returns the address of Patroni.
func (c *Config) readLegacyBackend(t *table) *url.URL {
	host, port := "localhost", 80 // as in 1.x, not Patroni's 8008
	t.host("host", &host)
	if host == "" && t.isValid("host") {
		t.reject("host", "want the address of Patroni's REST API")
	}
	t.integer("port", &port, 1, math.MaxUint16)
	t.choice("scheme", &c.Backend.Scheme, "http", "https")
	var insecure bool
	if t.boolean("insecure", &insecure); insecure {
		c.Backend.Verify = "none"
	}
	t.rejectUnknown()
	return &url.URL{Scheme: c.Backend.Scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}
}

// readLegacyCache reads the ttl, and sets the intervals of polls by it.
func (c *Config) readLegacyCache(t *table) {
	var ttl, sweep time.Duration
	t.duration("ttl", &ttl, 0)
	t.duration("interval", &sweep, 0)
	t.rejectUnknown()
	if t.has("interval") {
		t.addNote(t.pathOf("interval"), "has no effect, answers expire by their ttl and are not swept")
	}
	switch {
	case ttl == 0 && t.has("ttl") && t.isValid("ttl"):
		t.addNote(t.pathOf("ttl"), "0 no longer switches the cache off, the ttl is %s", c.Cache.TTL)
	case ttl == 0:
	case ttl < minLegacyTTL:
		t.addNote(t.pathOf("ttl"), "%s is too short for polling, the ttl is %s", ttl, minLegacyTTL)
		c.Cache.TTL = minLegacyTTL
	default:
		c.Cache.TTL = ttl
	}
	if c.pollWithinTTL() {
		t.addNote(t.pathOf("ttl"), "Patroni is polled every %s, so that its answers do not expire between polls", c.Backend.Interval.Round(time.Millisecond))
	}
}

// pollWithinTTL lowers the intervals where the ttl is less than leastTTL, and reports
// whether it did.
func (c *Config) pollWithinTTL() bool {
	b := &c.Backend
	b.Timeout = min(b.Timeout, c.Cache.TTL)
	if c.Cache.TTL >= b.leastTTL() {
		return false
	}
	b.Interval = c.Cache.TTL / 3
	b.PrimaryInterval = min(b.PrimaryInterval, b.Interval)
	b.FastInterval = min(b.FastInterval, b.PrimaryInterval)
	return true
}

// decodeYAML returns the values of a file, and the line on which each path stands.
func decodeYAML(text []byte) (values map[string]any, lines map[string]int, err error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, nil, yamlError(err)
	}
	if doc.IsZero() {
		return nil, nil, nil // an empty file is all defaults
	}
	var v any
	if err := doc.Decode(&v); err != nil {
		return nil, nil, yamlError(err)
	}
	values, ok := normalizeYAML(v).(map[string]any)
	if !ok && v != nil {
		return nil, nil, fmt.Errorf("line %d: want frontend, backend and cache (got %s)", doc.Content[0].Line, showValue(v))
	}
	lines = make(map[string]int)
	recordLines("", doc.Content[0], lines)
	return values, lines, nil
}

// yamlError puts one mistake on a line, without the prefix that the yaml package gives.
func yamlError(err error) error {
	if all, ok := errors.AsType[*yaml.TypeError](err); ok {
		return errors.New(strings.Join(all.Errors, "\n"))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
}

// normalizeYAML makes what the decoder of TOML would have made: string keys for
// tables, and booleans of what YAML 1.1, which 1.x read, takes for one.
func normalizeYAML(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			v[key] = normalizeYAML(e)
		}
		if s, ok := v["insecure"].(string); ok {
			switch low := strings.ToLower(s); {
			case slices.Contains([]string{"y", "yes", "on"}, low):
				v["insecure"] = true
			case slices.Contains([]string{"n", "no", "off"}, low):
				v["insecure"] = false
			}
		}
		return v
	case map[any]any:
		values := map[string]any{}
		for key, e := range v {
			values[fmt.Sprint(key)] = e
		}
		return normalizeYAML(values)
	}
	return v
}

// recordLines records the line of every path below path, where n stands.
func recordLines(path string, n *yaml.Node, lines map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			below := joinPath(path, key.Value)
			lines[below] = key.Line
			recordLines(below, n.Content[i+1], lines)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			lines[fmt.Sprintf("%s[%d]", path, i+1)] = e.Line
		}
	}
}
