package daemon

import (
	"fmt"
	"syscall"

	"patroniglue/internal/config"
	"patroniglue/internal/listen"
)

// spareFiles are the files for what is neither a client, nor a port, nor a poll: logs, the
// history, files that are read again, and those of the system.
const spareFiles = 64

// fitLimits lowers limits for which files, the number of files that the process may have
// open, is too small, and remarks that. Each client takes one file and the ports take
// some. Polls must never lack any: each node takes two, because the next poll may begin
// while the connection of the last one closes.
func fitLimits(l config.Limits, files uint64, nodes, ports int) (fitted config.Limits, remarks []string) {
	others := spareFiles + 2*nodes + ports
	most, want := int(min(files, 1<<30))-others, l.HTTPConnections+l.AgentConnections
	if want <= most {
		return l, nil
	}
	fitted = l
	fitted.HTTPConnections = max(config.MinConnections, int(float64(most)*float64(l.HTTPConnections)/float64(want)))
	fitted.AgentConnections = max(config.MinConnections, most-fitted.HTTPConnections)
	return fitted, []string{fmt.Sprintf("limits: at most %d HTTP and %d agent connections, because the process may have %d files open, want %d (LimitNOFILE of its systemd unit, or ulimit -n)",
		fitted.HTTPConnections, fitted.AgentConnections, files, others+want)}
}

// filesOf is how many files the process has open for a port, without its connections.
func filesOf(a config.ListenAddress) int {
	if a.Fast {
		return listen.FastFiles
	}
	return 1
}

// openFiles is how many files the process may have open. Go has raised the limit as far as
// the process may (package os, rlimit.go).
func openFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024 // the usual minimum
	}
	return uint64(l.Cur)
}
