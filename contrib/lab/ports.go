package lab

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

// Ports for programs that bind them by themselves: above those of labs, below those that Linux gives to outgoing
// connections (net.ipv4.ip_local_port_range, which begins at 32768). A port that is free and of that range cannot
// become somebody's outgoing connection before the program binds it.
const (
	firstFreePort = 20000
	endOfFree     = 32000
)

var nextPort struct {
	sync.Mutex
	port int
}

// FreePort returns 127.0.0.1 with a port that nobody listens on and that it has not returned before. Beside other
// programs that call it, only a network namespace (see Isolate) keeps theirs apart.
func FreePort() (string, error) {
	nextPort.Lock()
	defer nextPort.Unlock()
	if nextPort.port == 0 {
		nextPort.port = firstFreePort + os.Getpid()*37%(endOfFree-firstFreePort)
	}
	for range endOfFree - firstFreePort {
		if nextPort.port++; nextPort.port >= endOfFree {
			nextPort.port = firstFreePort
		}
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(nextPort.port)))
		if err != nil {
			continue
		}
		addr := ln.Addr().String()
		if err := ln.Close(); err != nil {
			return "", fmt.Errorf("looking for a free port: %w", err)
		}
		return addr, nil
	}
	return "", fmt.Errorf("looking for a free port: none from %d to %d", firstFreePort, endOfFree-1)
}
