package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspended gives how long this machine has been suspended since it started: by
// what the monotonic clock is behind the one that also runs meanwhile
// (clock_gettime(2)). A virtual machine that its host stops, clocks and all,
// cannot see that.
func suspended() time.Duration {
	var boot, monotonic unix.Timespec
	// In this order a pause between the two makes it less, never more; and the next
	// call tells.
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - monotonic.Nano())
}
