package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/node"
	"patroniglue/test/harness"
)

// patroniglue.toml(5) explains every key of the configuration below its table, with
// the default that the example shows.
func TestManKeys(t *testing.T) {
	var c Config
	keys := map[string][]string{}
	for name, read := range map[string]func(*table){
		"frontend": c.Frontend.read, "operator": c.Operator.read, "backend": c.Backend.read, "cache": c.Cache.read, "checks": c.Checks.read,
		"agent": c.Agent.read, "history": c.History.read, "limits": c.Limits.read, "discovery": c.Discovery.read, "node": new(Node).read,
	} {
		asked := &table{reader: new(reader), path: name}
		read(asked)
		keys[name] = asked.known
	}
	keys["node"] = slices.DeleteFunc(keys["node"], func(key string) bool { return slices.Contains(keys["backend"], key) })

	sections := harness.ManSections(t, "patroniglue.toml.5")
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		title := "[" + name + "]"
		if name == "node" {
			title = "[[node]]"
		}
		if len(keys[name]) == 0 {
			t.Errorf("%s takes no key", title)
		}
		for _, key := range keys[name] {
			if !regexp.MustCompile(`(?m)^\.It Li ` + key + `( |$)`).MatchString(sections[title]) {
				t.Errorf("patroniglue.toml.5 does not explain %s below %s", key, title)
			}
		}
	}
	for _, check := range node.CheckNames() {
		if !regexp.MustCompile(`[ \n]` + check + `[ \n]`).MatchString(sections["[[node]]"]) {
			t.Errorf("patroniglue.toml.5 does not name the check %s below [[node]]", check)
		}
	}

	title, shown := "", 0
	for line := range strings.Lines(harness.ReadFile(t, "patroniglue.example.toml")) {
		if strings.HasPrefix(line, "[") {
			title = strings.TrimSpace(line)
		}
		line, _, _ = strings.Cut(line, "#")
		if title == "[[node]]" || !strings.Contains(line, " = ") {
			continue
		}
		shown++
		item := ".It Li " + strings.ReplaceAll(strings.TrimSpace(line), `"`, `\(dq`) + "\n"
		if !strings.Contains(sections[title], item) {
			t.Errorf("patroniglue.toml.5 has no %q below %s, as the example has", strings.TrimSpace(item), title)
		}
	}
	if shown < 25 {
		t.Errorf("the example shows %d defaults", shown)
	}
}
