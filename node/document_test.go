package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

const systemID = "7710975781833504509"

// documents are the goldens of testdata, as each series of Patroni writes them.
var documents = map[string]Document{
	"1.6-primary": {
		State: StateRunning, Role: RolePrimary, Timeline: 2, Location: new(int64(67108864)), SystemID: systemID,
		ServerVersion: 110005, PostmasterStart: "2019-08-05 09:12:01.382 UTC", Version: "1.6.5", Scope: "main",
	},
	"1.6-replica-null-timeline": {
		State: StateRunning, Role: RoleReplica, Received: new(int64(67108864)), Replayed: new(int64(67108864)), ClusterUnlocked: true, SystemID: systemID,
		ServerVersion: 110005, PostmasterStart: "2019-08-05 09:12:01.382 UTC", Version: "1.6.5", Scope: "main",
	},
	"2.0-primary-sql-failed": {State: StateUnknown, Role: RolePrimary, Pause: true, SystemID: systemID, Version: "2.0.2", Scope: "main"},
	"2.0-replica-replayed-null": {
		State: StateRunning, Role: RoleReplica, Timeline: 3, ReplayPaused: true, SystemID: systemID, PendingRestart: true,
		ServerVersion: 120006, PostmasterStart: "2021-02-22 08:00:00.001 UTC", Version: "2.0.2", Scope: "main",
	},
	"2.1-standby-leader": {
		State: StateRunning, Role: RoleStandbyLeader, Timeline: 4, Received: new(int64(83886080)), Replayed: new(int64(83886000)), DCSLastSeen: 1646128860,
		Tags: map[string]any{"nofailover": true, "noloadbalance": true}, SystemID: systemID,
		ServerVersion: 140002, PostmasterStart: "2022-03-01 10:00:00.478774+00:00", Version: "2.1.3", Scope: "dr",
	},
	"3.0.2-primary": {
		State: StateRunning, Role: RolePrimary, Timeline: 1, Location: new(int64(50331744)), DCSLastSeen: 1795351424, SystemID: systemID,
		ServerVersion: 150020, PostmasterStart: "2026-11-22 12:44:15.478774+00:00", Version: "3.0.2", Scope: "lab",
	},
	"3.0.2-replica-sync": {
		State: StateRunning, Role: RoleReplica, Timeline: 1, Received: new(int64(50331744)), Replayed: new(int64(50331744)), SyncStandby: true, DCSLastSeen: 1795351424,
		SystemID: systemID, ServerVersion: 150020, PostmasterStart: "2026-11-22 12:44:15.478774+00:00", Version: "3.0.2", Scope: "lab",
	},
	"3.3-primary-failsafe": {
		State: StateRunning, Role: RolePrimary, Timeline: 5, Location: new(int64(50331744)), ClusterUnlocked: true, Failsafe: true, DCSLastSeen: 1717245000,
		SystemID: systemID, PendingRestart: true, ServerVersion: 160003, PostmasterStart: "2024-06-01 12:44:15.478774+00:00", Version: "3.3.1", Scope: "main", Name: "n1",
	},
	"4.0-primary-paused": {
		State: StateRunning, Role: RolePrimary, Timeline: 5, Location: new(int64(50331744)), Pause: true, DCSLastSeen: 1732279500,
		SystemID: systemID, ServerVersion: 170002, PostmasterStart: "2024-11-22 12:44:15.478774+00:00", Version: "4.0.4", Scope: "main", Name: "n1",
	},
	"4.0-replica-quorum": {
		State: StateRunning, Role: RoleReplica, Timeline: 5, Received: new(int64(50331744)), Replayed: new(int64(50331700)), ReplicationState: "streaming",
		QuorumStandby: true, DCSLastSeen: 1732279500, SystemID: systemID, ServerVersion: 170002, PostmasterStart: "2024-11-22 12:44:15.478774+00:00",
		Version: "4.0.4", Scope: "main", Name: "n2",
	},
	"4.1-primary": {
		State: StateRunning, Role: RolePrimary, Timeline: 1, Location: new(int64(50331744)), DCSLastSeen: 1795351476,
		Tags: map[string]any{
			"clonefrom": true, "zone": "az1", "weight": json.Number("10"), "share": json.Number("1.4"), "empty": nil,
			"list": []any{"a", json.Number("1")}, "map": map[string]any{"a": json.Number("1")},
		},
		SystemID: systemID, ServerVersion: 150020, PostmasterStart: "2026-11-22 12:44:15.478774+00:00", Version: "4.1.4", Scope: "rl", Name: "n1",
	},
	"4.1-replica-sync": {
		State: StateRunning, Role: RoleReplica, Timeline: 5, Received: new(int64(100664008)), Replayed: new(int64(100664008)), ReplicationState: "streaming",
		SyncStandby: true, DCSLastSeen: 1795351861, Tags: map[string]any{"clonefrom": true, "zone": "az1", "weight": json.Number("10")},
		SystemID: systemID, ServerVersion: 150020, PostmasterStart: "2026-11-22 12:50:47.428997+00:00", Version: "4.1.4", Scope: "rl", Name: "n1",
	},
	"4.1-replica-archive-recovery": { // no xlog at all
		State: StateRunning, Role: RoleReplica, Timeline: 5, ReplicationState: "in archive recovery", DCSLastSeen: 1795351861,
		SystemID: systemID, ServerVersion: 150020, PostmasterStart: "2026-11-22 12:50:47.428997+00:00", Version: "4.1.4", Scope: "rl", Name: "n1",
	},
	"4.1-primary-stopping": {
		State: StateStopping, Role: RolePrimary, DCSLastSeen: 1795351476, Tags: map[string]any{"clonefrom": true},
		SystemID: systemID, Version: "4.1.4", Scope: "rl", Name: "n1",
	},
}

func TestParseDocument(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != len(documents) {
		t.Errorf("testdata has %d documents (%v), want %d", len(files), err, len(documents))
	}
	for name, want := range documents {
		t.Run(name, func(t *testing.T) {
			got, err := ParseDocument(golden(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
		})
	}
}

func TestParseDocumentOddities(t *testing.T) {
	replica := Document{State: StateRunning, Role: RoleReplica}
	with := func(edit func(*Document)) Document { d := replica; edit(&d); return d }
	for _, tt := range []struct {
		name, rest string
		want       Document
	}{
		{"no more", ``, replica},
		{"wal in place of xlog", `,"wal":{"location":7}`, with(func(d *Document) { d.Location = new(int64(7)) })},
		{"xlog before wal", `,"wal":{"location":7},"xlog":{"location":8}`, with(func(d *Document) { d.Location = new(int64(8)) })},
		{"nulls", `,"timeline":null,"xlog":null,"tags":null,"pause":null,"patroni":null,"replication_state":null`, replica},
		{"keys for display of another type", `,"tags":[1],"pending_restart":"yes","server_version":"15","postmaster_start_time":5,"patroni":{"version":4}`, replica},
		{"control characters", `,"replication_state":"a\nb\u001b[31m","patroni":{"version":"4\r\n"}`, with(func(d *Document) {
			d.ReplicationState, d.Version = "a�b�[31m", "4��"
		})},
		{"long words", `,"replication_state":"` + strings.Repeat("é", 200) + `"`, with(func(d *Document) { d.ReplicationState = strings.Repeat("é", 150) + "..." })},
		{"unknown keys", `,"x":[{}],"y":{"state":"stopped"}`, replica},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseDocument([]byte(" \n" + `{"state":"running","role":"replica"` + tt.rest + "}\n"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
		})
	}
}

func TestParseDocumentErrors(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", "want a JSON object, got nothing"},
		{"blank", " \n", `want a JSON object, got " \n"`},
		{"array", `[{"state":"running"}]`, `want a JSON object, got "[{\"state\":\"running\"}]"`},
		{"null", `null`, `want a JSON object, got "null"`},
		{"a web page", "<!DOCTYPE html><html><head><title>502 Bad Gateway</title>", `want a JSON object, got "<!DOCTYPE html><html><head><title>502 Ba"...`},
		{"truncated", `{"state":"running","ro`, "reading JSON: unexpected end of JSON input"},
		{"more than one", `{"state":"running","role":"replica"}{}`, "reading JSON: invalid character '{' after top-level value"},
		{"no state", `{"role":"replica"}`, `no "state": not Patroni's answer`},
		{"empty state", `{"state":"","role":"replica"}`, `no "state": not Patroni's answer`},
		{"no role", `{"state":"running"}`, `no "role": not Patroni's answer`},
		{"null role", `{"state":"running","role":null}`, `no "role": not Patroni's answer`},
		{"state a number", `{"state":1,"role":"replica"}`, `"state" is a JSON number, want a string`},
		{"timeline a string", `{"state":"running","role":"replica","timeline":"5"}`, `"timeline" is a JSON string, want a whole number`},
		{"timeline a fraction", `{"state":"running","role":"replica","timeline":1.5}`, `"timeline" is a JSON number 1.5, want a whole number`},
		{"xlog an array", `{"state":"running","role":"replica","xlog":[]}`, `"xlog" is a JSON array, want an object`},
		{"location a string", `{"state":"running","role":"replica","xlog":{"location":"0/1"}}`, `"xlog.location" is a JSON string, want a whole number`},
		{"pause a string", `{"state":"running","role":"replica","pause":"on"}`, `"pause" is a JSON string, want true or false`},
		{"patroni a string", `{"state":"running","role":"replica","patroni":"4.1"}`, `"patroni" is a JSON string, want an object`},
		{"too deep", `{"state":` + strings.Repeat("[", 20000), "reading JSON: invalid character '[' exceeded max depth"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseDocument([]byte(tt.in))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %+v and error\n%v, want\n%s", got, err, tt.want)
			}
		})
	}
}

func TestNoLoadBalance(t *testing.T) {
	for value, want := range map[string]bool{
		`true`: true, `false`: false, `null`: false, `""`: false, `"false"`: true, `0`: false, `-0.0`: false, `1`: true, `1e999`: true,
		`[]`: false, `[0]`: true, `{}`: false, `{"a":0}`: true,
	} {
		if d := mustParse(t, []byte(`{"state":"running","role":"replica","tags":{"noloadbalance":`+value+`}}`)); d.NoLoadBalance() != want {
			t.Errorf("noloadbalance: %s counts as %t, want %t", value, !want, want)
		}
	}
	if d := new(Document); d.NoLoadBalance() {
		t.Error("without tags noloadbalance is set")
	}
}

func TestTagText(t *testing.T) {
	d := documents["4.1-primary"]
	for name, want := range map[string]string{"clonefrom": "true", "zone": "az1", "weight": "10", "share": "1.4", "list": `["a",1]`, "map": `{"a":1}`} {
		if got, ok := d.TagText(name); got != want || !ok {
			t.Errorf("tag %s is %q, %t, want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"empty", "other"} {
		if got, ok := d.TagText(name); ok {
			t.Errorf("tag %s is %q, want it not set", name, got)
		}
	}
}

func TestParseDocumentOfManyTags(t *testing.T) {
	b := []byte(`{"state":"running","role":"replica","tags":{"long":"` + strings.Repeat("x", maxBody) + `"}}`)
	d := mustParse(t, b)
	check, err := ParseCheck("replica", "tag_long=y")
	if err != nil {
		t.Fatal(err)
	}
	if v := Judge(&Report{Document: d}, &Standing{}, 0, &check); len(v.Reason) > 400 {
		t.Errorf("the reason has %d bytes", len(v.Reason))
	}
}

func FuzzDocument(f *testing.F) {
	for name := range documents {
		f.Add(golden(f, name))
	}
	for _, s := range []string{
		"", "null", "[]", "{}", strings.Repeat("[", 11000), strings.Repeat(`{"tags":`, 11000), `{"state":"a\nb","role":"\u0000"}`,
		`{"state":"running","role":"replica","tags":{"x":1e999,"x":[[[]]]},"timeline":-9223372036854775808}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDocument(b)
		if err != nil {
			if !printableLine(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if d.State == "" || d.Role == "" || !json.Valid(b) {
			t.Errorf("accepted %q", b)
		}
		for name := range d.Tags {
			d.TagText(name)
		}
		for q := range Questions {
			c := PlainCheck(Question(q))
			v := Judge(&Report{Status: 200, Document: d}, &Standing{Elected: true, DCS: true}, 0, &c)
			if v.Label == "" || !printableLine(v.Label) || !printableLine(v.Reason) {
				t.Errorf("%s: %+q", c.Name, v)
			}
		}
	})
}

func printableLine(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t testing.TB, b []byte) Document {
	t.Helper()
	d, err := ParseDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func BenchmarkParseDocument(b *testing.B) {
	body := golden(b, "4.1-replica-sync")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseDocument(body); err != nil {
			b.Fatal(err)
		}
	}
}
