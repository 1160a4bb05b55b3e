package clustertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"patroniglue/node"
)

// ShortDelay is how long a member that [Primary] or [Replica] describes takes for an answer.
const ShortDelay = 2 * time.Millisecond

// Script says how a member behaves. It is a value: the With methods return a changed copy.
//
// Deaf takes precedence over Hang, Hang over Fail, and Fail over an answer. The answer's document is Document, or else it
// is made of Role, State, Timeline, Location, Replayed and Fields.
type Script struct {
	Status          int  // of the HTTP response to GET /primary
	StandbyLeader   bool // GET /leader has status 200
	Role            node.Role
	State           node.State
	Timeline        int64          // 0 = none
	Location        int64          // of a primary's WAL, in bytes; 0 = none
	Replayed        int64          // of a replica's WAL, in bytes, received and replayed; 0 = none
	Fields          map[string]any // further keys of the document, which replace those of the fields above; the map must not be changed
	CertificateEnds time.Time      // zero = no TLS
	Document        string         // the whole document, which need not be valid; "" = made of the fields above

	Delay time.Duration  // between the request and the answer
	Peer  netip.AddrPort // the address that answers; zero = unknown
	Hang  bool           // answers nothing before the poll's timeout
	Drop  bool           // with Hang: does not even accept the connection
	Deaf  bool           // ends no poll before the next Set, whatever the poll's context and timeout
	Fail  node.Kind      // fails in this way instead of answering
}

// Primary is a running primary with the given timeline.
func Primary(timeline int64) Script {
	return Script{Status: 200, Role: node.RolePrimary, State: node.StateRunning, Timeline: timeline, Location: 1 << 30, Delay: ShortDelay}
}

// Replica is a running replica with the given timeline that streams and lags by nothing.
func Replica(timeline int64) Script {
	return Script{Status: 503, Role: node.RoleReplica, State: node.StateRunning, Timeline: timeline, Replayed: 1 << 30, Delay: ShortDelay}
}

// Says answers at once with a status and a document, which need not be valid.
func Says(status int, document string) Script { return Script{Status: status, Document: document} }

// Fails fails every poll at once with a [*node.Failure] of the kind.
func Fails(kind node.Kind) Script { return Script{Fail: kind} }

// Refuses is the host without a Patroni: it refuses connections.
func Refuses() Script { return Fails(node.KindRefused) }

// Hangs accepts requests and does not answer: each poll ends by its timeout.
func Hangs() Script { return Script{Hang: true} }

// Drops is a host that drops every packet: each poll ends by its timeout while it connects.
func Drops() Script { return Script{Hang: true, Drop: true} }

// Deaf holds every poll until the next [Poller.Set]: a poll that its context does not end is a fault of the
// Poller, which the supervisor must notice.
func Deaf() Script { return Script{Deaf: true} }

// WithField sets a field of the document, whose value is marshalled as JSON.
func (s Script) WithField(field string, value any) Script {
	s.Fields = maps.Clone(s.Fields)
	if s.Fields == nil {
		s.Fields = map[string]any{}
	}
	s.Fields[field] = value
	return s
}

// WithState sets PostgreSQL's state.
func (s Script) WithState(state node.State) Script { s.State = state; return s }

// WithRole sets the role; the status stays.
func (s Script) WithRole(role node.Role) Script { s.Role = role; return s }

// WithStatus sets the status of the HTTP response; the document stays.
func (s Script) WithStatus(status int) Script { s.Status = status; return s }

// WithCertificateEnd sets when the certificate that the member shows ends.
func (s Script) WithCertificateEnd(ends time.Time) Script { s.CertificateEnds = ends; return s }

// WithPeer sets the address that answers.
func (s Script) WithPeer(peer netip.AddrPort) Script { s.Peer = peer; return s }

// WithReplayed sets the replica's position in the WAL, in bytes.
func (s Script) WithReplayed(position int64) Script { s.Replayed = position; return s }

// WithDelay sets the time between a request and its answer.
func (s Script) WithDelay(delay time.Duration) Script { s.Delay = delay; return s }

// Report is what the member of the name answers, without its times. A document that is not valid fails the test.
func (s Script) Report(t testing.TB, name string) node.Report {
	t.Helper()
	r, err := s.report(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// report makes the script's answer without its times. The error is about the document.
func (s *Script) report(name string) (node.Report, error) {
	raw := []byte(s.Document)
	if s.Document == "" {
		raw = s.document(name)
	}
	d, err := node.ParseDocument(raw)
	if err != nil {
		return node.Report{}, &node.Failure{Kind: node.KindDocument, Err: err}
	}
	return node.Report{Status: s.Status, Peer: s.Peer, Leader: s.StandbyLeader, Document: d, Raw: raw, CertificateEnds: s.CertificateEnds}, nil
}

func (s *Script) document(name string) []byte {
	doc := map[string]any{
		"state": s.State, "role": s.Role, "database_system_identifier": "7001", "server_version": 170000,
		"patroni": map[string]any{"version": "4.1.4", "scope": "main", "name": name},
	}
	if s.Timeline > 0 {
		doc["timeline"] = s.Timeline
	}
	switch {
	case s.Location > 0:
		doc["xlog"] = map[string]any{"location": s.Location}
	case s.Replayed > 0:
		doc["xlog"] = map[string]any{"received_location": s.Replayed, "replayed_location": s.Replayed}
		doc["replication_state"] = "streaming"
	}
	maps.Copy(doc, s.Fields)
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("clustertest: a field's value is no JSON: %v", err))
	}
	return raw
}
