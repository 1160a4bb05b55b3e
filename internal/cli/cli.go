// Command patroniglue watches Patroni clusters and answers load balancers'
// health checks from memory. See README.md.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"patroniglue/internal/config"
	"patroniglue/internal/daemon"
)

const usage = `patroniglue watches Patroni clusters and answers load balancers from memory.

  patroniglue -config FILE [-verbose|-debug|-quiet]   run
  patroniglue -config FILE -check                     validate the file: every mistake at once; exit 0 or 1
  patroniglue -config FILE status [FLAGS]             what the running one knows; exit 0, 1, 2 = ok, warning, critical; 3 = no answer;
                                                      -watch redraws it each second; -nagios, -json: for monitoring
  patroniglue -config FILE history [-since 1h]        what changed, and how long there was no primary; -node N, -limit 50, -json
  patroniglue -config FILE leaving NODE [-for 10s]    before a switchover: NODE leads no more until it has stopped; -cancel takes it back
  patroniglue -config FILE haproxy [FLAGS]            print a haproxy.cfg for these nodes, or write it (-o DIR); its flags: haproxy -help
  patroniglue -config FILE haproxy -lint FILE         judge a haproxy.cfg; exit 1 = there are warnings
  patroniglue demo [-every 30s] [-listen ADDRESS]     three simulated nodes, the supervisor, the page; no database needed
  patroniglue -version | -help

Without -config it reads $HOME/.patroniglue.yml (as patroniglue 1.x did), else /etc/patroniglue/patroniglue.toml.
SIGHUP loads the configuration anew: all of it or, when anything is wrong, nothing; then the log and /health say why.
Exit codes: 0 after SIGINT or SIGTERM, 1 after an error, 2 for a wrong command line, 78 for a configuration that
cannot be run with; status has its own, leaving and history say 3 when nobody answers.

`

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

// Main is the program without its process: args are without the program's name. It
// gives the exit code.
func Main(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	return exitStatus(run(ctx, version, args, stdout, stderr), stderr)
}

// exitStatus says what went wrong, if something did.
func exitStatus(err error, stderr io.Writer) int {
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") { // each of a journal's lines has to speak for itself
		fmt.Fprintln(stderr, "patroniglue:", line)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	if _, ok := errors.AsType[unfitError](err); ok {
		return 78
	}
	return 1
}

// options are the flags in front of a subcommand.
type options struct {
	config                string
	check, version        bool
	verbose, debug, quiet bool
}

func run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("patroniglue", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.config, "config", "", "configuration `FILE`: TOML, or the YAML of patroniglue 1.x")
	flags.BoolVar(&o.check, "check", false, "validate the configuration and exit")
	flags.BoolVar(&o.version, "version", false, "print the version and exit")
	flags.BoolVar(&o.verbose, "verbose", false, "log changes of state (the default)")
	flags.BoolVar(&o.debug, "debug", false, "log repetitions too")
	flags.BoolVar(&o.quiet, "quiet", false, "log only what is wrong")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := parse(flags, args, stdout); err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, "patroniglue", version)
		return nil
	}
	command, rest := "", flags.Args()
	if len(rest) > 0 {
		command, rest = rest[0], rest[1:]
	}
	if o.check && command != "" {
		return usageErrorf("-check is without a command (got %q)", command)
	}
	log := newLogger(stderr, o)
	switch command {
	case "demo":
		return demo(ctx, rest, version, stdout, stderr, log)
	case "haproxy":
		return haproxyCommand(ctx, rest, o.config, stdout, stderr)
	case "history":
		return historyCommand(ctx, rest, o.config, stdout, stderr)
	case "leaving":
		return leavingCommand(ctx, rest, o.config, stdout, stderr)
	case "status":
		return status(ctx, rest, o.config, stdout, stderr)
	case "":
	default:
		return usageErrorf("unknown command %q, want status, history, leaving, haproxy or demo, or none to run; see patroniglue -help", command)
	}
	path, cfg, err := config.FindAndLoad(o.config)
	var d *daemon.Daemon
	if err == nil {
		d, err = daemon.New(daemon.Options{Config: cfg, Path: path, Version: version, Log: log})
	}
	if err != nil && !o.check {
		return unfitError{err}
	}
	if err != nil {
		return err
	}
	if o.check {
		for _, note := range cfg.Notes {
			fmt.Fprintf(stdout, "%s: note: %s\n", path, note)
		}
		nodes := "nodes"
		if len(cfg.Nodes) == 1 {
			nodes = "node"
		}
		discovery := ""
		if cfg.Discovery.On() {
			discovery = fmt.Sprintf(", others are discovered from %d endpoints of etcd", len(cfg.Discovery.Etcd))
		}
		fmt.Fprintf(stdout, "%s: ok, %d %s%s\n", path, len(cfg.Nodes), nodes, discovery)
		return nil
	}
	return d.Run(ctx)
}

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
