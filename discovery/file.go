package discovery

import (
	"encoding/json"
	"fmt"
	"time"
)

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
