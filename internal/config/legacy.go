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

// minLegacyTTL bounds how often a legacy file can make us poll: 1.x asked
// Patroni when it was asked, we ask all the time.
const minLegacyTTL = 300 * time.Millisecond

// parseLegacy reads the YAML of patroniglue 1.x: one Patroni, behind a cache.
func parseLegacy(data []byte, readFile func(string) ([]byte, error)) (*Config, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, yamlError(err)
	}
	r := &reader{readFile: readFile, lines: map[string]int{}}
	top := &table{reader: r}
	if !doc.IsZero() { // an empty file is all defaults
		var v any
		if err := doc.Decode(&v); err != nil {
			return nil, yamlError(err)
		}
		var ok bool
		if top.values, ok = normalizeYAML(v).(map[string]any); !ok && v != nil {
			return nil, fmt.Errorf("line %d: want frontend, backend and cache (got %s)", doc.Content[0].Line, showValue(v))
		}
		recordLines(top, doc.Content[0], r.lines)
	}

	c := Default()
	c.Legacy = true
	// 1.x relayed what Patroni answers to /primary: 200 for the lock, running or not.
	c.Checks.Primary = "lock"
	c.legacyFrontend(top.table("frontend"))
	address := c.legacyBackend(top.table("backend"))
	c.legacyCache(top.table("cache"))
	top.rejectUnknown()
	c.Notes = r.notes
	// 1.x knew neither the name nor the scope of its Patroni, so none is checked.
	c.Nodes = []Node{{Name: "local", Cluster: defaultCluster, URL: address, Backend: c.Backend}}
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) legacyFrontend(t *table) {
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
		t.addNote(t.pathOf("logformat"), "has no effect, checks are not logged one by one")
	}
	t.rejectUnknown()
}

func (c *Config) legacyBackend(t *table) *url.URL {
	host, port := "localhost", 80 // not Patroni's 8008: so it was
	t.host("host", &host)
	if host == "" && t.isValid("host") {
		t.reject("host", "want the address of Patroni's REST API")
	}
	t.integer("port", &port, 1, math.MaxUint16)
	t.choice("scheme", &c.Backend.Scheme, "http", "https")
	t.boolean("insecure", &c.Backend.Insecure)
	t.rejectUnknown()
	return &url.URL{Scheme: c.Backend.Scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}
}

// legacyCache takes the TTL, and polls as often as that TTL needs.
func (c *Config) legacyCache(t *table) {
	var sweep, ttl time.Duration
	t.duration("ttl", &ttl, 0)
	t.duration("interval", &sweep, 0)
	t.rejectUnknown()
	if t.has("interval") {
		t.addNote(t.pathOf("interval"), "has no effect, an answer is as old as its TTL allows and never swept")
	}
	note := func(format string, args ...any) {
		t.addNote(t.pathOf("ttl"), format, args...)
	}

	b := &c.Backend
	switch {
	case ttl == 0 && t.has("ttl") && t.isValid("ttl"):
		note("0 does not switch the cache off any more, it is %s", c.Cache.TTL)
	case ttl == 0:
	case ttl < minLegacyTTL:
		note("%s is too short to poll in time, it is %s", ttl, minLegacyTTL)
		c.Cache.TTL = minLegacyTTL
	default:
		c.Cache.TTL = ttl
	}
	if c.Cache.TTL < 2*b.Interval { // one slow poll must not end belief
		b.Interval = c.Cache.TTL / 3
		b.PrimaryInterval = min(b.PrimaryInterval, b.Interval)
		b.FastInterval = min(b.FastInterval, b.PrimaryInterval)
		note("Patroni is polled every %s, to know it in time", b.Interval.Round(time.Millisecond))
	}
	b.Timeout = min(b.Timeout, c.Cache.TTL)
}

// yamlError has one mistake a line, without the prefix that yaml puts.
func yamlError(err error) error {
	if all, ok := errors.AsType[*yaml.TypeError](err); ok {
		return errors.New(strings.Join(all.Errors, "\n"))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
}

// plain gives tables string keys, and the booleans of YAML 1.1, which 1.x read,
// their value.
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

// recordLines notes on which line each path stands.
func recordLines(t *table, n *yaml.Node, lines map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			path := t.pathOf(key.Value)
			lines[path] = key.Line
			recordLines(&table{path: path}, n.Content[i+1], lines)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			lines[fmt.Sprintf("%s[%d]", t.path, i+1)] = e.Line
		}
	}
}
