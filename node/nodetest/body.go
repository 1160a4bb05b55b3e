package nodetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// object is a JSON object that keeps the order of its keys, as a Python dict does.
type object []field

type field struct {
	key   string
	value any
}

func (o *object) add(key string, value any) { *o = append(*o, field{key, value}) }

func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		key, err := plainJSON(f.key)
		if err != nil {
			return nil, err
		}
		value, err := plainJSON(f.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, key...), ':'), value...)
	}
	return append(b, '}'), nil
}

// plainJSON is json.Marshal without the escapes for HTML.
func plainJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// pythonJSON writes v as Python's json.dumps does: a space after each comma and colon, nothing but ASCII. People parse
// Patroni's documents with grep, so the spaces are part of the interface.
func pythonJSON(v any) []byte {
	plain, err := plainJSON(v)
	if err != nil {
		panic(fmt.Sprintf("nodetest: a state holds what JSON cannot: %v", err))
	}

	out := make([]byte, 0, len(plain)+len(plain)/8)
	inString := false
	for i := 0; i < len(plain); {
		c := plain[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(plain[i:])
			i += size
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
			continue
		}
		out = append(out, c)
		i++
		switch {
		case inString && c == '\\': // the escaped byte may be a quote
			out = append(out, plain[i])
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return out
}

// document is the body of every health check and of GET /patroni (api.py:190-242, 1404-1471).
func (s State) document(now time.Time) object {
	v := parseRelease(s.Version)
	role := s.Role
	if role == "primary" && !v.since(4, 0, 0) {
		role = "master"
	}

	doc := object{{"state", s.shownState()}}
	if s.queried() {
		doc.add("postmaster_start_time", pyTime(s.Started, v))
		doc.add("role", role)
		doc.add("server_version", s.ServerVersion)
		if !v.since(2, 1, 0) {
			doc.add("cluster_unlocked", !s.DCS || s.Unlocked)
		}
		if s.inRecovery() {
			doc.add("xlog", object{
				{"received_location", s.Received},
				{"replayed_location", s.Replayed},
				{"replayed_timestamp", pyTime(s.ReplayedAt, v)},
				{"paused", s.ReplayPaused},
			})
		} else {
			doc.add("xlog", object{{"location", s.Location}})
		}
		if s.sync() && v.since(3, 0, 2) {
			doc.add("sync_standby", true)
		}
		if s.quorum() {
			doc.add("quorum_standby", true)
		}
		doc.add("timeline", s.Timeline)
		if s.replicationState() != "" {
			doc.add("replication_state", s.replicationState())
		}
		if len(s.Replication) > 0 {
			doc.add("replication", s.Replication)
		}
	} else {
		doc.add("role", role)
	}

	if s.Pause {
		doc.add("pause", true)
	}
	if v.since(2, 1, 0) && (!s.DCS || s.Unlocked) {
		doc.add("cluster_unlocked", true)
	}
	if s.Failsafe && v.since(3, 0, 0) {
		doc.add("failsafe_mode_is_active", true)
	}
	if v.since(2, 1, 2) {
		doc.add("dcs_last_seen", s.dcsLastSeen(now))
	}
	if tags := s.tags(); len(tags) > 0 {
		doc.add("tags", tags)
	}
	if s.SystemID != "" {
		doc.add("database_system_identifier", s.SystemID)
	}
	patroni := object{{"version", versionInBody(s.Version)}, {"scope", s.Scope}}
	if v.since(3, 2, 0) {
		patroni.add("name", s.Name)
	}
	doc.add("patroni", patroni)
	for _, k := range sortedKeys(s.Extra) {
		doc.add(k, s.Extra[k])
	}
	return doc
}

// replicationState is the document's: of replicas only, since 3.0.4 (d46ca88e).
func (s State) replicationState() string {
	if !s.queried() || !s.inRecovery() || !parseRelease(s.Version).since(3, 0, 4) {
		return ""
	}
	return s.ReplicationState
}

func (s State) dcsLastSeen(now time.Time) int64 {
	switch {
	case !s.DCSLastSeen.IsZero():
		return s.DCSLastSeen.Unix()
	case s.DCS:
		return now.Unix()
	}
	return 0
}

// Times are str(datetime) since 2.1.0; before, Postgres' to_char made them.
const (
	pyLayout     = "2006-01-02 15:04:05.999999-07:00"
	toCharLayout = "2006-01-02 15:04:05.000 MST"
)

// pyTime is null for the zero time.
func pyTime(t time.Time, v release) any {
	switch {
	case t.IsZero():
		return nil
	case !v.since(2, 1, 0):
		return t.UTC().Format(toCharLayout)
	case t.Truncate(time.Microsecond).Equal(t.Truncate(time.Second)): // str(datetime) leaves out a fraction of 0
		return t.UTC().Format("2006-01-02 15:04:05-07:00")
	}
	return t.UTC().Format("2006-01-02 15:04:05.000000-07:00")
}

func parsePyTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(pyLayout, s)
	if err != nil {
		if old, err := time.Parse(toCharLayout, s); err == nil {
			return old, nil
		}
	}
	return t, err
}
