package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// readConfig finds and loads the configuration. Every line of its error names
// the file.
func Find(flag string) (path string, cfg *Config, err error) {
	home, _ := os.UserHomeDir() // without a home only the other default file is looked for
	if path, err = find(flag, home, Exists); err != nil {
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
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || errors.Is(err, fs.ErrPermission)
}
