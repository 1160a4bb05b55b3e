package client

import "fmt"

// UnansweredError says why no answer came: nothing listens there, or it was silent.
type UnansweredError struct{ Err error }

func (e *UnansweredError) Error() string { return e.Err.Error() }

func (e *UnansweredError) Unwrap() error { return e.Err }

// RefusedError is the daemon's own reason why it does not do what it was asked.
type RefusedError struct {
	URL    string
	Status int
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: status code %d: %s", e.URL, e.Status, e.Reason)
}

// StrangerError says that something answers, and that it is not our daemon: Patroni,
// for instance, answers every path with some JSON.
type StrangerError struct {
	URL    string
	Status int
	Err    error // the fault of the answer; nil where it is merely another program's
}

func (e *StrangerError) Error() string {
	text := fmt.Sprintf("%s: status code %d: does another program answer there, or a patroniglue with another version or configuration?", e.URL, e.Status)
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

func (e *StrangerError) Unwrap() error { return e.Err }
