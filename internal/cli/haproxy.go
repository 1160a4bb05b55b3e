package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"patroniglue/haproxy"
	"patroniglue/internal/config"
	"patroniglue/internal/daemon"
)

// haproxyConfig prints a haproxy.cfg for the configured nodes, writes it, or judges one
// that exists.
func haproxyConfig(ctx context.Context, c *call, args []string) error {
	var o haproxy.Options
	fs := c.newFlags()
	haproxyFlags(fs, &o)
	lintFile := fs.String("lint", "", "print no haproxy.cfg, but warn of anything dangerous in this `FILE`; exit 1 = there are warnings")
	if err := c.parseAll(fs, args); err != nil {
		return err
	}
	path, cfg, err := config.FindAndLoad(c.config)
	if *lintFile != "" && (err == nil || c.config == "") { // without a configuration it checks what it can
		return lintHAProxy(*lintFile, cfg, c.stdout, c.stderr)
	}
	if err != nil {
		return err
	}
	if o.Dir != "" {
		if o.Dir, err = filepath.Abs(o.Dir); err != nil {
			return err
		}
	}
	if cfg.Discovery.On() {
		if err := daemon.DiscoverOnce(ctx, cfg, c.stderr); err != nil {
			return fmt.Errorf("making a haproxy.cfg for %s: %w", path, err)
		}
	}
	text, err := haproxy.Render(cfg, o)
	if err != nil {
		return fmt.Errorf("making a haproxy.cfg for %s:\n%w", path, err)
	}
	if o.Dir != "" {
		return haproxy.Write(o.Dir, text, o.Hold > 0, c.stdout)
	}
	_, err = c.stdout.Write(text)
	return err
}

func haproxyFlags(fs *flag.FlagSet, o *haproxy.Options) {
	fs.IntVar(&o.WritePort, "write-port", 5000, "`PORT` that leads to the primary; the second cluster has PORT+2, and so on")
	fs.IntVar(&o.ReadPort, "read-port", 5001, "`PORT` that leads to the replicas; the second cluster has PORT+2, and so on")
	fs.IntVar(&o.StatsPort, "stats-port", 7000, "`PORT` of HAProxy's statistics page, on 127.0.0.1; 0 = none")
	fs.StringVar(&o.Bind, "bind", "", "`ADDRESS` where HAProxy takes connections to the nodes (default: all)")
	fs.StringVar(&o.Cluster, "cluster", "", "only the cluster of this `NAME`")
	fs.StringVar(&o.Supervisor, "supervisor", "", "`HOST` where HAProxy finds this patroniglue (default: frontend.host and agent.listen, 127.0.0.1 for all addresses)")
	fs.StringVar(&o.Socket, "socket", "/run/haproxy/admin.sock", "`PATH` of HAProxy's stats socket")
	fs.StringVar(&o.User, "user", "haproxy", "`NAME` of the user and the group that HAProxy switches to; \"\" = it does not switch")
	fs.StringVar(&o.CAFile, "ca", "", "PEM `FILE` of the authorities with which HAProxy verifies an https frontend, or with -direct each https Patroni")
	fs.StringVar(&o.CertFile, "crt", "", "PEM `FILE` with the certificate and the key that HAProxy's checks present, where a client certificate is required")
	fs.BoolVar(&o.Direct, "direct", false, "HAProxy's own check asks each Patroni, not this patroniglue")
	fs.BoolVar(&o.Dedicated, "dedicated", false, "use the agent ports of each node, not the shared one")
	fs.DurationVar(&o.AgentInter, "agent-inter", 50*time.Millisecond, "how often agents are asked about the primary, and how long connecting to one may take: a `DURATION`, 10ms to 1s; for reads at least 200ms")
	fs.DurationVar(&o.Hold, "hold", 0, "keep new connections to the write side waiting for at most this `DURATION`, 1s to 60s, while there is no primary; 0 = refuse them")
	fs.StringVar(&o.Lua, "lua", "", "`PATH` where HAProxy finds the Lua file of -hold (default /etc/haproxy/"+haproxy.LuaName+"; -o has its own)")
	fs.StringVar(&o.Dir, "o", "", "write haproxy.cfg, and with -hold the Lua file that it loads, into this `DIR`")
}

// lintHAProxy warns of anything dangerous in a haproxy.cfg for Patroni. It judges the
// listen and backend sections in mode tcp that use option httpchk or agent-check;
// haproxy -c tells whether HAProxy accepts the file. Without cfg the nodes' names are
// not known.
func lintHAProxy(file string, cfg *config.Config, stdout, stderr io.Writer) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading a haproxy.cfg: %w", err)
	}
	warnings, judged := haproxy.Lint(string(data), cfg)
	for _, w := range warnings {
		if _, err := fmt.Fprintf(stdout, "%s:%d: warning: %s\n", file, w.Line, w); err != nil {
			return err
		}
	}
	switch {
	case judged == 0:
		fmt.Fprintf(stderr, "patroniglue: %s: no section in mode tcp uses option httpchk or agent-check: nothing was judged\n", file)
	case cfg == nil:
		fmt.Fprintf(stderr, "patroniglue: %s: without a configuration the names of servers were not judged\n", file)
	}
	if len(warnings) > 0 {
		return exitCode(1)
	}
	return nil
}
