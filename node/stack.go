package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// AgeHeader is the HTTP header that keeps the TTLs of stacked supervisors from adding
// up. A poll sends it with the value "ms". A supervisor that answers for a member
// sends back how many milliseconds ago its own poll of that member began. So clocks of
// different machines are not compared. Patroni ignores the header.
const AgeHeader = "Patroniglue-Age"

// maxAge is longer than any TTL, and far below an overflow.
const maxAge = 24 * time.Hour

// FormatAge formats an age for [AgeHeader]: in milliseconds, rounded up, at most a day.
func FormatAge(age time.Duration) string {
	return strconv.FormatInt(int64((max(0, min(age, maxAge))+time.Millisecond-1)/time.Millisecond), 10)
}

// ageOf returns the age in AgeHeader, 0 if it is not set, as in an answer of Patroni.
func ageOf(h http.Header) (time.Duration, error) {
	text := h.Get(AgeHeader)
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseUint(text, 10, 64)
	if err != nil || ms > uint64(maxAge/time.Millisecond) {
		return 0, &Failure{Kind: KindDocument, Err: fmt.Errorf("header %s: want milliseconds, at most %d (got %q)", AgeHeader, maxAge/time.Millisecond, text)}
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// notBelieved returns the failure for the answer of a supervisor that has no fresh
// answer of the member; nil if the body is not of a supervisor. One that has just
// started, or whose own polls time out, knows no more than we do: only what it knows to
// be bad ends belief here.
func notBelieved(body []byte) *Failure {
	var answer struct {
		Supervisor *struct {
			Reason  string `json:"reason"`
			Refuted bool   `json:"refuted"`
		} `json:"patroniglue"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Supervisor == nil {
		return nil
	}
	if !answer.Supervisor.Refuted {
		return &Failure{Kind: KindNotKnown, Err: fmt.Errorf("the supervisor there does not know it: %s", answer.Supervisor.Reason)}
	}
	return &Failure{Kind: KindNotBelieved, Err: fmt.Errorf("the supervisor there does not believe it: %s", answer.Supervisor.Reason)}
}
