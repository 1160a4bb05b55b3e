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

// read gives the latest changes, oldest first, and whether there are more. It
// begins with the file that was rotated last, if that is FILE.1 and still text. One
// log line tells of all lines that are none.
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
		h.log.Warn().Str("in", firstBad.path).Int("line", firstBad.number).Int("lines", bad).Msg("history has lines that are no changes: skipped")
	}
	return changes, more || latest.seen > len(latest.ring), errors.Join(rotatedErr, err)
}

type line struct {
	path   string
	number int
	text   []byte
}

// latestLines keeps the latest lines that are not blank: old ones are not worth
// decoding.
type latestLines struct {
	most int
	ring []line
	seen int
}

// add reads a file, if there is one. Torn: it ends in half a line, because a crash
// came in between.
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
		for errors.Is(err, bufio.ErrBufferFull) { // no line of ours
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

// all gives them, the oldest first.
func (r *latestLines) all(yield func(line) bool) {
	for i := range r.ring {
		if !yield(r.ring[(max(0, r.seen-len(r.ring))+i)%len(r.ring)]) {
			return
		}
	}
}

// maxHistoryLine bounds a line: a change has one reason, which is no long text.
const maxLine = 64 << 10
