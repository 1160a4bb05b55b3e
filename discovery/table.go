package discovery

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Limits of what is used of the DCS's contents. A snapshot reports what exceeds them.
const (
	MaxMembers  = 20_000   // of all clusters together
	maxDocument = 64 << 10 // bytes; Patroni's have less than 1 kB
	maxProblems = 100      // that a snapshot lists
)

// Snapshot is what the DCS listed at one moment. It is never changed.
type Snapshot struct {
	Members  []Announced // in the order of scopes and names
	Problems []string    // in words, of entries that cannot be used and belong to no member; in a fixed order
}

// table is the present contents of the keys; the watch keeps it up to date.
type table struct {
	namespaces []string
	scopes     map[string]bool // the only ones that count; nil = all
	members    map[place]*Announced
	leaders    map[place]string // the leader's name; the place's name is ""
	problems   map[string]string
	keys       int      // how many were read
	sampleKeys []string // some of them; if there are none, some keys outside the namespaces
	overLimit  int      // members over MaxMembers
}

// place is what a key is about: a member, or with an empty name a whole cluster.
type place struct {
	namespace   int
	scope, name string
}

func newTable(s *Settings) *table {
	t := &table{namespaces: s.Namespaces, members: make(map[place]*Announced), leaders: make(map[place]string), problems: make(map[string]string)}
	if len(s.Scopes) > 0 {
		t.scopes = make(map[string]bool)
		for _, scope := range s.Scopes {
			t.scopes[scope] = true
		}
	}
	return t
}

// kind is the meaning of a key.
type kind int

const (
	other  kind = iota // a key that does not matter here, such as status, history and config
	member             // a member
	leader             // the name of the leader
	group              // a member of a Citus group
)

// parseKey parses a key without its namespace.
func parseKey(rest string) (k kind, scope, name string) {
	scope, tail, _ := strings.Cut(rest, "/")
	if tail == "leader" {
		return leader, scope, ""
	}
	if name, ok := strings.CutPrefix(tail, "members/"); ok {
		return member, scope, name
	}
	// {scope}/{group}/members/{name} (AbstractDCS.client_path)
	if number, below, ok := strings.Cut(tail, "/"); ok && strings.HasPrefix(below, "members/") && number != "" && strings.Trim(number, "0123456789") == "" {
		return group, scope, ""
	}
	return other, scope, ""
}

// validName is the rule for names in the configuration, too: they are used in paths,
// agent lines and labels.
var validName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)

func isName(s string) bool { return s != "." && s != ".." && validName.MatchString(s) }

// put stores a key. changed says that the next snapshot differs, moved that the
// scope's leader changed.
func (t *table) put(namespace int, key string, value []byte, created int64) (scope string, changed, moved bool) {
	k, scope, name := parseKey(key[len(t.namespaces[namespace]):])
	if k == other || t.scopes != nil && !t.scopes[scope] {
		return scope, false, false
	}
	if problem := nameProblem(k, scope, name); problem != "" {
		return scope, t.addProblem(key, problem), false
	}
	at := place{namespace, scope, name}
	if k == leader {
		was, known := t.leaders[at]
		now := truncate(string(value[:min(len(value), 300)]))
		if known && was == now || !known && len(t.leaders) >= MaxMembers {
			return scope, false, false
		}
		t.leaders[at] = now
		return scope, false, true
	}
	m := parseMember(value)
	m.Scope, m.Name, m.Created = scope, name, created
	was := t.members[at]
	switch {
	case was == nil && len(t.members) >= MaxMembers:
		t.overLimit++
		return scope, t.overLimit == 1, false
	case was != nil && was.same(&m):
		return scope, false, false
	}
	t.members[at] = &m
	return scope, true, false
}

// countKey counts a key that was read, for the message about a wrong namespace.
func (t *table) countKey(key string) {
	if t.keys++; len(t.sampleKeys) < 3 {
		t.sampleKeys = append(t.sampleKeys, key)
	}
}

func (t *table) addProblem(key, problem string) bool {
	_, known := t.problems[key]
	if known || len(t.problems) >= maxProblems {
		return false
	}
	t.problems[key] = problem
	return true
}

func nameProblem(k kind, scope, name string) string {
	const want = `want letters, digits, ".", "_" and "-" only, at most 200, and not "." or ".."`
	switch {
	case !isName(scope):
		return "the scope: " + want
	case k == group:
		return "groups of Citus are not discovered: want a [[node]] for each of their members"
	case k == member && !isName(name):
		return "the member's name: " + want
	}
	return ""
}

// remove deletes a key. Its results are those of put.
func (t *table) remove(namespace int, key string) (scope string, changed, moved bool) {
	k, scope, name := parseKey(key[len(t.namespaces[namespace]):])
	if _, ok := t.problems[key]; ok {
		delete(t.problems, key)
		return scope, true, false
	}
	at := place{namespace, scope, name}
	switch k {
	case leader:
		_, moved = t.leaders[at]
		delete(t.leaders, at)
	case member:
		_, changed = t.members[at]
		delete(t.members, at)
	}
	return scope, changed, moved
}

// snapshot returns what is listed now. If several namespaces have the same scope, the
// first namespace counts.
func (t *table) snapshot() *Snapshot {
	s := &Snapshot{}
	first := make(map[string]int)
	for at := range t.members {
		if n, ok := first[at.scope]; !ok || at.namespace < n {
			first[at.scope] = at.namespace
		}
	}
	shared := make(map[string]string)
	found := make([]bool, len(t.namespaces))
	for at, m := range t.members {
		found[at.namespace] = true
		if n := first[at.scope]; n != at.namespace {
			shared[at.scope] = fmt.Sprintf("scope %q is below %q and below %q: only the first is used; want one namespace, or other scopes", at.scope, t.namespaces[n], t.namespaces[at.namespace])
			continue
		}
		s.Members = append(s.Members, *m)
	}
	slices.SortFunc(s.Members, func(a, b Announced) int {
		return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Name, b.Name))
	})
	for n, namespace := range t.namespaces {
		if !found[n] {
			s.Problems = append(s.Problems, t.explainEmpty(namespace))
		}
	}
	for key, problem := range t.problems {
		s.Problems = append(s.Problems, truncate(fmt.Sprintf("key %q: %s", key, problem)))
	}
	for _, problem := range shared {
		s.Problems = append(s.Problems, problem)
	}
	if t.overLimit > 0 {
		s.Problems = append(s.Problems, fmt.Sprintf("more than %d members are listed: the others are not watched; want scopes, or several supervisors", MaxMembers))
	}
	slices.Sort(s.Problems)
	if more := len(s.Problems) - maxProblems; more > 0 {
		s.Problems = append(s.Problems[:maxProblems], fmt.Sprintf("and %d more", more))
	}
	return s
}

// explainEmpty says where members were looked for when a namespace has none.
func (t *table) explainEmpty(namespace string) string {
	text := fmt.Sprintf(`no member is listed below %q (looked for %[1]s{scope}/members/{name}`, namespace)
	if len(t.scopes) > 0 {
		text += ", of the scopes that are configured"
	}
	switch {
	case len(t.sampleKeys) == 0:
		text += "; no key that may be read is there, nor elsewhere"
	case t.keys > 0:
		text += fmt.Sprintf("; keys there: %d, such as %q", t.keys, t.sampleKeys)
	default:
		text += fmt.Sprintf("; keys elsewhere are %q", t.sampleKeys)
	}
	return truncate(text) + `): want the namespace of Patroni's configuration, and there "etcd3:", because what it writes with "etcd:" (API v2) is not seen here`
}
