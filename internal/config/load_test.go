package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"patroniglue/test/harness"
)

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	for name, legacy := range map[string]bool{"a.toml": false, "a.conf": false, "a.yml": true, "a.YAML": true} {
		text := harness.OneNode
		if legacy {
			text = "frontend: {port: 8009}"
		}
		c, err := Load(write(name, text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.Legacy != legacy {
			t.Errorf("%s: legacy is %t, want %t", name, c.Legacy, legacy)
		}
	}

	missing := filepath.Join(dir, "no.toml")
	_, err := Load(missing)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}

	bad := write("bad.toml", "frontend.certfile = '"+missing+"'\nfrontend.keyfile = '"+missing+"'"+harness.OneNode)
	want := fmt.Sprintf(`%[1]s: frontend.certfile: want a file that can be read: no such file or directory (got %[2]q)
%[1]s: frontend.keyfile: want a file that can be read: no such file or directory (got %[2]q)`, bad, missing)
	if _, err := Load(bad); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestFindConfig(t *testing.T) {
	const old, system = "/home/me/.patroniglue.yml", "/etc/patroniglue/patroniglue.toml"
	for _, tt := range []struct {
		name, flag, home string
		exist            []string
		want, err        string
	}{
		{name: "flag", flag: "x.toml", home: "/home/me", exist: []string{old, system}, want: "x.toml"},
		{name: "old", home: "/home/me", exist: []string{old, system}, want: old},
		{name: "system", home: "/home/me", exist: []string{system}, want: system},
		{name: "no home", exist: []string{system}, want: system},
		{name: "none", home: "/home/me", err: `finding a configuration: neither "/home/me/.patroniglue.yml" nor "/etc/patroniglue/patroniglue.toml" exists, name one with -config FILE`},
		{name: "none and no home", err: `finding a configuration: neither "$HOME/.patroniglue.yml" nor "/etc/patroniglue/patroniglue.toml" exists, name one with -config FILE`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := findFile(tt.flag, tt.home, func(path string) bool { return slices.Contains(tt.exist, path) })
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %q, %v, want %q, %s", got, err, tt.want, tt.err)
			}
		})
	}
}
