//go:build !linux

package cluster

import "time"

// Suspended is known on Linux only.
func Suspended() time.Duration { return 0 }
