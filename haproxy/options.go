package haproxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/internal/config"
)

// haproxyOptions are the flags of the subcommand haproxy.
type Options struct {
	WritePort, ReadPort, StatsPort int
	Bind                           string // "" = all addresses
	Cluster                        string // "" = all
	Supervisor                     string // "" = as the configuration says
	Socket, User                   string
	Ca, Crt                        string
	Direct, Dedicated              bool
	AgentInter                     time.Duration // of the write side
	Hold                           time.Duration // 0 = refuse at once
	Lua                            string        // "" = in dir, or where Debian's HAProxy has its files
	Dir                            string        // where to write, absolute; "" = standard output
}

// readInter is how often agents are asked about reads, at most: nobody waits for
// a replica as writers do for a primary.
const readInter = 200 * time.Millisecond

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// luaName is the name of the file that -hold needs.
const LuaName = "patroniglue-hold.lua"

// haproxyPorts looks for ports that HAProxy could not bind.
func checkPorts(cfg *config.Config, o Options, clusters int) error {
	var errs []error
	users := make(map[int]string)
	use := func(port int, who string) {
		switch {
		case port < 1 || port > 65535:
			errs = append(errs, fmt.Errorf("%s: want a port from 1 to 65535 (got %d)", who, port))
		case users[port] != "":
			errs = append(errs, fmt.Errorf("%s: want a port of its own, %s has it too (got %d)", who, users[port], port))
		default:
			users[port] = who
		}
	}
	// HAProxy beside the supervisor meets its ports too.
	if !isRemote(o.Supervisor) {
		users[cfg.Frontend.Port] = "frontend.port"
		if _, port, err := config.SplitAddress(cfg.Operator.Listen); err == nil {
			users[port] = "operator.listen"
		}
		if _, port, err := config.SplitAddress(cfg.Agent.Listen); err == nil {
			users[port] = "agent.listen"
		}
		for _, n := range cfg.Nodes {
			for _, question := range slices.Sorted(maps.Keys(n.Agent)) {
				if _, port, err := config.SplitAddress(n.Agent[question]); err == nil {
					users[port] = fmt.Sprintf("agent.%s of node %q", question, n.Name)
				}
			}
		}
		delete(users, 0)
	}
	for i := range clusters {
		which := ""
		if i > 0 {
			which = fmt.Sprintf(" of cluster %d", i+1)
		}
		use(o.WritePort+2*i, "-write-port"+which)
		use(o.ReadPort+2*i, "-read-port"+which)
	}
	if o.StatsPort != 0 {
		use(o.StatsPort, "-stats-port")
	}
	return errors.Join(errs...)
}

func isRemote(supervisor string) bool {
	ip, err := netip.ParseAddr(supervisor)
	return supervisor != "" && supervisor != "localhost" && !(err == nil && ip.IsLoopback())
}

func checkFlags(o Options) error {
	var errs []error
	if !filepath.IsAbs(o.Socket) || strings.Contains(o.Socket, ",") { // where HAProxy begins another address
		errs = append(errs, fmt.Errorf("-socket: want an absolute path without a comma (got %q)", o.Socket))
	}
	if o.User != "" && !config.ValidName(o.User) {
		errs = append(errs, fmt.Errorf("-user: want the name of a user (got %q)", o.User))
	}
	if !config.ValidHost(o.Supervisor) {
		errs = append(errs, fmt.Errorf("-supervisor: want a host name or an IP address, nothing more (got %q)", o.Supervisor))
	}
	if o.AgentInter < 10*time.Millisecond || o.AgentInter > time.Second || o.AgentInter%time.Millisecond != 0 {
		errs = append(errs, fmt.Errorf("-agent-inter: want whole milliseconds from 10ms to 1s (got %v)", o.AgentInter))
	}
	if o.Hold != 0 && (o.Hold < time.Second || o.Hold > time.Minute || o.Hold%time.Second != 0) {
		errs = append(errs, fmt.Errorf("-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got %v)", o.Hold))
	}
	switch {
	case o.Lua == "":
	case o.Hold == 0:
		errs = append(errs, fmt.Errorf("-lua: want -hold with it (got %q)", o.Lua))
	case o.Dir != "":
		errs = append(errs, fmt.Errorf("-lua: want it without -o, which writes that file into its own directory (got %q)", o.Lua))
	case !filepath.IsAbs(o.Lua):
		errs = append(errs, fmt.Errorf("-lua: want an absolute path (got %q)", o.Lua))
	}
	return errors.Join(errs...)
}
