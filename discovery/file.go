package discovery

import (
	"encoding/json"
	"fmt"
	"time"
)

// kept is a member in a file.
type kept struct {
	Scope    string    `json:"scope"`
	Name     string    `json:"name"`
	API      string    `json:"api_url"`
	Postgres string    `json:"postgres,omitzero"`
	Left     time.Time `json:"left,omitzero"`
	Created  int64     `json:"created"`
}

// MarshalJSON writes everybody who has an address, as the DCS announced it.
func (b *Book) MarshalJSON() ([]byte, error) {
	all := []kept{}
	for i := range b.Members {
		if m := &b.Members[i]; m.announced != nil {
			all = append(all, kept{m.Scope, m.Name, m.announced.String(), m.Postgres, m.Left, m.created})
		}
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads what MarshalJSON wrote, all of it or nothing. Nobody is to
// be asked before Resolve.
func (b *Book) UnmarshalJSON(text []byte) error {
	var all []kept
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	known := make(map[[2]string]bool)
	var members []Member
	for _, k := range all {
		api, err := parseAPI(k.API)
		place := [2]string{k.Scope, k.Name}
		if err != nil || !isName(k.Scope) || !isName(k.Name) || known[place] || k.Postgres != "" && !isHostPort(k.Postgres) {
			return fmt.Errorf("member %q of %q: want each once, with valid names and addresses", cut(k.Name), cut(k.Scope))
		}
		known[place] = true
		members = append(members, Member{Scope: k.Scope, Name: k.Name, Postgres: k.Postgres, Left: k.Left, announced: api, created: k.Created})
	}
	b.Members = members
	return nil
}
