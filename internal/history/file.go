// Package history keeps the history of changes on disk: every change is appended to a
// file as a line of JSON (file.go), and a start reads the latest of them back (read.go).
package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
)

// retryAfter is how long after a failed write the next one is tried, unless a change
// comes earlier.
const retryAfter = 10 * time.Second

// File appends every change of a supervisor to a file, as JSON lines of
// [cluster.Change]. What cannot be written waits in the supervisor's own history, and is
// written when that is possible again. Only changes that the supervisor drops meanwhile
// are missing in the file: a line {"lost":N} is there instead.
//
// [File.Configure] and [File.Reopen] may be called by many goroutines at once, the other
// methods by one at a time.
type File struct {
	sup    *cluster.Supervisor // read-only
	base   zerolog.Logger      // read-only
	reopen chan struct{}       // receives when the file was rotated, or another one is wanted
	wanted atomic.Pointer[settings]

	// The rest is owned by the goroutine that calls the other methods.
	path    string // "" = no file
	size    int    // how many changes are read back
	log     zerolog.Logger
	f       *os.File // nil = not open
	last    uint64   // id of the last change in the file, or one before the first to write
	torn    bool     // the file ends in the middle of a line
	failing bool     // writing fails, which was logged
}

// settings say which file it is, and how many changes are read back.
type settings struct {
	path string // "" = none
	size int
}

// New makes a File for the changes of sup. It reads back at most size changes from path;
// an empty path is no file.
func New(sup *cluster.Supervisor, path string, size int, log zerolog.Logger) *File {
	h := &File{sup: sup, path: path, size: size, base: log, log: log.With().Str("file", path).Logger(), reopen: make(chan struct{}, 1)}
	h.wanted.Store(&settings{path, size})
	return h
}

// Restore gives the supervisor the changes that the file has. A file that cannot be read
// is logged: supervising goes on without it.
func (h *File) Restore() {
	if h.path == "" {
		return
	}
	changes, more, err := h.read()
	if err != nil {
		h.log.Error().Err(err).Msg("cannot read the history file, or only part of it")
	}
	h.sup.Restore(changes, more)
	_, h.last, _ = h.sup.After(0)
}

// Run writes changes as they come until ctx ends. Changes that come after that are
// written by [File.Flush].
func (h *File) Run(ctx context.Context) {
	news := h.sup.Subscribe(1) // one is enough to know that there are changes: Flush gets them from the supervisor
	defer news.Close()
	retry := time.NewTicker(retryAfter)
	defer retry.Stop()
	for {
		h.Flush()
		select {
		case <-news.C:
		case <-retry.C:
		case <-h.reopen:
			h.applyWanted()
		case <-ctx.Done():
			return
		}
	}
}

// Configure replaces the path, where "" is no file, and the number of changes to read
// back. The new file gets all that the supervisor remembers and the file does not have.
func (h *File) Configure(path string, size int) {
	h.wanted.Store(&settings{path, size})
	h.Reopen()
}

// Reopen makes Run close the file, which was rotated, and open the one that has its name
// then.
func (h *File) Reopen() {
	select {
	case h.reopen <- struct{}{}:
	default: // it will be reopened anyway
	}
}

// Flush writes the changes that the file does not have yet. A failure is logged when it
// begins and when it is over.
func (h *File) Flush() {
	if h.path == "" {
		return
	}
	err := h.writeNew()
	if err != nil {
		h.Close() // the cause may be the open file
	}
	switch {
	case err != nil && !h.failing:
		h.log.Error().Err(err).Msg("cannot write the history file, keeping the changes in memory")
	case err == nil && h.failing:
		h.log.Info().Msg("history file is written again")
	}
	h.failing = err != nil
}

// Close closes the file. The next Flush opens it again.
func (h *File) Close() {
	if h.f == nil {
		return
	}
	if err := h.f.Close(); err != nil {
		h.log.Warn().Err(err).Msg("closing the history file")
	}
	h.f = nil
}

// applyWanted closes the file, and turns to the wanted one where that is another.
func (h *File) applyWanted() {
	wanted := h.wanted.Load()
	h.size = wanted.size
	if wanted.path == h.path {
		h.Close()
		return
	}
	h.Flush()
	h.Close()
	h.path, h.torn, h.failing, h.log = wanted.path, false, false, h.base.With().Str("file", wanted.path).Logger()
	if h.path != "" {
		h.last = h.lastWritten()
	}
}

// lastWritten is the id of the last change in a file that was not written before. Where
// it has none, it is the one before the oldest that the supervisor remembers.
func (h *File) lastWritten() uint64 {
	changes, _, err := h.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Error().Err(err).Msg("cannot read the history file")
	}
	if n := len(changes); n > 0 {
		return changes[n-1].ID
	}
	kept, last, _ := h.sup.After(0)
	if len(kept) > 0 {
		return kept[0].ID - 1
	}
	return last
}

// writeNew appends the changes that the file does not have.
func (h *File) writeNew() error {
	if err := h.open(); err != nil {
		return err
	}
	changes, _, _ := h.sup.After(h.last)
	// Ids grow by one, so those that were dropped can be counted.
	if len(changes) > 0 && changes[0].ID > h.last+1 {
		if err := h.writeLine(map[string]any{"at": time.Now(), "lost": changes[0].ID - h.last - 1}); err != nil {
			return err
		}
		h.last = changes[0].ID - 1
	}
	for _, c := range changes {
		if err := h.writeLine(c); err != nil {
			return err
		}
		h.last = c.ID
	}
	return nil
}

func (h *File) open() error {
	if h.f != nil {
		return nil
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	h.f = f
	return nil
}

// writeLine writes one line with one system call. After half a line it begins a new one
// first: a blank line does no harm, and a change glued to half a line would be lost.
func (h *File) writeLine(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a change: %w", err)
	}
	if h.torn {
		text = append([]byte("\n"), text...)
	}
	n, err := h.f.Write(append(text, '\n'))
	h.torn = err != nil && (h.torn || n > 0)
	return err
}
