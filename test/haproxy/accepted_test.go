package haproxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patroniglue/contrib/lab"
	"patroniglue/haproxy"
	"patroniglue/test/harness"
)

// TestAccepted: HAProxy takes without a word every kind of file that we print, and
// every one that docs/haproxy.md shows.
func TestAccepted(t *testing.T) { harness.Core(t, testAccepted) }

func testAccepted(t *testing.T, suite lab.Suite) {
	harness.RequireProgramOf(t, suite, "haproxy")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := harness.NewAuthority(t)
	write("pair.pem", harness.ReadFile(t, ca.File("ca.crt"))+harness.ReadFile(t, ca.File("ca.key")))
	lua := strings.NewReplacer("/etc/haproxy/patroniglue-hold.lua", write(haproxy.LuaName, string(haproxy.HoldLua)))

	printed, err := filepath.Glob("haproxy/testdata/golden/*.cfg")
	if err != nil || len(printed) == 0 {
		t.Fatalf("no files of ours: %v", err)
	}
	for _, file := range printed {
		name := strings.TrimSuffix(filepath.Base(file), ".cfg")
		t.Run(name, func(t *testing.T) {
			harness.AcceptedByHAProxy(t, suite, write(name+".cfg", lua.Replace(harness.ReadFile(t, file))))
		})
	}
	blocks, names := docBlocks(t, "haproxy")
	for _, name := range names {
		t.Run("docs: "+name, func(t *testing.T) {
			harness.AcceptedByHAProxy(t, suite, write("docs-"+name+".cfg", blocks[name].text))
		})
	}
}
