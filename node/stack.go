package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// AgeHeader is how supervisors that are stacked keep their TTLs from adding up.
// A poll asks for "ms" with it; a supervisor that answers for a member tells with
// it how many milliseconds ago its own poll of that member began. Clocks of
// different machines are not compared. Patroni ignores it.
const AgeHeader = "Patroniglue-Age"

// maxAge is more than anybody believes anything, and far from any overflow.
const maxAge = 24 * time.Hour

// FormatAge is an age as AgeHeader tells it, rounded up.
func FormatAge(age time.Duration) string {
	return strconv.FormatInt(int64((max(0, min(age, maxAge))+time.Millisecond-1)/time.Millisecond), 10)
}

// ageOf is 0 where a Patroni answers.
func ageOf(h http.Header) (time.Duration, error) {
	text := h.Get(AgeHeader)
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseUint(text, 10, 64)
	if err != nil || ms > uint64(maxAge/time.Millisecond) {
		return 0, &Failure{KindDocument, fmt.Errorf("header %s: want milliseconds, at most %d (got %q)", AgeHeader, maxAge/time.Millisecond, text)}
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// notBelieved says why another supervisor leaves the member's document out; nil
// when it is no supervisor that answers.
func notBelieved(body []byte) *Failure {
	var answer struct {
		Supervisor *struct {
			Reason string `json:"reason"`
		} `json:"patroniglue"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Supervisor == nil {
		return nil
	}
	return &Failure{KindNotBelieved, fmt.Errorf("the supervisor there does not believe it: %s", answer.Supervisor.Reason)}
}
