package shipped

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// An upgrade restarts what runs only if the new version takes the configuration.
func TestPostinst(t *testing.T) {
	const restarts = "deb-systemd-invoke restart patroniglue.service\n"
	for _, tt := range []struct {
		name, old   string
		runs, valid bool
		calls       string
		refused     bool
	}{
		{"an upgrade", "1.0", true, true, restarts, false},
		{"an upgrade whose configuration it does not take", "1.0", true, false, "", true},
		{"an upgrade of what does not run", "1.0", false, false, restarts, false},
		{"the first installation", "", false, false, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			calls := filepath.Join(dir, "calls")
			check := map[bool]string{true: "exit 0\n", false: "echo 'c.toml: cache.ttl: want more'; exit 1\n"}
			active := map[bool]string{true: "0", false: "3"}
			for name, text := range map[string]string{
				"systemd-sysusers":   "exit 0\n",
				"chgrp":              "exit 0\n",
				"systemctl":          "case \"$*\" in *is-active*) exit " + active[tt.runs] + ";; esac\n",
				"deb-systemd-invoke": "echo \"deb-systemd-invoke $*\" >> " + calls + "\n",
				"runuser":            "[ \"$1 $2 $3\" = '-u patroniglue --' ] || exit 9; shift 3; exec \"$@\"\n",
				"patroniglue":        check[tt.valid],
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			script := filepath.Join(dir, "postinst")
			text := strings.Replace(harness.ReadFile(t, "contrib/packaging/postinst"), "/run/systemd/system", dir, 1)
			if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", script, "configure", tt.old)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if called, _ := os.ReadFile(calls); string(called) != tt.calls {
				t.Errorf("calls %q, want %q", called, tt.calls)
			}
			says := strings.Contains(string(out), "NOT restarted") && strings.Contains(string(out), "cache.ttl: want more")
			if says != tt.refused {
				t.Errorf("says %q", out)
			}
		})
	}
}
