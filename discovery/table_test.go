package discovery

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/discovery/discoverytest"
)

func TestParseKey(t *testing.T) {
	for _, tt := range []struct {
		key, scope, name string
		kind             kind
	}{
		{"main/members/pg1", "main", "pg1", member},
		{"main/leader", "main", "", leader},
		{"main/status", "main", "", other},
		{"main/optime/leader", "main", "", other},
		{"main/members", "main", "", other},
		{"main/members/", "main", "", member}, // and its name is refused
		{"main/members/a/b", "main", "a/b", member},
		{"main/0/members/pg1", "main", "", group},
		{"main/0/leader", "main", "", other},
		{"main/x/members/pg1", "main", "", other},
		{"eu/main/members/pg1", "eu", "", other}, // another namespace, below this one
		{"/members/pg1", "", "pg1", member},
		{"", "", "", other},
	} {
		if k, scope, name := parseKey(tt.key); k != tt.kind || scope != tt.scope || name != tt.name {
			t.Errorf("%q: %d %q %q, want %d %q %q", tt.key, k, scope, name, tt.kind, tt.scope, tt.name)
		}
	}
}

func TestParseMember(t *testing.T) {
	for _, tt := range []struct {
		document, api, postgres, problem string
	}{
		{`{"api_url":"http://10.0.0.1:8008/patroni","conn_url":"postgres://10.0.0.1:5432/postgres"}`, "http://10.0.0.1:8008", "10.0.0.1:5432", ""},
		{`{"api_url":"https://pg1.example:8008/patroni","conn_url":"postgres://pg1.example/postgres"}`, "https://pg1.example:8008", "pg1.example:5432", ""},
		{`{"api_url":"http://[2001:db8::1]:8008/patroni","conn_url":"postgres://[2001:db8::1]:5433/postgres"}`, "http://[2001:db8::1]:8008", "[2001:db8::1]:5433", ""},
		{`{"api_url":"http://pg1/patroni","conn_url":7}`, "http://pg1", "", ""},
		{``, "", "", "its document is no JSON object: unexpected end of JSON input (got nothing)"},
		{`no json`, "", "", "its document is no JSON object: invalid character 'o' in literal null (expecting 'u') (got \"no json\")"},
		{`[]`, "", "", "its document is no JSON object: "},
		{`{}`, "", "", `its document has no api_url, want one such as "http://10.0.0.11:8008/patroni" (got nothing)`},
		{`{"api_url":7}`, "", "", `its document has no api_url, want one such as "http://10.0.0.11:8008/patroni" (got "7")`},
		{`{"api_url":"ftp://10.0.0.1:8008"}`, "", "", "its api_url: want http:// or https://, a host and a port"},
		{`{"api_url":"http://10.0.0.1:0/"}`, "", "", "its api_url: want http:// or https://, a host and a port"},
		{`{"api_url":"http://10.0.0.1:/"}`, "", "", "its api_url: want http:// or https://, a host and a port"},
		{`{"api_url":"http://u:p@10.0.0.1:8008/"}`, "", "", "its api_url: want http:// or https://, a host and a port"},
		{`{"api_url":"http://u:canary@10.0.0.1:x/"}`, "", "", `its api_url: want http:// or https://, a host and a port, such as "http://10.0.0.11:8008/patroni" (got "\"http://...@10.0.0.1:x/\"")`},
		{`postgres://u:canary@10.0.0.1/db`, "", "", `its document is no JSON object: invalid character 'p' looking for beginning of value (got "postgres://...@10.0.0.1/db")`},
		{`{"api_url":"http://a b:8008/"}`, "", "", "its api_url: want http:// or https://, a host and a port"},
		{`{"api_url":"http://[fe80::1%25eth0]:8008/"}`, "", "", "its api_url: want http:// or https://, a host and a port"},
		{`{"api_url":"` + strings.Repeat("a", 70000) + `"}`, "", "", "its document has 70014 bytes, want at most 65536"},
	} {
		m := parseMember([]byte(tt.document))
		api := ""
		if m.API != nil {
			api = m.API.String()
		}
		if api != tt.api || m.Postgres != tt.postgres || !strings.HasPrefix(m.Problem, tt.problem) || (m.Problem == "") != (tt.problem == "") {
			t.Errorf("%.100s: %q %q %q, want %q %q %q", tt.document, api, m.Postgres, m.Problem, tt.api, tt.postgres, tt.problem)
		}
	}
}

// tableOf has keys of one namespace, and is made by puts alone.
func tableOf(s *Settings, keys map[string]string) *table {
	t := newTable(s)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		t.countKey(key)
		for n, namespace := range s.Namespaces {
			if strings.HasPrefix(key, namespace) {
				t.put(n, key, []byte(keys[key]), 1)
			}
		}
	}
	return t
}

func TestProblems(t *testing.T) {
	pg1 := discoverytest.Document("http://10.0.0.1:8008")
	for _, tt := range []struct {
		name     string
		settings Settings
		keys     map[string]string
		want     []string
	}{
		{"nothing wrong", Settings{Namespaces: []string{"/service/"}}, map[string]string{"/service/main/members/pg1": pg1, "/service/main/config": ""}, nil},
		{"wrong namespace", Settings{Namespaces: []string{"/db/"}}, map[string]string{"/db/main/config": "{}"},
			[]string{`no member is listed below "/db/" (looked for /db/{scope}/members/{name}; keys there: 1, such as ["/db/main/config"]): want the namespace of Patroni's configuration, and there "etcd3:", because what it writes with "etcd:" (API v2) is not seen here`}},
		{"nothing at all", Settings{Namespaces: []string{"/db/"}, Scopes: []string{"main"}}, nil,
			[]string{`no member is listed below "/db/" (looked for /db/{scope}/members/{name}, of the scopes that are configured; no key that may be read is there, nor elsewhere): want the namespace of Patroni's configuration, and there "etcd3:", because what it writes with "etcd:" (API v2) is not seen here`}},
		{"a shared scope", Settings{Namespaces: []string{"/a/", "/b/"}}, map[string]string{"/a/main/members/pg1": pg1, "/b/main/members/pg1": pg1, "/b/main/members/pg2": pg1},
			[]string{`scope "main" is below "/a/" and below "/b/": only the first is used; want one namespace, or other scopes`}},
		{"hostile names", Settings{Namespaces: []string{"/service/"}}, map[string]string{"/service/main/members/pg1": pg1, "/service/main/members/<b>\x1b[1m": pg1, "/service/ma\nin/members/pg1": pg1, "/service/main/members/..": pg1},
			[]string{
				`key "/service/ma\nin/members/pg1": the scope: want letters, digits, ".", "_" and "-" only, at most 200, and not "." or ".."`,
				`key "/service/main/members/..": the member's name: want letters, digits, ".", "_" and "-" only, at most 200, and not "." or ".."`,
				`key "/service/main/members/<b>\x1b[1m": the member's name: want letters, digits, ".", "_" and "-" only, at most 200, and not "." or ".."`,
			}},
	} {
		if got := tableOf(&tt.settings, tt.keys).snapshot().Problems; !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%q\nwant\n%q", tt.name, got, tt.want)
		}
	}
}

// What is listed is bounded, whatever is written to etcd.
func TestBounds(t *testing.T) {
	table := newTable(&Settings{Namespaces: []string{"/service/"}})
	document := []byte(discoverytest.Document("http://10.0.0.1:8008"))
	for n := range MaxMembers + 1000 {
		table.put(0, fmt.Sprintf("/service/main/members/pg%d", n), document, 1)
		table.put(0, fmt.Sprintf("/service/main/members/pg %d", n), document, 1)
		table.put(0, fmt.Sprintf("/service/scope%d/leader", n), document, 1)
	}
	s := table.snapshot()
	if len(s.Members) != MaxMembers || len(table.leaders) > MaxMembers || len(s.Problems) != maxProblems+1 || s.Problems[maxProblems] != "and 1 more" {
		t.Errorf("%d members, %d leaders, %d problems, the last %q", len(s.Members), len(table.leaders), len(s.Problems), s.Problems[len(s.Problems)-1])
	}
}

// listed makes a snapshot of members that are written as scope/name=api_url.
func listed(members ...string) *Snapshot {
	s := &Snapshot{}
	for i, m := range members {
		place, api, _ := strings.Cut(m, "=")
		scope, name, _ := strings.Cut(place, "/")
		a := Announced{Scope: scope, Name: name, Created: int64(i + 1)}
		if u, err := parseAPI(api); err == nil {
			a.API = u
		} else {
			a.Problem = "its api_url"
		}
		s.Members = append(s.Members, a)
	}
	return s
}

func (b *Book) String() string {
	var all []string
	for _, m := range b.Members {
		text := m.Scope + "/" + m.Name
		if m.API != nil {
			text += "=" + m.API.String()
		}
		if !m.Unlisted.IsZero() {
			text += " unlisted " + m.Unlisted.UTC().Format("15:04")
		}
		if m.Problem != "" {
			text += " (" + m.Problem + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}

func TestBook(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	later := func(d time.Duration) time.Time { return noon.Add(d) }
	const one, two = "main/pg1=http://10.0.0.1:8008", "main/pg2=http://10.0.0.2:8008"
	all := &Rules{}
	for _, tt := range []struct {
		name  string
		rules *Rules
		reads []*Snapshot // an hour apart, but a second
		want  string
	}{
		{"appears", all, []*Snapshot{listed(one), listed(one, two)}, one + "\n" + two},
		{"moves", all, []*Snapshot{listed(one), listed("main/pg1=https://10.0.0.9:8009")}, "main/pg1=https://10.0.0.9:8009"},
		{"is unlisted, and stays so", all, []*Snapshot{listed(one, two), listed(one), listed(one)}, one + "\n" + two + " unlisted 12:01"},
		{"comes back", all, []*Snapshot{listed(one, two), listed(one), listed(one, two)}, one + "\n" + two},
		{"all keys are gone", all, []*Snapshot{listed(one, two), listed()}, one + " unlisted 12:01\n" + two + " unlisted 12:01"},
		{"a document that cannot be read keeps the address", all, []*Snapshot{listed(one), listed("main/pg1=rubbish")}, one + " (its api_url; it is asked where it was)"},
		{"and is then unlisted", all, []*Snapshot{listed(one), listed("main/pg1=rubbish"), listed()}, one + " unlisted 12:02"},
		{"one that never could be read, and goes", all, []*Snapshot{listed("main/pg1=rubbish"), listed()}, ""},
		{"outside of allow", &Rules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}, []*Snapshot{listed(one, two)},
			one + "\nmain/pg2 (10.0.0.2:8008 is not asked: it is not in discovery.allow)"},
		{"moves outside of allow", &Rules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}, []*Snapshot{listed(one), listed("main/pg1=http://10.0.0.9:8008")},
			"main/pg1 (10.0.0.9:8008 is not asked: it is not in discovery.allow)"},
		{"an IPv4 address in IPv6", &Rules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}, []*Snapshot{listed("main/pg1=http://[::ffff:10.0.0.1]:8008")}, "main/pg1=http://[::ffff:10.0.0.1]:8008"},
		{"names are judged when they are dialled", &Rules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}, []*Snapshot{listed("main/pg1=http://pg1:8008")}, "main/pg1=http://pg1:8008"},
		{"other scopes", &Rules{Scopes: []string{"main"}}, []*Snapshot{listed(one, "other/pg1=http://10.0.0.3:8008")}, one},
		{"rewritten", &Rules{APIPort: "9", Rewrite: map[string]string{"10.0.0.1:8008": "192.0.2.1:18011", "10.0.0.2": "2001:db8::1"}}, []*Snapshot{listed(one, two, "main/pg3=http://pg3:8008", "main/pg4=http://pg4")},
			"main/pg1=http://192.0.2.1:18011\nmain/pg2=http://[2001:db8::1]:9\nmain/pg3=http://pg3:9\nmain/pg4=http://pg4:9"},
		{"rewritten out of allow", &Rules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Rewrite: map[string]string{"10.0.0.1:8008": "192.0.2.1:18011"}}, []*Snapshot{listed(one)},
			"main/pg1 (192.0.2.1:18011 is not asked: it is not in discovery.allow)"},
		{"one address twice: who was there first", all, []*Snapshot{listed("main/pg2=http://10.0.0.1:8008", one)},
			"main/pg1 (10.0.0.1:8008 is not asked for it: main/pg2 announces this address too, and did so first; want an api_url of its own (restapi.connect_address))\nmain/pg2=http://10.0.0.1:8008"},
		{"one address twice: who is listed", all, []*Snapshot{listed(one), listed("main/pg2=http://10.0.0.1:8008")},
			"main/pg1 unlisted 12:01 (10.0.0.1:8008 is not asked for it: main/pg2 announces this address too, and did so first; want an api_url of its own (restapi.connect_address))\nmain/pg2=http://10.0.0.1:8008"},
		{"one address in two clusters", all, []*Snapshot{listed(one, "other/pg1=https://10.0.0.1:8008")},
			one + "\nother/pg1 (10.0.0.1:8008 is not asked for it: main/pg1 announces this address too, and did so first; want an api_url of its own (restapi.connect_address))"},
	} {
		var b Book
		for i, s := range tt.reads {
			b.Read(s, tt.rules, later(time.Duration(i)*time.Minute))
		}
		if got := b.String(); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

// An address that every machine has leads to this machine, not to the member.
func TestOwnAddresses(t *testing.T) {
	const api = " is not asked: every machine has this address; want restapi.connect_address in Patroni's configuration to be an address that others reach, or this one in discovery.allow"
	const conn = " is not its PostgreSQL: every machine has this address; want postgresql.connect_address in Patroni's configuration to be an address that others reach, or this one in discovery.allow"
	notNamed := func(s string) string {
		return strings.Replace(s, ": every", ": it is not in discovery.allow, and every", 1)
	}
	networks := func(all ...string) (out []netip.Prefix) {
		for _, s := range all {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tt := range []struct {
		api, conn    string
		rules        Rules
		wantAPI      string
		wantPostgres string
		wantProblem  string
	}{
		{"10.0.0.1:8008", "10.0.0.1:5432", Rules{}, "10.0.0.1:8008", "10.0.0.1:5432", ""},
		{"127.0.0.1:8008", "127.0.0.1:5432", Rules{}, "", "", "127.0.0.1:8008" + api},
		{"127.0.1.1:8008", "", Rules{}, "", "", "127.0.1.1:8008" + api},
		{"0.0.0.0:8008", "", Rules{}, "", "", "0.0.0.0:8008" + api},
		{"[::1]:8008", "", Rules{}, "", "", "[::1]:8008" + api},
		{"[::]:8008", "", Rules{}, "", "", "[::]:8008" + api},
		{"[::ffff:127.0.0.1]:8008", "", Rules{}, "", "", "[::ffff:127.0.0.1]:8008" + api},
		{"localhost:8008", "", Rules{}, "", "", "localhost:8008" + api},
		{"LocalHost.:8008", "", Rules{APIPort: "9"}, "", "", "LocalHost.:8008" + api},
		{"pg1.localhost:8008", "", Rules{}, "", "", "pg1.localhost:8008" + api},
		{"localhost.example:8008", "", Rules{}, "localhost.example:8008", "", ""},
		{"10.0.0.1:8008", "localhost:5432", Rules{}, "10.0.0.1:8008", "", "localhost:5432" + conn},
		{"10.0.0.1:8008", "[::1]:5432", Rules{Allow: networks("10.0.0.0/8")}, "10.0.0.1:8008", "", "[::1]:5432" + notNamed(conn)},
		{"127.0.0.1:8008", "127.0.0.1:5432", Rules{Allow: networks("127.0.0.0/8")}, "127.0.0.1:8008", "127.0.0.1:5432", ""},
		{"localhost:8008", "localhost:5432", Rules{Allow: networks("::1/128")}, "localhost:8008", "localhost:5432", ""},
		{"127.0.0.2:8008", "", Rules{Allow: networks("127.0.0.1/32")}, "", "", "127.0.0.2:8008" + notNamed(api)},
		{"127.0.0.1:8008", "", Rules{Allow: networks("0.0.0.0/0")}, "", "", "127.0.0.1:8008" + notNamed(api)},
		{"127.0.0.1:8008", "", Rules{Rewrite: map[string]string{"127.0.0.1:8008": "10.0.0.1:8008"}}, "10.0.0.1:8008", "", ""},
		{"10.0.0.1:8008", "", Rules{Rewrite: map[string]string{"10.0.0.1:8008": "127.0.0.1:18008"}}, "127.0.0.1:18008", "", ""}, // a tunnel
	} {
		s := listed("main/pg1=http://" + tt.api)
		s.Members[0].Postgres = tt.conn
		var b Book
		b.Read(s, &tt.rules, time.Time{})
		m, got := &b.Members[0], ""
		if m.API != nil {
			got = m.API.Host
		}
		if got != tt.wantAPI || m.Postgres != tt.wantPostgres || m.Problem != tt.wantProblem {
			t.Errorf("%s and %s: %q, %q, %q, want %q, %q, %q", tt.api, tt.conn, got, m.Postgres, m.Problem, tt.wantAPI, tt.wantPostgres, tt.wantProblem)
		}
	}
}

// What is kept in a file is known again, and nothing else is taken from there.
func TestKept(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var b, again Book
	b.Read(listed("main/pg2=http://10.0.0.1:8008", "main/pg1=http://10.0.0.1:8008", "main/pg3=rubbish", "other/pg1=http://[2001:db8::1]:8008"), &Rules{}, noon)
	b.Read(listed("main/pg2=http://10.0.0.1:8008", "main/pg1=http://10.0.0.1:8008"), &Rules{}, noon)
	text, err := b.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := again.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	again.Resolve(&Rules{})
	if got, want := again.String(), strings.Replace(b.String(), "main/pg3 unlisted 12:00 (its api_url)\n", "", 1); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	again.Resolve(&Rules{Scopes: []string{"other"}, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if got := again.String(); got != "other/pg1 unlisted 12:00 ([2001:db8::1]:8008 is not asked: it is not in discovery.allow)" {
		t.Errorf("by other rules: %s", got)
	}
	for _, bad := range []string{"", "{}", "x", `[{"scope":"a/b","name":"pg1","api_url":"http://a:1"}]`, `[{"scope":"a","name":"","api_url":"http://a:1"}]`, `[{"scope":"a","name":"b"}]`,
		`[{"scope":"a","name":"b","api_url":"http://a:1","postgres":"x y"}]`, `[{"scope":"a","name":"b","api_url":"http://a:1"},{"scope":"a","name":"b","api_url":"http://a:2"}]`} {
		if err := again.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("no error for %s", bad)
		}
	}
}

// An unlisted member is forgotten after an hour without a key and without an answer.
func TestForget(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var b Book
	b.Read(listed("main/pg1=http://10.0.0.1:8008", "main/pg2=http://10.0.0.2:8008", "main/pg3=http://10.0.0.3:8008"), &Rules{}, noon)
	b.Read(listed("main/pg1=http://10.0.0.1:8008"), &Rules{}, noon)
	answered := map[string]time.Time{"pg2": noon.Add(30 * time.Minute)}
	for _, tt := range []struct {
		after time.Duration
		want  []string
	}{
		{ForgetAfter - time.Second, nil},
		{ForgetAfter, []string{"pg3"}},
		{90*time.Minute - time.Second, nil},
		{90 * time.Minute, []string{"pg2"}},
		{1000 * time.Hour, nil},
	} {
		var got []string
		for _, m := range b.Forget(noon.Add(tt.after), func(_, name string) time.Time { return answered[name] }) {
			got = append(got, m.Name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("after %s: forgotten %q, want %q", tt.after, got, tt.want)
		}
	}
	if got := b.String(); got != "main/pg1=http://10.0.0.1:8008" {
		t.Errorf("left over: %s", got)
	}
}

// Whatever is written there, it is refused in words or can be asked.
func FuzzTable(f *testing.F) {
	f.Add("main/members/pg1", []byte(discoverytest.Document("http://10.0.0.1:8008")))
	f.Add("main/leader", []byte("pg1"))
	f.Add("a/0/members/b", []byte(`{"api_url":"http://[::1]:1","conn_url":"postgres://a"}`))
	f.Fuzz(func(t *testing.T, rest string, value []byte) {
		table := newTable(&Settings{Namespaces: []string{"/service/"}})
		key := "/service/" + rest
		_, changed, _ := table.put(0, key, value, 1)
		s := table.snapshot()
		for _, m := range s.Members {
			if !isName(m.Scope) || !isName(m.Name) || (m.API == nil) == (m.Problem == "") || m.API != nil && (m.API.Hostname() == "" || m.API.String() != m.API.Scheme+"://"+m.API.Host) {
				t.Errorf("%+v", m)
			}
			if strings.ContainsAny(m.Problem+m.Postgres, "\n\r\x1b") {
				t.Errorf("not one line: %q", m.Problem)
			}
		}
		for _, p := range s.Problems {
			if strings.ContainsAny(p, "\n\r\x1b") {
				t.Errorf("not one line: %q", p)
			}
		}
		if _, again, _ := table.put(0, key, value, 1); again {
			t.Error("the same again is news")
		}
		if _, gone, _ := table.remove(0, key); gone != changed {
			t.Errorf("put: %t, removed: %t", changed, gone)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	table := newTable(&Settings{Namespaces: []string{"/service/"}})
	document := []byte(discoverytest.Document("http://10.0.0.1:8008"))
	b.ReportAllocs()
	for b.Loop() {
		table.put(0, "/service/main/members/pg1", document, 1)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	table := newTable(&Settings{Namespaces: []string{"/service/"}})
	for n := range 3000 {
		table.put(0, fmt.Sprintf("/service/c%d/members/pg%d", n/3, n%3), []byte(discoverytest.Document(fmt.Sprintf("http://10.0.%d.%d:8008", n/250, n%250))), int64(n))
	}
	var book Book
	b.ReportAllocs()
	for b.Loop() {
		book.Read(table.snapshot(), &Rules{}, time.Now())
	}
}
