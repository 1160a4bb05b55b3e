package config

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
)

// since says in words where c differs from the configuration before.
func (c *Config) ChangesSince(before *Config) []string {
	changed := []string{}
	section := func(name string, was, is any) {
		if !reflect.DeepEqual(was, is) {
			changed = append(changed, name)
		}
	}
	section("[frontend]", before.Frontend, c.Frontend)
	section("[operator]", before.Operator, c.Operator)
	section("[backend]", before.Backend, c.Backend)
	section("[cache]", before.Cache, c.Cache)
	section("[checks]", before.Checks, c.Checks)
	section("[agent]", before.Agent, c.Agent)
	section("[history]", before.History, c.History)
	section("[limits]", before.Limits, c.Limits)
	section("[discovery]", before.Discovery, c.Discovery)
	nodes := func(c *Config) map[string]*Node {
		all := make(map[string]*Node)
		for i := range c.Nodes {
			all[c.Nodes[i].Cluster+"/"+c.Nodes[i].Name] = &c.Nodes[i]
		}
		return all
	}
	was, is := nodes(before), nodes(c)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] == nil {
			changed = append(changed, name+" added")
		} else {
			section(name, was[name], is[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] == nil {
			changed = append(changed, name+" removed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if content, ok := before.Files[name]; ok && !bytes.Equal(content, c.Files[name]) {
			changed = append(changed, name)
		}
	}
	return changed
}
