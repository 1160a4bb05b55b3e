package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is something that people ask of the program.
type command struct {
	name      string // "" = the supervisor itself; after a hyphen it is a flag, and takes no arguments
	arguments string // as the usage shows them
	summary   string // one line
	run       func(ctx context.Context, c *call, args []string) error
}

// commands is the one list of them: usage, help and dispatch read it, and the test of
// the manual page.
var commands = []command{
	{"", "[-verbose|-debug|-quiet]", "run: poll the nodes, answer load balancers", runDaemon},
	{"-check", "", "validate the file and print every mistake; exit 0 or 1", checkConfig},
	{"status", "[FLAGS]", "print what the running one knows; -watch redraws it, -nagios and -json are for monitoring", status},
	{"history", "[FLAGS]", "print what changed, and how long there was no primary", history},
	{"leaving", "NODE [FLAGS]", "announce, before a switchover, that NODE is about to stop", leaving},
	{"haproxy", "[FLAGS]", "print a haproxy.cfg for these nodes, or judge another one with -lint FILE", haproxyConfig},
	{"demo", "[FLAGS]", "run with three simulated nodes; no database, no configuration needed", demo},
	{"-version", "", "print the version", printVersion},
}

func findCommand(name string) (command, bool) {
	i := slices.IndexFunc(commands, func(cmd command) bool { return cmd.name == name })
	if i < 0 {
		return command{}, false
	}
	return commands[i], true
}

// words lists the commands that are words of their own.
func words() []string {
	var names []string
	for _, cmd := range commands {
		if cmd.name != "" && cmd.name[0] != '-' {
			names = append(names, cmd.name)
		}
	}
	return names
}

// synopsis is how the command is typed.
func (cmd command) synopsis() string {
	parts := []string{"patroniglue", "-config FILE", cmd.name, cmd.arguments}
	if cmd.name == "demo" || cmd.name == "-version" {
		parts[1] = "" // they read none
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func printUsage(w io.Writer) {
	width := 0
	for _, cmd := range commands {
		width = max(width, len(cmd.synopsis()))
	}
	fmt.Fprint(w, "patroniglue watches Patroni clusters and answers load balancers from memory.\n\n")
	for _, cmd := range commands {
		fmt.Fprintf(w, "  %-*s  %s\n", width, cmd.synopsis(), cmd.summary)
	}
	fmt.Fprint(w, `
After a command, -help lists its flags.
Without -config it reads $HOME/.patroniglue.yml (as patroniglue 1.x did), else /etc/patroniglue/patroniglue.toml.
SIGHUP reloads the configuration: all of it or, when anything is wrong, nothing; the log and /health then say why.
Exit codes: 0 after SIGINT or SIGTERM, 1 after an error, 2 for a wrong command line, 78 for a configuration that
it cannot run with. status: 0, 1, 2 = ok, warning, critical. status, history, leaving: 3 = no answer.

`)
}
