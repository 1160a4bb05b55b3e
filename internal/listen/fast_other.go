//go:build !linux

package listen

import (
	"net"
	"time"
)

func newFast(ln *net.TCPListener, _ time.Duration, _ Answer) (net.Listener, error) { return ln, nil }
