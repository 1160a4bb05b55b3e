package config

import (
	"maps"
	"slices"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

func TestExampleConfig(t *testing.T) {
	const path = "../../patroniglue.example.toml"
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}

	// What it shows is the default.
	want := Default()
	want.Nodes, want.Text, want.Files = c.Nodes, c.Text, c.Files
	if d := diff(want, c); d != "" {
		t.Error(d)
	}
	if len(c.Nodes) != 3 {
		t.Errorf("%d nodes, want 3", len(c.Nodes))
	}

	// It shows every key.
	var shown map[string]any
	if _, err := toml.DecodeFile(path, &shown); err != nil {
		t.Fatal(err)
	}
	known := map[string]func(*table){
		"frontend":  want.Frontend.read,
		"operator":  want.Operator.read,
		"backend":   want.Backend.read,
		"cache":     want.Cache.read,
		"checks":    want.Checks.read,
		"agent":     want.Agent.read,
		"history":   want.History.read,
		"limits":    want.Limits.read,
		"discovery": want.Discovery.read,
	}
	for name, read := range known {
		none := &table{reader: &reader{}}
		read(none)
		section, _ := shown[name].(map[string]any)
		if d := cmp.Diff(slices.Sorted(slices.Values(none.known)), slices.Sorted(maps.Keys(section))); d != "" {
			t.Errorf("[%s]: %s", name, d)
		}
		delete(shown, name)
	}
	none, backend := &table{reader: &reader{}}, &table{reader: &reader{}}
	new(Node).read(none)
	new(Backend).read(backend)
	nodes, _ := shown["node"].([]map[string]any)
	for _, key := range none.known {
		if !slices.Contains(backend.known, key) && !slices.ContainsFunc(nodes, func(n map[string]any) bool { return n[key] != nil }) {
			t.Errorf("no [[node]] shows %q", key)
		}
	}
	if len(shown) != 1 {
		t.Errorf("tables without a test: %v", slices.Sorted(maps.Keys(shown)))
	}
}
