package shipped

import (
	"regexp"
	"strings"
	"testing"

	"patroniglue/internal/config"
	"patroniglue/test/harness"
)

// TestSecurityDocs: the examples in docs/security.md can be used as they are.
func TestSecurityDocs(t *testing.T) {
	cert := harness.NewFiles(t)
	inDocs := harness.Files{
		"/etc/patroniglue/passwords": "alice:" + harness.AliceHash, "/etc/patroniglue/server.crt": cert["a.crt"],
		"/run/credentials/patroniglue.service/server.key": cert["a.key"], "/run/credentials/patroniglue.service/token": "secret",
	}
	text := harness.ReadFile(t, "docs/security.md")
	shown := 0
	for _, block := range regexp.MustCompile(`(?m)^    \[(?:frontend|operator)\]\n(?:    .+\n)+`).FindAllString(text, -1) {
		shown++
		if _, err := config.Parse("c.toml", []byte(block+harness.OneNode), inDocs.Read); err != nil {
			t.Errorf("%s: %v", block, err)
		}
	}
	if shown != 2 {
		t.Errorf("docs/security.md shows %d configurations", shown)
	}
	for _, key := range regexp.MustCompile("`(patroniglue_\\w+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(harness.ReadFile(t, "internal/metrics/testdata/metrics.txt"), key[1]+"{") {
			t.Errorf("docs/security.md names %s, which does not exist", key[1])
		}
	}
}

// TestScaleDocs: the examples in docs/scale.md are valid.
func TestScaleDocs(t *testing.T) {
	_, rest, _ := strings.Cut(harness.ReadFile(t, "docs/scale.md"), "```toml\n")
	text, _, _ := strings.Cut(rest, "```")
	cfg, err := config.Parse("c.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := cfg.Nodes[0]; n.URL.String() != "http://glue-east:8009/node/pg1" || n.Member != "pg1" || n.Scope != "main" {
		t.Errorf("%+v", n)
	}
}
