package cli

import (
	"bytes"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// Every flag of every command is in patroniglue(8), below its command.
func TestManFlags(t *testing.T) {
	sections := harness.ManSections(t, "patroniglue.8")
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
