package main

import (
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/cluster"
)

// manSections are the parts of a man page below its .Ss, and what is above the
// first one as "".
func manSections(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("contrib/man/" + page)
	if err != nil {
		t.Fatal(err)
	}
	sections, name := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, ".Ss "); ok {
			name = strings.TrimSpace(title)
		}
		sections[name] += line
	}
	return sections
}

// Every flag of every command is in patroniglue(8), below its command.
func TestManFlags(t *testing.T) {
	sections := manSections(t, "patroniglue.8")
	commands := []string{""}
	for _, m := range regexp.MustCompile(`(?m)^  patroniglue (?:-config FILE )?([a-z]+)`).FindAllStringSubmatch(usage, -1) {
		commands = append(commands, m[1])
	}
	for _, want := range []string{"demo", "haproxy", "history", "status"} {
		if !slices.Contains(commands, want) {
			t.Errorf("the usage shows the commands %q, and no %q", commands, want)
		}
	}
	for _, command := range slices.Compact(commands) {
		var help bytes.Buffer
		if code := Main(t.Context(), "test", append(strings.Fields(command), "-help"), &help, io.Discard); code != 0 {
			t.Fatalf("%s -help: exit code %d", command, code)
		}
		flags := regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(help.String(), -1)
		if len(flags) == 0 {
			t.Errorf("%s -help shows no flag:\n%s", command, &help)
		}
		for _, m := range flags {
			if !regexp.MustCompile(`(?m)^\.It Fl ` + m[1] + `( |$)`).MatchString(sections[command]) {
				t.Errorf("patroniglue.8 does not explain -%s of %q", m[1], command)
			}
		}
	}
}

// Every key that the configuration takes is in patroniglue.toml(5), below its
// table, with the default that the example shows.
func TestManKeys(t *testing.T) {
	var c config
	keys := map[string][]string{}
	for name, read := range map[string]func(*table){
		"frontend": c.Frontend.read, "operator": c.Operator.read, "backend": c.Backend.read, "cache": c.Cache.read, "checks": c.Checks.read,
		"agent": c.Agent.read, "history": c.History.read, "limits": c.Limits.read, "discovery": c.Discovery.read, "node": new(nodeConfig).read,
	} {
		asked := &table{reading: new(reading), path: name}
		read(asked)
		keys[name] = asked.known
	}
	keys["node"] = slices.DeleteFunc(keys["node"], func(key string) bool { return slices.Contains(keys["backend"], key) })

	sections := manSections(t, "patroniglue.toml.5")
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
	for _, check := range validChecks() {
		if !regexp.MustCompile(`[ \n]` + check + `[ \n]`).MatchString(sections["[[node]]"]) {
			t.Errorf("patroniglue.toml.5 does not name the check %s below [[node]]", check)
		}
	}

	example, err := os.ReadFile("patroniglue.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	title, shown := "", 0
	for line := range strings.Lines(string(example)) {
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

// Who is woken by a code finds it in the manual.
func TestManCodes(t *testing.T) {
	_, health, _ := strings.Cut(readFile(t, "contrib/man/patroniglue.8"), "\n.Sh HEALTH\n")
	health, _, _ = strings.Cut(health, "\n.Sh ")
	var told []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Li (.*)$`).FindAllStringSubmatch(health, -1) {
		told = append(told, m[1])
	}
	if !slices.Equal(told, cluster.Codes) {
		t.Errorf("patroniglue.8 explains the codes %q, want %q", told, cluster.Codes)
	}
}

func TestManLint(t *testing.T) {
	requireProgram(t, "mandoc")
	if out, err := exec.CommandContext(t.Context(), "mandoc", "-T", "lint", "-W", "warning", "contrib/man/patroniglue.8", "contrib/man/patroniglue.toml.5").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
