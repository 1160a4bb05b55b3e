package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patroniglue/cluster"
)

// The file of contrib/logrotate, and the other way that people rotate: no change is
// lost, and none is there twice.
func TestLogrotate(t *testing.T) {
	logrotate := requireProgram(t, "logrotate")
	const reload = "systemctl reload patroniglue.service || true"
	shipped := readFile(t, "contrib/logrotate/patroniglue")
	for name, edit := range map[string]func(string, int) string{
		"as shipped": func(s string, pid int) string { return replace(t, s, reload, fmt.Sprintf("kill -HUP %d", pid)) },
		"copytruncate": func(s string, _ int) string {
			return replace(t, replace(t, s, reload, "true"), "nocreate", "copytruncate")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "history.jsonl")
			sim := newSimulated(t, "pg1", "pg2")
			p, cmd := startBinary(t, "[frontend]\n"+anyPort+fastPolls+"[history]\nfile = '"+path+"'\n"+nodesOf(sim, ""))
			text := edit(shipped, cmd.Process.Pid)
			text = replace(t, text, "/var/lib/patroniglue/", dir+"/")
			text = replace(t, text, "\tsu patroniglue patroniglue\n", "") // the user is made by the package
			conf := writeFile(t, "logrotate.conf", text)
			if err := os.Chmod(conf, 0o644); err != nil {
				t.Fatal(err)
			}

			has := func(file, words string) func() bool {
				return func() bool {
					text, err := os.ReadFile(file)
					return err == nil && strings.Contains(string(text), words)
				}
			}
			const began = `"kind":"leader","before":"none","after":"pg1"`
			until(t, "the history begins", has(path, began))
			must(t, logrotate, "-s", filepath.Join(dir, "state"), "-f", conf)
			if !has(path+".1", began)() {
				t.Errorf("what was rotated is\n%s", readFile(t, path+".1"))
			}
			sim.Kill("pg2")
			until(t, "a change is in the new file", has(path, `"node":"pg2","kind":"answering","before":"yes","after":"no"`))
			var said cluster.History
			_, body := ask(t, nil, "GET", "http://"+p.http+"/history?limit=1000")
			if err := json.Unmarshal([]byte(body), &said); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			want := asJSON(t, said.Changes)
			if got := append(linesOf(t, path+".1"), linesOf(t, path)...); len(got) < len(want) || strings.Join(got[:len(want)], "\n") != strings.Join(want, "\n") {
				t.Errorf("the files have\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
