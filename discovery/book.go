package discovery

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"patroniglue/node"
)

// ForgetAfter is how long a member is kept that is neither listed nor answers polls.
const ForgetAfter = time.Hour

// Member is a member that is polled, or would be without its Problem.
type Member struct {
	Scope, Name string
	API         *url.URL  // where it is polled; nil = it is not polled, and Problem says why
	Postgres    string    // host:port, "" = unknown
	Unlisted    time.Time // since when it is not listed; zero while it is
	Problem     string    // in words; "" = none
	created     int64     // as Announced.Created
	announced   *url.URL  // before Rules
	conn        string    // as Postgres, before Rules
	document    string    // the problem of its present document, where announced is from an earlier one
}

// Book has the members that are known: listed now, or until not long ago. They are in
// the order of their scopes and names. It is for one goroutine.
type Book struct {
	Members []Member
}

// Read updates the book from a snapshot. A member that is no longer listed is still
// polled at its last address, because the DCS may have lost its keys. For the same
// reason a document that cannot be read does not remove the address of an earlier
// one; an address that may not be polled does.
func (b *Book) Read(s *Snapshot, r *Rules, now time.Time) {
	known := make(map[[2]string]*Member, len(b.Members))
	for i := range b.Members {
		m := &b.Members[i]
		known[[2]string{m.Scope, m.Name}] = m
	}
	next := make([]Member, 0, len(s.Members))
	for i := range s.Members {
		a := &s.Members[i]
		if !r.wants(a.Scope) {
			continue
		}
		m := Member{Scope: a.Scope, Name: a.Name, Problem: a.Problem, announced: a.API, conn: a.Postgres, created: a.Created}
		key := [2]string{a.Scope, a.Name}
		if was := known[key]; was != nil {
			if a.API == nil && was.announced != nil {
				m.announced, m.conn = was.announced, was.conn
				m.document = a.Problem + "; it is asked where it was"
			}
			delete(known, key)
		}
		next = append(next, m)
	}
	for _, was := range known {
		if !r.wants(was.Scope) || was.announced == nil { // it was never polled, so nothing is lost
			continue
		}
		m := *was
		m.Unlisted, m.document = cmp.Or(was.Unlisted, now), ""
		next = append(next, m)
	}
	b.Members = next
	b.Resolve(r)
}

// Resolve applies other rules to the members of the book.
func (b *Book) Resolve(r *Rules) {
	var members []Member // a new slice, because the old one may be in use elsewhere
	for _, m := range b.Members {
		if r.wants(m.Scope) {
			r.resolve(&m)
			members = append(members, m)
		}
	}
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Name, b.Name))
	})
	distinct(members)
	b.Members = members
}

// Forget removes and returns the members that are not listed and have not answered
// polls for [ForgetAfter]. answered returns when a member last answered.
func (b *Book) Forget(now time.Time, answered func(scope, name string) time.Time) (forgotten []Member) {
	expired := func(m *Member) bool {
		if m.Unlisted.IsZero() || now.Sub(m.Unlisted) < ForgetAfter || now.Sub(answered(m.Scope, m.Name)) < ForgetAfter {
			return false
		}
		forgotten = append(forgotten, *m)
		return true
	}
	if !slices.ContainsFunc(b.Members, func(m Member) bool { return !m.Unlisted.IsZero() }) {
		return nil
	}
	remaining := make([]Member, 0, len(b.Members))
	for i := range b.Members {
		if !expired(&b.Members[i]) {
			remaining = append(remaining, b.Members[i])
		}
	}
	b.Members = remaining
	return forgotten
}

// distinct gives an address that several members have to one of them: a listed member
// comes before one that is no longer listed, then the member whose key is older. So a
// member that was cloned with its configuration does not displace the original, and
// all supervisors decide alike.
func distinct(members []Member) {
	owners := make(map[string]int, len(members))
	address := func(m *Member) string { return node.Address(m.API) }
	before := func(a, b *Member) bool {
		if unlisted := !a.Unlisted.IsZero(); unlisted != !b.Unlisted.IsZero() {
			return !unlisted
		}
		return a.created < b.created
	}
	for i := range members {
		m := &members[i]
		if m.API == nil {
			continue
		}
		if j, taken := owners[address(m)]; !taken || before(m, &members[j]) {
			owners[address(m)] = i
		}
	}
	for i := range members {
		m := &members[i]
		if m.API == nil {
			continue
		}
		if owner := &members[owners[address(m)]]; owner != m {
			verb := "announces"
			if !owner.Unlisted.IsZero() {
				verb = "had"
			}
			m.Problem = fmt.Sprintf("%s is not asked for it: %s/%s %s this address too, and did so first; want an api_url of its own (restapi.connect_address)", m.API.Host, owner.Scope, owner.Name, verb)
			m.API = nil
		}
	}
}
