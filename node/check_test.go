package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCheck(t *testing.T) {
	check := func(name string, ask Question, edits ...func(*Check)) Check {
		c := Check{Name: name, Ask: ask, Lag: -1, plain: len(edits) == 0}
		for _, edit := range edits {
			edit(&c)
		}
		return c
	}
	for _, tt := range []struct {
		name, query string
		want        Check
	}{
		{"primary", "", check("primary", AskPrimary)},
		{"master", "", check("master", AskPrimary)},
		{"read-write", "", check("read-write", AskPrimary)},
		{"leader", "", check("leader", AskLeader)},
		{"standby-leader", "", check("standby-leader", AskStandbyLeader)},
		{"standby_leader", "", check("standby_leader", AskStandbyLeader)},
		{"replica", "", check("replica", AskReplica)},
		{"read-only", "", check("read-only", AskReadOnly)},
		{"sync", "", check("sync", AskSync)},
		{"synchronous", "", check("synchronous", AskSync)},
		{"async", "", check("async", AskAsync)},
		{"asynchronous", "", check("asynchronous", AskAsync)},
		{"quorum", "", check("quorum", AskQuorum)},
		{"read-only-sync", "", check("read-only-sync", AskReadOnlySync)},
		{"read-only-synchronous", "", check("read-only-synchronous", AskReadOnlySync)},
		{"read-only-quorum", "", check("read-only-quorum", AskReadOnlyQuorum)},
		{"health", "", check("health", AskHealth)},
		{"liveness", "", check("liveness", AskLiveness)},
		{"readiness", "", check("readiness", AskReadiness)},
		{"replica", "&", check("replica", AskReplica)},
		{"replica", "lag=16MB", check("replica", AskReplica, func(c *Check) { c.Lag = 16 << 20 })},
		{"replica", "lag=5+kb", check("replica", AskReplica, func(c *Check) { c.Lag = 5 << 10 })},
		{"replica", "lag=0", check("replica", AskReplica, func(c *Check) { c.Lag = 0 })},
		{"replica", "replication_state=in+archive+recovery", check("replica", AskReplica, func(c *Check) { c.ReplicationState = "in archive recovery" })},
		{"readiness", "mode=write", check("readiness", AskReadiness, func(c *Check) { c.Received = true })},
		{"readiness", "mode=apply&lag=1", check("readiness", AskReadiness, func(c *Check) { c.Lag = 1 })},
		{"replica", "tag_zone=b%26&tag_a=&tag_tag_=x", check("replica", AskReplica, func(c *Check) { c.Tags = []Tag{{"a", ""}, {"tag_", "x"}, {"zone", "b&"}} })},
	} {
		t.Run(tt.name+"?"+tt.query, func(t *testing.T) {
			got, err := ParseCheck(tt.name, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(Check{})); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
			if got.Plain() != tt.want.plain {
				t.Errorf("plain is %t", got.Plain())
			}
		})
	}
}

func TestParseCheckErrors(t *testing.T) {
	const all = "primary, master, read-write, leader, standby-leader, standby_leader, replica, read-only, sync, synchronous, async, " +
		"asynchronous, quorum, read-only-sync, read-only-synchronous, read-only-quorum, health, liveness, readiness"
	const size = "want bytes such as 1048576, 16kB, 1.5MB or 2GB "
	for _, tt := range []struct{ name, query, want string }{
		{"", "", `unknown check "", want one of ` + all},
		{"Primary", "lag=x", `unknown check "Primary", want one of ` + all},
		{"replica\n", "", `unknown check "replica\n", want one of ` + all},
		{"replica", "lag=x", `parameter lag: ` + size + `(got "x")`},
		{"replica", "lag=", `parameter lag: ` + size + `(got "")`},
		{"replica", "lag", `parameter lag: ` + size + `(got "")`},
		{"replica", "lag=1&lag=2", `parameter lag: want it once`},
		{"replica", "tag_a%0A=1&tag_a%0A=2", "parameter tag_a�: want it once"},
		{"replica", "replication_state=", `parameter replication_state: want a state such as "streaming" (got "")`},
		{"readiness", "mode=flush", `parameter mode: want "apply" or "write" (got "flush")`},
		{"replica", "tag_=1", `parameter "tag_": unknown, want lag, replication_state, mode or tag_NAME`},
		{"replica", "Lag=1", `parameter "Lag": unknown, want lag, replication_state, mode or tag_NAME`},
		{"replica", "x=1&lag=y&b=1", `parameter "b": unknown, want lag, replication_state, mode or tag_NAME`},
		{"replica", "lag=%zz", `parameter query: want name=value&name=value (got "lag=%zz")`},
		{"replica", "a=1;b=2", `parameter query: want name=value&name=value (got "a=1;b=2")`},
	} {
		t.Run(tt.name+"?"+tt.query, func(t *testing.T) {
			for range 10 { // the same mistake each time
				got, err := ParseCheck(tt.name, tt.query)
				if err == nil || err.Error() != tt.want {
					t.Fatalf("got %+v and error\n%v, want\n%s", got, err, tt.want)
				}
			}
		})
	}
}

func TestWrites(t *testing.T) {
	var got []string
	for _, name := range CheckNames() {
		if c, err := ParseCheck(name, ""); err != nil {
			t.Error(err)
		} else if c.Writes() {
			got = append(got, name)
		}
	}
	if want := []string{"primary", "master", "read-write", "leader", "standby-leader", "standby_leader"}; !cmp.Equal(got, want) {
		t.Errorf("the checks that write are %v, want %v", got, want)
	}
}

func TestPlainCheck(t *testing.T) {
	for q := range Questions {
		c := PlainCheck(Question(q))
		want, err := ParseCheck(c.Name, "")
		if diff := cmp.Diff(want, c, cmp.AllowUnexported(Check{})); err != nil || diff != "" || int(c.Ask) != q {
			t.Errorf("question %d is %+v (%v)", q, c, err)
		}
	}
	defer func() {
		if got := recover(); got != "node: question 13 has no name" {
			t.Errorf("panic %v", got)
		}
	}()
	PlainCheck(Question(Questions))
}

func FuzzCheck(f *testing.F) {
	for _, name := range CheckNames() {
		f.Add(name, "lag=16MB&tag_zone=a&mode=write&replication_state=streaming")
	}
	f.Add("replica", "lag=1e3&tag_%0a=%0a&tag_%0a=")
	f.Add("\x00", "%")
	f.Fuzz(func(t *testing.T, name, query string) {
		c, err := ParseCheck(name, query)
		if err != nil {
			_, isName := errors.AsType[*UnknownCheckError](err)
			_, isParameter := errors.AsType[*ParameterError](err)
			if isName == isParameter || !printableLine(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if c.Name != name || c.Lag < noLimit || c.Plain() != (strings.Trim(query, "&") == "") {
			t.Errorf("got %+v", c)
		}
		r := Report{Status: 503, Document: Document{State: StateRunning, Role: RoleReplica}}
		if v := Judge(&r, &Standing{DCS: true}, 0, &c); v.Label == "" || !printableLine(v.Label) || !printableLine(v.Reason) {
			t.Errorf("verdict %+q", v)
		}
	})
}
