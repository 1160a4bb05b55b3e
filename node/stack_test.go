package node

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Another supervisor knows for longer what it answers; a Patroni since we asked.
func TestPollOfSupervisor(t *testing.T) {
	standby := string(golden(t, "2.1-standby-leader"))
	for _, tt := range []struct {
		name            string
		primary, leader string // ages
		body            string
		want            time.Duration
	}{
		{"Patroni", "", "", running, 0},
		{"just asked", "0", "", running, 0},
		{"a supervisor", "1234", "", running, 1234 * time.Millisecond},
		{"which learned less between two questions", "100", "3000", standby, 3 * time.Second},
		{"which learned more", "3000", "100", standby, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMember(t, func(c net.Conn, path string) {
				age := map[string]string{"/primary": tt.primary, "/leader": tt.leader}[path]
				if age != "" {
					age = AgeHeader + ": " + age + "\r\n"
				}
				fmt.Fprintf(c, "HTTP/1.0 503 x\r\n%s\r\n%s", age, tt.body)
			})
			before := time.Now()
			r, err := newTestClient(t, m.url, time.Minute).Poll(t.Context())
			after := time.Now()
			if err != nil {
				t.Fatal(err)
			}
			if r.Began.Before(before.Add(-tt.want)) || r.Began.After(after.Add(-tt.want)) {
				t.Errorf("known from %s before the poll, want %s", before.Sub(r.Began), tt.want)
			}
			if r.Took <= 0 || r.Took > after.Sub(before) {
				t.Errorf("took %s of %s", r.Took, after.Sub(before))
			}
		})
	}
}

func TestPollOfSupervisorFailures(t *testing.T) {
	for _, tt := range []struct {
		name, header, body string
		kind               Kind
		want               string
	}{
		{"no number", "soon", running, KindDocument, `header Patroniglue-Age: want milliseconds, at most 86400000 (got "soon")`},
		{"from the future", "-1", running, KindDocument, `header Patroniglue-Age: want milliseconds, at most 86400000 (got "-1")`},
		{"from another age", "99999999999999999999", running, KindDocument, `header Patroniglue-Age: want milliseconds, at most 86400000 (got "99999999999999999999")`},
		{"gone there", "900", `{"patroniglue":{"node":"pg1","pass":false,"reason":"not answering: refused","refuted":true}}`, KindNotBelieved,
			"the supervisor there does not believe it: not answering: refused"},
		{"not known there", "9000", `{"patroniglue":{"node":"pg1","pass":false,"reason":"stale: last answer 9.0s ago, ttl 5s","refuted":false}}`, KindNotKnown,
			"the supervisor there does not know it: stale: last answer 9.0s ago, ttl 5s"},
		{"a long reason", "", `{"patroniglue":{"reason":"` + strings.Repeat("x", 400) + `","refuted":true}}`, KindNotBelieved,
			"the supervisor there does not believe it: " + strings.Repeat("x", 258) + "..."},
		{"no supervisor", "", `{"patroniglue":null}`, KindDocument, `status code 503 with a bad document: no "state": not Patroni's answer`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMember(t, func(c net.Conn, _ string) {
				fmt.Fprintf(c, "HTTP/1.0 503 x\r\n%s: %s\r\n\r\n%s", AgeHeader, tt.header, tt.body)
			})
			_, err := newTestClient(t, m.url, time.Minute).Poll(t.Context())
			wantFailure(t, err, tt.kind, tt.want)
		})
	}
}

// A formatted age is never smaller than the age, and ageOf reads it.
func TestFormatAge(t *testing.T) {
	for age, want := range map[time.Duration]string{
		0: "0", -time.Second: "0", 1: "1", time.Millisecond: "1", time.Millisecond + 1: "2", 5 * time.Second: "5000", 1000 * time.Hour: "86400000",
	} {
		if got := FormatAge(age); got != want {
			t.Errorf("%s: %s, want %s", age, got, want)
		}
		if back, err := ageOf(map[string][]string{AgeHeader: {FormatAge(age)}}); err != nil || back < min(age, maxAge) {
			t.Errorf("%s comes back as %s, %v", age, back, err)
		}
	}
}
