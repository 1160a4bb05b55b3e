package haproxy

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// LuaName is the name of the file that holds connections.
const LuaName = "patroniglue-hold.lua"

// HoldLua is that file.
//
//go:embed hold.lua
var HoldLua []byte

// Write writes a rendered haproxy.cfg, and with hold the Lua file that it loads, into dir.
// It prints what it has written. A haproxy.cfg that it has not written itself stays.
func Write(dir string, text []byte, hold bool, stdout io.Writer) error {
	path := filepath.Join(dir, "haproxy.cfg")
	ours, _, _ := bytes.Cut(text, []byte(". ")) // printed by "patroniglue haproxy"
	switch old, err := os.ReadFile(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("replacing a haproxy.cfg: %w", err)
	case !bytes.HasPrefix(old, ours):
		return fmt.Errorf("replacing %s: its first line does not say that this command has written it: move it away first", path)
	}
	var written []string
	if hold { // first: a reload in between finds all that it needs
		lua := filepath.Join(dir, LuaName)
		if err := renameio.WriteFile(lua, HoldLua, 0o644, renameio.IgnoreUmask()); err != nil {
			return fmt.Errorf("writing %s: %w", lua, err)
		}
		written = append(written, lua)
	}
	if err := renameio.WriteFile(path, text, 0o644, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	for _, file := range append(written, path) {
		fmt.Fprintln(stdout, "wrote", file)
	}
	_, err := fmt.Fprintln(stdout, "check it: haproxy -c -f", path)
	return err
}
