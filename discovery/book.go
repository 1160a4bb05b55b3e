package discovery

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ForgetAfter is how long a member is kept that is neither listed nor answers.
const ForgetAfter = time.Hour

// Member is somebody to ask.
type Member struct {
	Scope, Name string
	API         *url.URL  // nil = nobody is asked, Problem says why
	Postgres    string    // host:port, "" = unknown
	Left        time.Time // since when it is not listed; zero while it is
	Problem     string    // "" = none
	created     int64
	announced   *url.URL // before Rules
	document    string   // what is wrong with its document, where announced is of an earlier one
}

// Book is who is known: listed now, or not long ago. Members are in the order of
// their scopes and names. It is for one goroutine.
type Book struct {
	Members []Member
}

// Read takes in what is listed now. Who is not listed any more has left, but is
// asked on where it was: the DCS may have lost its keys. A document that cannot be
// read does not take away the address of an earlier one, for the same reason; an
// address that may not be asked does.
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
		m := Member{Scope: a.Scope, Name: a.Name, Postgres: a.Postgres, Problem: a.Problem, announced: a.API, created: a.Created}
		key := [2]string{a.Scope, a.Name}
		if was := known[key]; was != nil {
			if a.API == nil && was.announced != nil {
				m.announced, m.Postgres = was.announced, was.Postgres
				m.document = a.Problem + "; it is asked where it was"
			}
			delete(known, key)
		}
		next = append(next, m)
	}
	for _, was := range known {
		if !r.wants(was.Scope) || was.announced == nil { // nobody was ever asked for it: nothing is lost
			continue
		}
		m := *was
		m.Left, m.document = cmp.Or(was.Left, now), ""
		next = append(next, m)
	}
	b.Members = next
	b.Resolve(r)
}

// Resolve is Read without anything new: for other rules.
func (b *Book) Resolve(r *Rules) {
	var members []Member // another one: who has a book of before may keep it
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

// Forget drops who left and was neither listed nor answered for [ForgetAfter], and
// gives them. answered tells when a member last did.
func (b *Book) Forget(now time.Time, answered func(scope, name string) time.Time) (forgotten []Member) {
	over := func(m *Member) bool {
		if m.Left.IsZero() || now.Sub(m.Left) < ForgetAfter || now.Sub(answered(m.Scope, m.Name)) < ForgetAfter {
			return false
		}
		forgotten = append(forgotten, *m)
		return true
	}
	if !slices.ContainsFunc(b.Members, func(m Member) bool { return !m.Left.IsZero() }) {
		return nil
	}
	kept := make([]Member, 0, len(b.Members))
	for i := range b.Members {
		if !over(&b.Members[i]) {
			kept = append(kept, b.Members[i])
		}
	}
	b.Members = kept
	return forgotten
}

// distinct leaves an address that several members have to one of them: listed
// before left, and then to whose key was there first, so that one that was cloned
// with its configuration does not take another out, and all supervisors agree.
func distinct(members []Member) {
	owners := make(map[string]int, len(members))
	address := func(m *Member) string {
		return strings.ToLower(joinHostPort(m.API.Hostname(), cmp.Or(m.API.Port(), m.API.Scheme)))
	}
	before := func(a, b *Member) bool {
		if left := !a.Left.IsZero(); left != !b.Left.IsZero() {
			return !left
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
			if !owner.Left.IsZero() {
				verb = "had"
			}
			m.Problem = fmt.Sprintf("%s is not asked for it: %s/%s %s this address too, and did so first; want an api_url of its own (restapi.connect_address)", m.API.Host, owner.Scope, owner.Name, verb)
			m.API = nil
		}
	}
}
