package discovery

import (
	"cmp"
	"encoding/json"
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
	m.Problem = m.document
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
