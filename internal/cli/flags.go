package cli

import (
	"errors"
	"flag"
	"io"
)

// parse reads flags. Asked for help it prints it to stdout and exits with 0.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer) error {
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			flags.SetOutput(stdout)
			break
		}
		if a == "" || a[0] != '-' {
			break
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitCode(0)
	case err != nil:
		return exitCode(2) // the flag set has said why
	}
	return nil
}
