package harness

import (
	"strings"
	"testing"
)

// ManSections are the parts of a man page below its .Ss, and what is above the
// first one as "".
func ManSections(t *testing.T, page string) map[string]string {
	t.Helper()
	sections, name := map[string]string{}, ""
	for line := range strings.Lines(ReadFile(t, "contrib/man/"+page)) {
		if title, ok := strings.CutPrefix(line, ".Ss "); ok {
			name = strings.TrimSpace(title)
		}
		sections[name] += line
	}
	return sections
}
