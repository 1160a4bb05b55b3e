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

// historyRetry is how long after a failed write the next is tried, if no change
// comes earlier.
const retryAfter = 10 * time.Second

// historyFile appends every change to a file, as JSON lines of [cluster.Change].
// It is the memory of a supervisor that has one itself: what cannot be written
// waits there, and is written when the disk has room again. Only what is
// dropped there meanwhile is missing, and {"lost":N} stands in its place.
type File struct {
	base   zerolog.Logger
	reopen chan struct{} // says that the file was rotated, or is another
	wanted atomic.Pointer[settings]

	// The rest is owned by whoever calls its methods: run before the daemon serves, then the loop of write.
	path    string // "" = no file
	size    int    // changes to read back
	log     zerolog.Logger
	f       *os.File
	last    uint64 // id of the last change in the file, or before the first
	torn    bool   // the file ends in half a line
	failing bool   // which was logged
}

// historySettings say which file it is, "" for none, and how many changes are read back.
type settings struct {
	path string
	size int
}

func New(path string, size int, log zerolog.Logger) *File {
	h := &File{path: path, size: size, base: log, log: log.With().Str("file", path).Logger(), reopen: make(chan struct{}, 1)}
	h.wanted.Store(&settings{path, size})
	return h
}

// restore gives the supervisor what the file has. A file that cannot be read is
// no reason not to supervise.
func (h *File) Restore(sup *cluster.Supervisor) {
	if h.path == "" {
		return
	}
	changes, more, err := h.read()
	if err != nil {
		h.log.Error().Err(err).Msg("history is not read back, or only in part")
	}
	sup.Restore(changes, more)
	_, h.last, _ = sup.After(0)
}

// write appends what changes until ctx ends, and opens the file anew when it was
// rotated.
func (h *File) Write(ctx context.Context, sup *cluster.Supervisor) {
	wake := sup.Subscribe(1) // only says that there is something: the supervisor keeps what
	defer wake.Close()
	retry := time.NewTicker(retryAfter)
	defer retry.Stop()
	for {
		h.Flush(sup)
		select {
		case <-wake.C:
		case <-retry.C:
		case <-h.reopen:
			h.change(sup)
		case <-ctx.Done():
			return
		}
	}
}

// change goes on with the file as it is wanted now. Another one gets all that is
// kept and that it does not have yet.
func (h *File) change(sup *cluster.Supervisor) {
	wanted := h.wanted.Load()
	h.size = wanted.size
	if wanted.path == h.path {
		h.Close()
		return
	}
	h.Flush(sup)
	h.Close()
	h.path, h.last, h.torn, h.failing, h.log = wanted.path, 0, false, false, h.base.With().Str("file", wanted.path).Logger()
	if h.path == "" {
		return
	}
	changes, _, err := h.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Error().Err(err).Msg("history is not read back")
	}
	if n := len(changes); n > 0 {
		h.last = changes[n-1].ID
	} else if kept, last, _ := sup.After(0); len(kept) > 0 {
		h.last = kept[0].ID - 1
	} else {
		h.last = last
	}
}

// flush writes what is not in the file yet. What is wrong is logged once, and
// once when it is over.
func (h *File) Flush(sup *cluster.Supervisor) {
	if h.path == "" {
		return
	}
	err := h.append(sup)
	if err != nil {
		h.Close() // what is wrong may be the open file
	}
	switch {
	case err != nil && !h.failing:
		h.log.Error().Err(err).Msg("history is not written: it is kept in memory until it can be")
	case err == nil && h.failing:
		h.log.Info().Msg("history is written again")
	}
	h.failing = err != nil
}

func (h *File) append(sup *cluster.Supervisor) error {
	if err := h.open(); err != nil {
		return err
	}
	changes, _, _ := sup.After(h.last)
	// Ids grow by one, so those that are gone can be counted.
	if len(changes) > 0 && changes[0].ID > h.last+1 {
		if err := h.line(map[string]any{"at": time.Now(), "lost": changes[0].ID - h.last - 1}); err != nil {
			return err
		}
		h.last = changes[0].ID - 1
	}
	for _, c := range changes {
		if err := h.line(c); err != nil {
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

// line writes one line at once. After half a one it begins a new one: a blank
// line is nothing, a glued one would be lost.
func (h *File) line(v any) error {
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

func (h *File) Close() {
	if h.f == nil {
		return
	}
	if err := h.f.Close(); err != nil {
		h.log.Warn().Err(err).Msg("closing the history")
	}
	h.f = nil
}

// configure makes the history be written to another file from now on, or to none.
func (h *File) Configure(path string, size int) {
	h.wanted.Store(&settings{path, size})
	h.Rotated()
}

// rotated makes the file be opened anew.
func (h *File) Rotated() {
	select {
	case h.reopen <- struct{}{}:
	default: // it is about to be
	}
}
