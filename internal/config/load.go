package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// findConfig says which file to load: the one of the -config flag, else the
// first of the usual places that exists.
func findFile(flag, home string, exists func(string) bool) (string, error) {
	if flag != "" {
		return flag, nil
	}
	old := filepath.Join(cmp.Or(home, "$HOME"), ".patroniglue.yml") // first, as 1.x had no other place
	if home != "" && exists(old) {
		return old, nil
	}
	const system = "/etc/patroniglue/patroniglue.toml"
	if exists(system) {
		return system, nil
	}
	return "", fmt.Errorf("finding a configuration: neither %q nor %q exists, name one with -config FILE", old, system)
}

// loadConfig reads a file: the YAML of patroniglue 1.x when it is called .yml
// or .yaml, else TOML. The error tells all mistakes, one a line, and leaves it
// to the caller to name the file.
func loadFile(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text, os.ReadFile)
}

// parseFile is loadConfig for a file that was read already.
func Parse(path string, text []byte, readFile func(string) ([]byte, error)) (c *Config, err error) {
	files := make(map[string][]byte)
	keep := func(name string) ([]byte, error) {
		content, err := readFile(name)
		if err == nil {
			files[name] = content
		}
		return content, err
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yml", ".yaml":
		c, err = parseLegacy(text, keep)
	default:
		c, err = parseTOML(text, keep)
	}
	if err != nil {
		return nil, err
	}
	c.Text, c.Files = text, files
	return c, nil
}

// readConfig finds and loads the configuration. Every line of its error names
// the file.
func FindAndLoad(flag string) (path string, cfg *Config, err error) {
	home, _ := os.UserHomeDir() // without a home only the other default file is looked for
	if path, err = findFile(flag, home, exists); err != nil {
		return "", nil, err
	}
	cfg, err = Load(path)
	return path, cfg, err
}

func Load(path string) (*Config, error) {
	cfg, err := loadFile(path)
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("reading the configuration %q: %w", path, at.Err)
	}
	if err != nil {
		return nil, &Error{path, err}
	}
	return cfg, nil
}

// configError has all mistakes of a file, one a line.
type Error struct {
	Path string
	Err  error
}

func (e *Error) Error() string {
	return e.Path + ": " + strings.ReplaceAll(e.Err.Error(), "\n", "\n"+e.Path+": ")
}

func (e *Error) Unwrap() error { return e.Err }

// exists is true, too, where we may not look: reading it will say so.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || errors.Is(err, fs.ErrPermission)
}
