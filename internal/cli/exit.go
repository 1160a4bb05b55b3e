package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// exitCode is an error that only sets the exit code: everything is printed already.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a mistake on the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func usageErrorf(format string, args ...any) error {
	return usageError(fmt.Sprintf(format, args...))
}

// unfitError is a configuration that the daemon cannot run with. Its exit code is
// EX_CONFIG of sysexits(3): another attempt changes nothing.
type unfitError struct{ error }

func (e unfitError) Unwrap() error { return e.error }

// exitStatus prints what went wrong, if something did, and returns the exit code.
func exitStatus(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	for line := range strings.SplitSeq(err.Error(), "\n") { // in a journal each line has to make sense alone
		fmt.Fprintln(stderr, "patroniglue:", printable(line))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	if _, ok := errors.AsType[unansweredError](err); ok {
		return int(statusUnknown)
	}
	if _, ok := errors.AsType[unfitError](err); ok {
		return 78
	}
	return 1
}
