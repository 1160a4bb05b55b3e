package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
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

// FreePort returns 127.0.0.1 with a port where nobody answers and that it has not returned before. Beside other programs
// that call it, only a network namespace (see Isolate) keeps theirs apart. It connects instead of listening: a process
// that this one is starting meanwhile holds a copy of every listening socket until it executes its program.
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
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(nextPort.port))
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return addr, nil
		}
		if err == nil {
			conn.Close()
		}
	}
	return "", fmt.Errorf("looking for a free port: none from %d to %d", firstFreePort, endOfFree-1)
}
