package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// exitCode is an error that only sets the exit code: what there is to say was said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a mistake on the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func usageErrorf(format string, args ...any) error {
	return usageError(fmt.Sprintf(format, args...))
}

// unfitError is a configuration that the daemon cannot run with. Its exit code
// is EX_CONFIG of sysexits(3): to try it again changes nothing.
type unfitError struct{ error }

func (e unfitError) Unwrap() error { return e.error }

// unansweredError is why the running daemon gave no answer.
type unansweredError struct{ error }

func (e unansweredError) Error() string { return "asking the running daemon: " + e.error.Error() }

func (e unansweredError) Unwrap() error { return e.error }

// statusUnknown is the exit code when the daemon does not answer.
const statusUnknown exitCode = 3

// exitStatus says what went wrong, if something did.
func exitStatus(err error, stderr io.Writer) int {
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") { // each of a journal's lines has to speak for itself
		fmt.Fprintln(stderr, "patroniglue:", printable(line))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	if _, ok := errors.AsType[unfitError](err); ok {
		return 78
	}
	if _, ok := errors.AsType[unansweredError](err); ok {
		return int(statusUnknown)
	}
	return 1
}
