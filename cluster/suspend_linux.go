package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// started and monotonic are the same moment, or nearly, which does not matter:
// by Go's clock, which is read without a system call, and by the kernel's.
var started, monotonic = time.Now(), readClock(unix.CLOCK_MONOTONIC)

// Suspended gives how long this machine has been suspended since it started: by
// what the monotonic clock is behind the one that also runs meanwhile
// (clock_gettime(2)). A virtual machine that its host stops, clocks and all,
// cannot see that. Each check asks for it, so it is one system call.
func Suspended() time.Duration {
	// In this order a pause between the two makes it less, never more; and the next
	// call tells.
	boot := readClock(unix.CLOCK_BOOTTIME)
	return boot - monotonic - time.Since(started)
}

// readClock reads one of the kernel's clocks.
func readClock(id int32) time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(id, &now) != nil {
		return 0 // a kernel without it: nobody has that
	}
	return time.Duration(now.Nano())
}
