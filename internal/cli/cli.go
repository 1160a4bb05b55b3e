// Package cli is what people type: a file for each command, and the list of them in
// commands.go.
package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Main is the program without its process: args are without the program's name. It
// returns the exit code.
func Main(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	c := &call{version: version, stdout: stdout, stderr: stderr}
	return exitStatus(c.run(ctx, args), stderr)
}

// call is one run of the program: what every command may need.
type call struct {
	command command
	options
	version        string
	stdout, stderr io.Writer
}

// options are the flags in front of a command.
type options struct {
	config                string
	check, version        bool
	verbose, debug, quiet bool
}

// run reads the flags in front of the command, and runs it.
func (c *call) run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("patroniglue", flag.ContinueOnError)
	flags.StringVar(&c.options.config, "config", "", "configuration `FILE`: TOML, or the YAML of patroniglue 1.x")
	flags.BoolVar(&c.check, "check", false, "validate the configuration and exit")
	flags.BoolVar(&c.options.version, "version", false, "print the version and exit")
	flags.BoolVar(&c.verbose, "verbose", false, "log changes of state (the default)")
	flags.BoolVar(&c.debug, "debug", false, "log repetitions too")
	flags.BoolVar(&c.quiet, "quiet", false, "log only problems")
	flags.Usage = func() {
		printUsage(flags.Output())
		flags.PrintDefaults()
	}
	if err := c.parse(flags, args); err != nil {
		return err
	}
	name, rest := "", flags.Args()
	if len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	switch {
	case c.options.version:
		name = "-version"
	case c.check && name != "":
		return usageErrorf("-check takes no command (got %q)", name)
	case c.check:
		name = "-check"
	}
	var ok bool
	if c.command, ok = findCommand(name); !ok {
		all := words()
		return usageErrorf("unknown command %q, want %s or %s, or none to run; see patroniglue -help", name, strings.Join(all[:len(all)-1], ", "), all[len(all)-1])
	}
	return c.command.run(ctx, c, rest)
}

func printVersion(_ context.Context, c *call, _ []string) error {
	_, err := fmt.Fprintln(c.stdout, "patroniglue", c.version)
	return err
}
