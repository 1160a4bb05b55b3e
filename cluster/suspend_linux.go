package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// started and monotonic are nearly the same moment, by Go's clock, which is read
// without a system call, and by the kernel's monotonic clock.
var started, monotonic = time.Now(), readClock(unix.CLOCK_MONOTONIC)

// Suspended returns how long this machine has been suspended since it was started,
// for [Config.Suspended]: the difference between CLOCK_BOOTTIME, which runs during a
// suspension, and CLOCK_MONOTONIC, which does not (clock_gettime(2)). A virtual
// machine cannot notice that its host paused it together with its clocks. Each check
// calls it, so it makes only one system call.
func Suspended() time.Duration {
	// In this order a pause between the two reads makes the result smaller, never
	// larger; the next call corrects it.
	boot := readClock(unix.CLOCK_BOOTTIME)
	return boot - monotonic - time.Since(started)
}

// readClock reads one of the kernel's clocks.
func readClock(id int32) time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(id, &now) != nil {
		return 0 // no kernel that Go supports lacks these clocks
	}
	return time.Duration(now.Nano())
}
