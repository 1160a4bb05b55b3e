package cli

import (
	"errors"
	"flag"
	"fmt"
)

// newFlags makes the flag set of the command.
func (c *call) newFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("patroniglue "+c.command.name, flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: %s\n%s\n\n", c.command.synopsis(), c.command.summary)
		fs.PrintDefaults()
	}
	return fs
}

// configFlag lets -config stand after the command too.
func (c *call) configFlag(fs *flag.FlagSet) {
	fs.StringVar(&c.config, "config", c.config, "configuration `FILE` that the daemon runs with")
}

// parse reads flags. If asked for help it prints it to stdout, and the exit code is 0.
func (c *call) parse(fs *flag.FlagSet, args []string) error {
	fs.SetOutput(c.stderr)
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			fs.SetOutput(c.stdout)
			break
		}
		if a == "" || a[0] != '-' {
			break
		}
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitCode(0)
	case err != nil:
		return exitCode(2) // the flag set has said why
	}
	return nil
}

// parseAll is parse for a command without arguments.
func (c *call) parseAll(fs *flag.FlagSet, args []string) error {
	if err := c.parse(fs, args); err != nil {
		return err
	}
	return c.noArguments(fs)
}

func (c *call) noArguments(fs *flag.FlagSet) error {
	if fs.NArg() > 0 {
		return usageErrorf("%s takes no argument (got %q)", c.command.name, fs.Arg(0))
	}
	return nil
}
