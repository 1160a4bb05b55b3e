package config

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
)

// ChangesSince returns, for the log, what differs from an earlier configuration: the
// names of sections ("[cache]"), nodes ("main/pg1" if it differs, "main/pg1 added" or
// "main/pg1 removed") and the paths of files that both name and whose contents differ.
func (c *Config) ChangesSince(before *Config) []string {
	return slices.Concat(c.changedSections(before), c.changedNodes(before), c.changedFiles(before))
}

func (c *Config) changedSections(before *Config) (changed []string) {
	for _, section := range []struct {
		name    string
		was, is any
	}{
		{"[frontend]", before.Frontend, c.Frontend},
		{"[operator]", before.Operator, c.Operator},
		{"[backend]", before.Backend, c.Backend},
		{"[cache]", before.Cache, c.Cache},
		{"[checks]", before.Checks, c.Checks},
		{"[agent]", before.Agent, c.Agent},
		{"[history]", before.History, c.History},
		{"[limits]", before.Limits, c.Limits},
		{"[discovery]", before.Discovery, c.Discovery},
	} {
		if !reflect.DeepEqual(section.was, section.is) {
			changed = append(changed, section.name)
		}
	}
	return changed
}

func (c *Config) changedNodes(before *Config) (changed []string) {
	was, is := before.nodesByName(), c.nodesByName()
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] == nil {
			changed = append(changed, name+" added")
		} else if !reflect.DeepEqual(was[name], is[name]) {
			changed = append(changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] == nil {
			changed = append(changed, name+" removed")
		}
	}
	return changed
}

// nodesByName returns the nodes by cluster/name.
func (c *Config) nodesByName() map[string]*Node {
	nodes := make(map[string]*Node)
	for i := range c.Nodes {
		nodes[c.Nodes[i].Cluster+"/"+c.Nodes[i].Name] = &c.Nodes[i]
	}
	return nodes
}

func (c *Config) changedFiles(before *Config) (changed []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if content, ok := before.Files[name]; ok && !bytes.Equal(content, c.Files[name]) {
			changed = append(changed, name)
		}
	}
	return changed
}
