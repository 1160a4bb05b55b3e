package cli

import (
	"bytes"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// Every command is in the synopsis of patroniglue(8), with its arguments, and has a
// section of its own.
func TestManCommands(t *testing.T) {
	sections := harness.ManSections(t, "patroniglue.8")
	_, synopsis, _ := strings.Cut(sections[""], ".Sh SYNOPSIS\n")
	synopsis, _, _ = strings.Cut(synopsis, ".Sh ")
	shown := slices.Sorted(maps.Keys(sections))[1:] // without what stands before them all
	if got := slices.Sorted(slices.Values(words())); !slices.Equal(got, shown) {
		t.Errorf("the commands are %q, patroniglue.8 has sections for %q", got, shown)
	}
	for _, cmd := range commands {
		want := ".Cm " + cmd.name + "\n"
		switch {
		case cmd.name == "":
			want = ".Op Fl config Ar FILE\n.Op Fl verbose | debug | quiet\n"
		case cmd.name[0] == '-':
			want = ".Fl " + cmd.name[1:]
		case strings.HasPrefix(cmd.arguments, "NODE"):
			want += ".Ar NODE\n.Op Ar flags\n"
		default:
			want += ".Op Ar flags\n"
		}
		if !strings.Contains(synopsis, want) {
			t.Errorf("the synopsis of patroniglue.8 has no %q, want it for %q", want, cmd.synopsis())
		}
	}
}

// Every flag of every command is explained in its section.
func TestManFlags(t *testing.T) {
	sections := harness.ManSections(t, "patroniglue.8")
	for _, name := range append(words(), "") {
		var help bytes.Buffer
		if code := Main(t.Context(), "test", append(strings.Fields(name), "-help"), &help, io.Discard); code != 0 {
			t.Fatalf("%s -help: exit code %d", name, code)
		}
		flags := regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(help.String(), -1)
		if len(flags) == 0 {
			t.Errorf("%s -help shows no flag:\n%s", name, &help)
		}
		for _, m := range flags {
			if !regexp.MustCompile(`(?m)^\.It Fl ` + m[1] + `( |$)`).MatchString(sections[name]) {
				t.Errorf("patroniglue.8 does not explain -%s of %q", m[1], name)
			}
		}
	}
}
