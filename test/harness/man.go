package harness

import (
	"strings"
	"testing"
)

// ManSections returns the subsections (.Ss) of a manual page by title. The text above the
// first one has the title "".
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
