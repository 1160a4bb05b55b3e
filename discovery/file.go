package discovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/google/renameio/v2"
)

// File keeps the members of a [Book], so that a daemon which starts while etcd cannot be
// reached knows which members to poll. It is for one goroutine.
type File struct {
	path    string
	content []byte // as it was read or written last; nil = unknown
}

// NewFile makes a File that is at path, or will be.
func NewFile(path string) *File { return &File{path: path} }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Load reads the book. Its members have no API before [Book.Resolve]. Without a file the
// error is [fs.ErrNotExist].
func (f *File) Load() (Book, error) {
	var b Book
	text, err := os.ReadFile(f.path)
	if err == nil {
		err = b.UnmarshalJSON(text)
	}
	if err != nil {
		return Book{}, err
	}
	f.content = text
	return b, nil
}

// Save replaces the file, whole or not at all, unless it has the members of the book.
func (f *File) Save(b *Book) error {
	text, err := b.MarshalJSON()
	if err != nil || bytes.Equal(text, f.content) {
		return err
	}
	if err := renameio.WriteFile(f.path, text, 0o644, renameio.IgnoreUmask()); err != nil {
		return err
	}
	f.content = text
	return nil
}

// savedMember is a member in the file.
type savedMember struct {
	Scope    string    `json:"scope"`
	Name     string    `json:"name"`
	API      string    `json:"api_url"`
	Postgres string    `json:"postgres,omitzero"`
	Unlisted time.Time `json:"unlisted,omitzero"`
	Created  int64     `json:"created"`
}

// MarshalJSON writes the members that have an address, as the DCS announced it.
func (b *Book) MarshalJSON() ([]byte, error) {
	all := []savedMember{}
	for i := range b.Members {
		if m := &b.Members[i]; m.announced != nil {
			all = append(all, savedMember{m.Scope, m.Name, m.announced.String(), m.conn, m.Unlisted, m.created})
		}
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads what MarshalJSON wrote. An error leaves the book as it was. The
// members have no API before Resolve.
func (b *Book) UnmarshalJSON(text []byte) error {
	var all []savedMember
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	known := make(map[[2]string]bool)
	var members []Member
	for _, k := range all {
		api, err := parseAPI(k.API)
		place := [2]string{k.Scope, k.Name}
		if err != nil || !isName(k.Scope) || !isName(k.Name) || known[place] || k.Postgres != "" && !isHostPort(k.Postgres) {
			return fmt.Errorf("member %q of %q: want each once, with valid names and addresses", truncate(k.Name), truncate(k.Scope))
		}
		known[place] = true
		members = append(members, Member{Scope: k.Scope, Name: k.Name, Unlisted: k.Unlisted, announced: api, conn: k.Postgres, created: k.Created})
	}
	b.Members = members
	return nil
}
