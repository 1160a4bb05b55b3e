package program

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patroniglue/cluster"
	"patroniglue/test/harness"
)

// The file of contrib/logrotate, and the other way that people rotate: no change is
// lost, and none is there twice.
func TestLogrotate(t *testing.T) {
	logrotate := harness.RequireProgram(t, "logrotate")
	const reload = "systemctl reload patroniglue.service || true"
	shipped := harness.ReadFile(t, "contrib/logrotate/patroniglue")
	for name, edit := range map[string]func(string, int) string{
		"as shipped": func(s string, pid int) string { return harness.Replace(t, s, reload, fmt.Sprintf("kill -HUP %d", pid)) },
		"copytruncate": func(s string, _ int) string {
			return harness.Replace(t, harness.Replace(t, s, reload, "true"), "nocreate", "copytruncate")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "history.jsonl")
			sim := harness.NewSimulated(t, "pg1", "pg2")
			p := harness.StartProcess(t, "[frontend]\n"+harness.AnyPort+harness.FastPolls+"[history]\nfile = '"+path+"'\n"+harness.NodesOf(sim, ""), nil)
			text := edit(shipped, p.Process.Pid)
			text = harness.Replace(t, text, "/var/lib/patroniglue/", dir+"/")
			text = harness.Replace(t, text, "\tsu patroniglue patroniglue\n", "") // the user is made by the package
			conf := harness.WriteFile(t, "logrotate.conf", text)
			if err := os.Chmod(conf, 0o644); err != nil {
				t.Fatal(err)
			}

			const began = `"kind":"leader","before":"none","after":"pg1"`
			harness.AwaitFile(t, path, began)
			harness.Must(t, logrotate, "-s", filepath.Join(dir, "state"), "-f", conf)
			if rotated := harness.ReadFile(t, path+".1"); !strings.Contains(rotated, began) {
				t.Errorf("what was rotated is\n%s", rotated)
			}
			sim.Kill("pg2")
			harness.AwaitFile(t, path, `"node":"pg2","kind":"answering","before":"yes","after":"no"`)
			var said cluster.History
			_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+"/history?limit=1000")
			if err := json.Unmarshal([]byte(body), &said); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			want := harness.AsJSON(t, said.Changes)
			if got := append(harness.LinesOf(t, path+".1"), harness.LinesOf(t, path)...); len(got) < len(want) || strings.Join(got[:len(want)], "\n") != strings.Join(want, "\n") {
				t.Errorf("the files have\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
