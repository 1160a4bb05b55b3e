package config

// historyConfig says how what changed is kept.
type History struct {
	// Size ("size") is how many changes are kept in memory. Default 10000.
	Size int

	// File ("file") takes every change as a line of JSON, and is read back at start.
	// SIGHUP opens it anew. Default "": they are kept in memory only.
	File string
}

func (h *History) read(t *table) {
	t.integer("size", &h.Size, 1, 1_000_000)
	t.text("file", &h.File)
	t.rejectUnknown()
}
