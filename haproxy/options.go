package haproxy

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"patroniglue/internal/config"
)

// Options are the flags of the command haproxy.
type Options struct {
	WritePort, ReadPort, StatsPort int
	Bind                           string // "" = all addresses
	Cluster                        string // "" = all
	Supervisor                     string // "" = as the configuration says
	Socket, User                   string
	CAFile, CertFile               string        // PEM; CertFile has the key too
	Direct                         bool          // checks ask each Patroni
	Dedicated                      bool          // agents have a port for each node
	AgentInter                     time.Duration // of the write side
	Hold                           time.Duration // 0 = refuse at once
	Lua                            string        // "" = in Dir, or where Debian's HAProxy has its files
	Dir                            string        // for Write, absolute; "" = none
}

// readInter is how often agents are asked about reads, at most: nobody waits for a
// replica as writers wait for a primary.
const readInter = 200 * time.Millisecond

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// checkFlags finds values that HAProxy, or its users, could not live with.
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
