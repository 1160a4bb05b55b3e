package daemon

import (
	"bytes"
	"maps"
	"os"
)

// changedFiles finds out when the files that the configuration names have changed, for
// instance because a certificate was renewed. Files count as changed when two refreshes
// in a row read the same, because before that they may still be being written.
type changedFiles struct {
	seen  map[string][]byte // at the latest refresh; nil = the files in use
	tried map[string][]byte // that were returned as changed last
}

type filesState int

const (
	filesUnchanged filesState = iota // they are those in use
	filesUnsettled                   // they are being written, or were returned before
	filesChanged
)

// refresh reads the files again that are in use. Where they have changed, read gives
// their new content, and reads any other file.
func (w *changedFiles) refresh(inUse map[string][]byte) (read func(name string) ([]byte, error), state filesState) {
	now := readAgain(inUse)
	same := func(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }
	switch {
	case same(now, inUse):
		w.seen, w.tried = nil, nil
		return nil, filesUnchanged
	case w.seen == nil || !same(now, w.seen):
		w.seen = now
		return nil, filesUnsettled
	case w.tried != nil && same(now, w.tried):
		return nil, filesUnsettled
	}
	w.tried = now
	return func(name string) ([]byte, error) {
		if content, ok := now[name]; ok {
			return content, nil
		}
		return os.ReadFile(name)
	}, filesChanged
}

// readAgain reads files. One that cannot be read is left out; one that is no regular
// file keeps its content, because reading a pipe again would wait.
func readAgain(files map[string][]byte) map[string][]byte {
	now := make(map[string][]byte)
	for name, content := range files {
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() {
			content, err = os.ReadFile(name)
		}
		if err == nil {
			now[name] = content
		}
	}
	return now
}
