package config

// History is [history]: the record of changes.
type History struct {
	// Size ("size") is how many changes are kept in memory. Default 10000.
	Size int

	// File ("file") is the file to which each change is appended as a line of JSON. It
	// is read back at start, and SIGHUP opens it again. Default "": changes are kept in
	// memory only.
	File string
}

func (h *History) read(t *table) {
	t.integer("size", &h.Size, 1, 1_000_000)
	t.text("file", &h.File)
	t.rejectUnknown()
}
