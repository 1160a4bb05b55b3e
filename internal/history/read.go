package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"patroniglue/cluster"
)

// maxLine bounds a line. A change with a long reason is far below it.
const maxLine = 64 << 10

// read returns the latest changes in the file, oldest first, and whether there were more
// before them. It begins with PATH.1, the file that was rotated last, if that exists and
// is not compressed. Lines that are no changes are skipped, and logged once for all.
func (h *File) read() (changes []cluster.Change, more bool, err error) {
	latest := latestLines{most: h.size}
	_, rotatedErr := latest.add(h.path + ".1")
	h.torn, err = latest.add(h.path)
	var bad int
	var firstBad line
	var last uint64
	for l := range latest.all {
		var c struct {
			cluster.Change
			Lost int `json:"lost"`
		}
		switch err := json.Unmarshal(l.text, &c); {
		case err == nil && c.ID > last && c.Kind != "" && !c.At.IsZero():
			changes, last = append(changes, c.Change), c.ID
		case err == nil && c.Lost > 0 && c.Kind == "":
			more = true
		default:
			if bad++; bad == 1 {
				firstBad = l
			}
		}
	}
	if bad > 0 {
		h.log.Warn().Str("in", firstBad.path).Int("line", firstBad.number).Int("lines", bad).Msg("skipped lines of the history file that are no changes")
	}
	return changes, more || latest.seen > len(latest.ring), errors.Join(rotatedErr, err)
}

type line struct {
	path   string
	number int // from 1
	text   []byte
}

// latestLines keeps the latest lines that are not blank, because decoding older ones
// would be in vain.
type latestLines struct {
	most int    // lines to keep
	ring []line // the last one is at (seen-1) % most
	seen int    // lines so far
}

// add reads the lines of a file, if it exists. It reports whether the file ends in the
// middle of a line, as it does after a crash.
func (r *latestLines) add(path string) (torn bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() { // a device may have no end
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, maxLine)
	for number := 1; ; number++ {
		text, err := lines.ReadSlice('\n')
		whole := bytes.TrimSpace(text)
		for errors.Is(err, bufio.ErrBufferFull) { // too long for a change
			whole = []byte("too long")
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return false, err
		}
		if len(whole) > 0 {
			if len(r.ring) < r.most {
				r.ring = append(r.ring, line{})
			}
			l := &r.ring[r.seen%r.most]
			l.path, l.number, l.text = path, number, append(l.text[:0], whole...)
			r.seen++
		}
		if err == io.EOF {
			return len(text) > 0, nil
		}
	}
}

// all yields the lines, oldest first.
func (r *latestLines) all(yield func(line) bool) {
	for i := range r.ring {
		if !yield(r.ring[(max(0, r.seen-len(r.ring))+i)%len(r.ring)]) {
			return
		}
	}
}
