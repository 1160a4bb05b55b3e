package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Role is the role that a member reports. While SQL works Patroni takes it from
// pg_is_in_recovery(), so it does not say whether the member holds the leader lock
// (api.py:1427).
type Role string

// The roles that Patroni 1.6 to 4.1 report. Before 4.0.0 a primary reported "master";
// [ParseDocument] reads both as RolePrimary.
const (
	RolePrimary       Role = "primary"
	RoleReplica       Role = "replica"
	RoleStandbyLeader Role = "standby_leader"
	RoleDemoted       Role = "demoted"
	RoleUninitialized Role = "uninitialized"
	RolePromoted      Role = "promoted"
)

// State is PostgreSQL's state as Patroni sees it (misc.py:13-34).
type State string

// The states that matter here; any other counts as "not running".
const (
	StateRunning    State = "running"
	StateUnknown    State = "unknown" // running as far as Patroni knows, but SQL failed (api.py:1462)
	StateStarting   State = "starting"
	StateStopping   State = "stopping"
	StateStopped    State = "stopped"
	StateRestarting State = "restarting"
	StateCrashed    State = "crashed"
)

// Document is the JSON object that Patroni 1.6 to 4.1 sends in answer to GET /patroni
// and to every health check by GET (api.py:190-242, 1404-1471).
type Document struct {
	State            State
	Role             Role
	Timeline         int64  // 0 when absent (not running) or null
	Location         *int64 // in bytes: a primary's flush position, else nil
	Received         *int64 // in bytes: a replica's, nil when null or absent
	Replayed         *int64 // in bytes: a replica's, nil before the first replay
	ReplayPaused     bool
	ReplicationState string // "streaming", "in archive recovery"; "" before Patroni 3.0.4 and on primaries
	SyncStandby      bool
	QuorumStandby    bool
	Pause            bool
	ClusterUnlocked  bool // no leader key, or no view of the DCS (api.py:1471)
	Failsafe         bool
	DCSLastSeen      int64 // Unix seconds on the member's clock; 0 = never, or a Patroni before 2.1.2
	Tags             map[string]any
	SystemID         string // "" while unknown
	PendingRestart   bool
	ServerVersion    int64 // such as 150020 for PostgreSQL 15.20; 0 when absent
	PostmasterStart  string
	Version          string // Patroni's own
	Scope            string
	Name             string // "" before Patroni 3.2.0
}

// Running reports whether PostgreSQL runs and answers SQL.
func (d *Document) Running() bool { return d.State == StateRunning }

// NoLoadBalance reports whether the tag noloadbalance is set to something that is true
// in Python, as Patroni judges it (tags.py:101-104).
func (d *Document) NoLoadBalance() bool { return truthy(d.Tags["noloadbalance"]) }

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// TagText returns a tag's value as Patroni compares it with tag_NAME=value
// (api.py:402-418): strings as they are, numbers and booleans as Python's str() in
// lower case. Lists and objects are returned as JSON, which is never equal in Patroni.
// ok is false if the tag is not set or null.
func (d *Document) TagText(name string) (text string, ok bool) {
	switch v := d.Tags[name].(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case bool, json.Number:
		return strings.ToLower(fmt.Sprint(v)), true
	}
	b, err := json.Marshal(d.Tags[name])
	return strings.ToLower(string(b)), err == nil
}

// position is the value of "xlog", or of "wal", which ha.py:55 accepts, too.
type position struct {
	Location *int64 `json:"location"`
	Received *int64 `json:"received_location"`
	Replayed *int64 `json:"replayed_location"`
	Paused   bool   `json:"paused"`
}

// lenient holds a value that no verdict depends on. If a future Patroni changes its
// type, that must not take members out of service.
type lenient[T any] struct{ v T }

func (l *lenient[T]) UnmarshalJSON(b []byte) error {
	var v T
	if json.Unmarshal(b, &v) == nil {
		l.v = v
	}
	return nil
}

// tags are lenient, too. Their numbers stay as they are written, for TagText.
type tags map[string]any

func (t *tags) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v map[string]any
	if dec.Decode(&v) == nil {
		*t = v
	}
	return nil
}

// wire is a document as Patroni writes it.
type wire struct {
	State            State           `json:"state"`
	Role             Role            `json:"role"`
	Timeline         int64           `json:"timeline"`
	Xlog             *position       `json:"xlog"`
	WAL              *position       `json:"wal"`
	ReplicationState string          `json:"replication_state"`
	SyncStandby      bool            `json:"sync_standby"`
	QuorumStandby    bool            `json:"quorum_standby"`
	Pause            bool            `json:"pause"`
	ClusterUnlocked  bool            `json:"cluster_unlocked"`
	Failsafe         bool            `json:"failsafe_mode_is_active"`
	DCSLastSeen      int64           `json:"dcs_last_seen"`
	Tags             tags            `json:"tags"`
	SystemID         string          `json:"database_system_identifier"`
	PendingRestart   lenient[bool]   `json:"pending_restart"`
	ServerVersion    lenient[int64]  `json:"server_version"`
	PostmasterStart  lenient[string] `json:"postmaster_start_time"`
	Patroni          struct {
		Version lenient[string] `json:"version"`
		Scope   string          `json:"scope"`
		Name    string          `json:"name"`
	} `json:"patroni"`
}

// ParseDocument parses a document of Patroni 1.6 to 4.1. A field that a verdict
// depends on must have the right type, else the error names the field. A field for
// display only is left empty if its type is wrong.
func ParseDocument(b []byte) (Document, error) {
	var in wire
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return Document{}, fmt.Errorf("want a JSON object, got %s", excerpt(b))
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return Document{}, jsonError(err)
	}
	if in.State == "" {
		return Document{}, errors.New(`no "state": not Patroni's answer`)
	}
	if in.Role == "" {
		return Document{}, errors.New(`no "role": not Patroni's answer`)
	}
	return in.document(), nil
}

func (in *wire) document() Document {
	d := Document{
		State:            State(printable(string(in.State))),
		Role:             Role(printable(string(in.Role))),
		Timeline:         in.Timeline,
		ReplicationState: printable(in.ReplicationState),
		SyncStandby:      in.SyncStandby,
		QuorumStandby:    in.QuorumStandby,
		Pause:            in.Pause,
		ClusterUnlocked:  in.ClusterUnlocked,
		Failsafe:         in.Failsafe,
		DCSLastSeen:      in.DCSLastSeen,
		Tags:             in.Tags,
		SystemID:         printable(in.SystemID),
		PendingRestart:   in.PendingRestart.v,
		ServerVersion:    in.ServerVersion.v,
		PostmasterStart:  in.PostmasterStart.v,
		Version:          printable(in.Patroni.Version.v),
		Scope:            printable(in.Patroni.Scope), // a name that this changes cannot be configured anyway
		Name:             printable(in.Patroni.Name),
	}
	if d.Role == "master" { // renamed in Patroni 4.0.0
		d.Role = RolePrimary
	}
	if x := in.Xlog; x != nil || in.WAL != nil {
		if x == nil {
			x = in.WAL
		}
		d.Location, d.Received, d.Replayed, d.ReplayPaused = x.Location, x.Received, x.Replayed, x.Paused
	}
	return d
}

// jsonError names the field that has the wrong type, by the types of JSON.
func jsonError(err error) error {
	te, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return fmt.Errorf("reading JSON: %w", err)
	}
	if te.Field == "" {
		return fmt.Errorf("want a JSON object, got a JSON %s", te.Value)
	}
	want := "an object"
	switch te.Type.Kind() {
	case reflect.Bool:
		want = "true or false"
	case reflect.Int64:
		want = "a whole number"
	case reflect.String:
		want = "a string"
	}
	return fmt.Errorf("%q is a JSON %s, want %s", te.Field, te.Value, want)
}

// printable makes a short line of foreign text, because it becomes part of reasons,
// and those of logs and of the answers of agents.
func printable(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// excerpt quotes the beginning of b.
func excerpt(b []byte) string {
	const most = 40
	if len(b) == 0 {
		return "nothing"
	}
	if len(b) > most {
		return fmt.Sprintf("%q...", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
