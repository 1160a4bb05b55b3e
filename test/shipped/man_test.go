package shipped

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patroniglue/cluster"
	"patroniglue/test/harness"
)

// TestManCodes: the manual explains every code that may wake somebody.
func TestManCodes(t *testing.T) {
	_, health, _ := strings.Cut(harness.ReadFile(t, "contrib/man/patroniglue.8"), "\n.Sh HEALTH\n")
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
	harness.RequireProgram(t, "mandoc")
	if out, err := exec.CommandContext(t.Context(), "mandoc", "-T", "lint", "-W", "warning", "contrib/man/patroniglue.8", "contrib/man/patroniglue.toml.5").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
