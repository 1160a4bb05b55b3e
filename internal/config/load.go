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

// FindAndLoad loads the file that the -config flag names or, when flag is "", the
// first of the usual files that exists. It returns the file's path too.
func FindAndLoad(flag string) (path string, c *Config, err error) {
	home, _ := os.UserHomeDir() // without a home only the file in /etc is looked for
	if path, err = findFile(flag, home, exists); err != nil {
		return "", nil, err
	}
	c, err = Load(path)
	return path, c, err
}

// findFile returns the path to load: flag, or the first of the usual files that exists.
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

// exists is true, too, for a file that we may not see: reading it gives the reason.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// Load reads the configuration file at path, as Parse does, and the files that it
// names. Its errors name the file.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = at.Err // the message below has the path already
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %q: %w", path, err)
	}
	return Parse(path, text, os.ReadFile)
}

// Parse makes a configuration of the text of a file: the YAML of patroniglue 1.x if
// path ends in .yml or .yaml, else TOML. readFile reads the files that the text names,
// such as certificates. The error is an *Error.
func Parse(path string, text []byte, readFile func(string) ([]byte, error)) (*Config, error) {
	files := make(map[string][]byte)
	readAndKeep := func(name string) ([]byte, error) {
		content, err := readFile(name)
		if err == nil {
			files[name] = content
		}
		return content, err
	}
	parse := parseTOML
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yml", ".yaml":
		parse = parseLegacy
	}
	c, err := parse(text, readAndKeep)
	if err != nil {
		return nil, &Error{path, err}
	}
	c.Text, c.Files = text, files
	return c, nil
}

// Error says what is wrong with a configuration file: all mistakes at once, one a
// line, and each line begins with the file's path.
type Error struct {
	Path string
	Err  error // without the path
}

func (e *Error) Error() string {
	return e.Path + ": " + strings.ReplaceAll(e.Err.Error(), "\n", "\n"+e.Path+": ")
}

func (e *Error) Unwrap() error { return e.Err }
