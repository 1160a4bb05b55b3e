package discovery

import (
	"fmt"
)

// since says in words who came, moved, went or changed otherwise.
func Changes(was, is []Member) (changed []string) {
	type key struct{ scope, name string }
	known := make(map[key]*Member, len(was))
	for i := range was {
		known[key{was[i].Scope, was[i].Name}] = &was[i]
	}
	n := 0
	note := func(m *Member, what string) {
		const most = 10
		if n++; n <= most {
			changed = append(changed, m.Scope+"/"+m.Name+" "+what)
		} else {
			changed = append(changed[:most], fmt.Sprintf("and %d more", n-most))
		}
	}
	address := func(m *Member) string {
		if m.API == nil {
			return "nowhere"
		}
		return m.API.Host
	}
	for i := range is {
		m := &is[i]
		old := known[key{m.Scope, m.Name}]
		delete(known, key{m.Scope, m.Name})
		switch {
		case old == nil:
			note(m, "appeared at "+address(m))
		case old.Unlisted.IsZero() && !m.Unlisted.IsZero():
			note(m, "is unlisted")
		case !old.Unlisted.IsZero() && m.Unlisted.IsZero():
			note(m, "came back at "+address(m))
		case address(old) != address(m):
			note(m, "moved from "+address(old)+" to "+address(m))
		case old.API != nil && old.API.Scheme != m.API.Scheme || old.Postgres != m.Postgres || old.Problem != m.Problem:
			note(m, "changed")
		}
	}
	for i := range was {
		if m := &was[i]; known[key{m.Scope, m.Name}] != nil {
			note(m, "is forgotten")
		}
	}
	return changed
}
