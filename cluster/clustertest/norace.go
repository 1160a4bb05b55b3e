//go:build !race

package clustertest

// Race reports whether the race detector runs, which makes long walks five times as long.
const Race = false
