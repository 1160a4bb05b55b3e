//go:build !linux

package main

import "time"

// suspended is known on Linux only.
func suspended() time.Duration { return 0 }
