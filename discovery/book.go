package discovery

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ForgetAfter is how long a member is kept that is neither listed nor answers.
const ForgetAfter = time.Hour

// Rules say what becomes of an address.
type Rules struct {
	Scopes  []string          // of interest; empty = all
	Allow   []netip.Prefix    // that may be asked; empty = all. Who dials enforces it, too: names resolve to anything
	Rewrite map[string]string // from an announced host:port, or host, to what is asked instead
	APIPort string            // instead of the announced one where Rewrite has nothing; "" = as announced
}

// Allows reports whether an address may be asked.
func (r *Rules) Allows(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return len(r.Allow) == 0 || slices.ContainsFunc(r.Allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Member is somebody to ask.
type Member struct {
	Scope, Name string
	API         *url.URL  // nil = nobody is asked, Problem says why
	Postgres    string    // host:port, "" = unknown
	Left        time.Time // since when it is not listed; zero while it is
	Problem     string    // "" = none
	created     int64
	announced   *url.URL // before Rules
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
				m.Problem += "; it is asked where it was"
			}
			delete(known, key)
		}
		next = append(next, m)
	}
	for _, was := range known {
		if !r.wants(was.Scope) {
			continue
		}
		m := *was
		m.Left = cmp.Or(was.Left, now)
		if m.announced != nil {
			m.Problem = ""
		}
		next = append(next, m)
	}
	slices.SortFunc(next, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Name, b.Name))
	})
	for i := range next {
		r.resolve(&next[i])
	}
	distinct(next)
	b.Members = next
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

func (r *Rules) wants(scope string) bool {
	return len(r.Scopes) == 0 || slices.Contains(r.Scopes, scope)
}

// resolve finds where to ask m.
func (r *Rules) resolve(m *Member) {
	m.API = nil
	if m.announced == nil {
		return
	}
	u := *m.announced
	host, port := u.Hostname(), u.Port()
	if to, ok := r.Rewrite[u.Host]; ok {
		u.Host = to
	} else if to, ok := r.Rewrite[host]; ok {
		u.Host = joinHostPort(to, cmp.Or(r.APIPort, port))
	} else if r.APIPort != "" {
		u.Host = joinHostPort(host, r.APIPort)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !r.Allows(ip) {
		m.Problem = fmt.Sprintf("%s is not asked: it is not in discovery.allow", u.Host)
		return
	}
	m.API = &u
}

func joinHostPort(host, port string) string {
	if port == "" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
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
