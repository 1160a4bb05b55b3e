//go:build !linux

package cluster

import "time"

// Suspended returns 0: only on Linux it is known how long the machine was suspended.
func Suspended() time.Duration { return 0 }
