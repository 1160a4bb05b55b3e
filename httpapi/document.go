package httpapi

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"

	"patroniglue/cluster"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// appendAnswer writes the node's last document with an object "patroniglue" as
// its last key. A document that is not believed is left out: another supervisor that
// polls this one would take it for the node's fresh answer, and a replica that is gone
// for a running one. "refuted" says instead whether that is known or not.
func appendAnswer(buf *bytes.Buffer, a *cluster.Answer) {
	m := a.Member
	buf.WriteByte('{')
	believed := m.Entry.Fresh(a.At) && m.Refused == ""
	if believed {
		appendMembers(buf, m.Entry.Value.Raw)
	}
	buf.WriteString(`"patroniglue":{"node":`)
	appendString(buf, m.Name)
	buf.WriteString(`,"cluster":`)
	appendString(buf, a.View.Cluster)
	buf.WriteString(`,"check":`)
	appendString(buf, a.Check.Name)
	buf.WriteString(`,"pass":`)
	buf.Write(strconv.AppendBool(buf.AvailableBuffer(), a.Verdict.Passes()))
	buf.WriteString(`,"reason":`)
	appendString(buf, a.Verdict.Reason)
	if !believed {
		buf.WriteString(`,"refuted":`)
		buf.Write(strconv.AppendBool(buf.AvailableBuffer(), m.Refuted(a.At)))
	}
	buf.WriteString(`,"polled_at":`)
	if m.Entry.Known {
		buf.WriteByte('"')
		buf.Write(m.Entry.Began.UTC().AppendFormat(buf.AvailableBuffer(), "2006-01-02T15:04:05.000Z"))
		buf.WriteByte('"')
	} else {
		buf.WriteString("null")
	}
	buf.WriteString("}}\n")
}

// appendString writes s as JSON, without encoding/json when no character needs an escape.
func appendString(buf *bytes.Buffer, s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, _ := json.Marshal(s) // a string always marshals
			buf.Write(b)
			return
		}
	}
	buf.WriteByte('"')
	buf.WriteString(s)
	buf.WriteByte('"')
}

// appendMembers writes the members of a JSON object unchanged, and a comma, but not
// the member "patroniglue": that is the verdict of another supervisor, which is polled
// as if it were a Patroni, and this one adds its own.
func appendMembers(buf *bytes.Buffer, raw []byte) {
	defer buf.WriteByte(',') // there are members: a report has at least a state and a role
	if !bytes.Contains(raw, []byte(`"patroniglue"`)) {
		buf.Write(bytes.TrimRight(raw[1:len(raw)-1], jsonSpace))
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw)) // it was parsed before, so nothing fails here
	dec.Token()
	cut := jsonSpace + "," // in front of the first member that is written
	for from := dec.InputOffset(); dec.More(); from = dec.InputOffset() {
		key, _ := dec.Token()
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return
		}
		if key != "patroniglue" {
			buf.Write(bytes.TrimLeft(raw[from:dec.InputOffset()], cut))
			cut = ""
		}
	}
}

const jsonSpace = " \t\r\n"
