package nodetest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"
)

// Fault is a way in which a node misbehaves. It applies to every request until another one is set.
type Fault int

// The faults.
const (
	None           Fault = iota
	Freeze               // the connection is accepted and never answered: a stopped process, a hung Postgres, a shutdown in progress
	Drip                 // the answer comes at one byte per second
	CloseEarly           // the first half of the answer, then the end: without Content-Length it looks complete
	Empty                // the connection is closed without a byte
	Reset                // the connection is reset without a byte
	Garbage              // status 200 with something that is no JSON
	WrongShape           // status 200 with valid JSON that is no object
	Status500            // a status that is neither 200 nor 503
	Redirect             // 302 to the node's own /patroni, which answers 200 to a client that follows
	Huge                 // the right status and a valid document of 10 MB
	EndlessHeaders       // headers without end
	Refuse               // the port is closed, and nothing reserves it; the next fault opens it again
)

// hugeBody is the size of Huge's document.
const hugeBody = 10 << 20

var faultNames = [...]string{"None", "Freeze", "Drip", "CloseEarly", "Empty", "Reset", "Garbage", "WrongShape", "Status500", "Redirect", "Huge", "EndlessHeaders", "Refuse"}

func (f Fault) String() string {
	if f < 0 || int(f) >= len(faultNames) {
		return fmt.Sprintf("Fault(%d)", int(f))
	}
	return faultNames[f]
}

// SetFault makes the node misbehave from now on; None ends that. Requests that Freeze holds are answered by the new fault;
// Refuse also closes the open connections.
func (n *Node) SetFault(f Fault) {
	n.mu.Lock()
	n.fault = f
	close(n.changed)
	n.changed = make(chan struct{})
	if f == Refuse {
		n.dropLocked()
	}
	n.mu.Unlock()

	if f == Refuse {
		return
	}
	// Another process may have taken the port meanwhile, and may release it soon.
	for attempt := 1; ; attempt++ {
		err := n.open()
		if err == nil {
			return
		}
		if !n.sleep(50*time.Millisecond, nil) {
			return // closed meanwhile
		}
		if attempt == 20 {
			panic(fmt.Sprintf("nodetest: opening the port of %q again: %v", n.name, err))
		}
	}
}

// Fault is the fault that applies now.
func (n *Node) Fault() Fault {
	f, _, _ := n.behaviour()
	return f
}

// Freeze is SetFault(Freeze).
func (n *Node) Freeze() { n.SetFault(Freeze) }

// Thaw ends any fault. Requests that wait are answered now, from the present state.
func (n *Node) Thaw() { n.SetFault(None) }

// SetDelay delays each answer by d, before the fault applies. The answer is made from the state at the end of the delay.
func (n *Node) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

func (n *Node) behaviour() (Fault, time.Duration, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fault, n.delay, n.changed
}

// respond answers the request according to the fault.
func (x *exchange) respond() {
	fault, delay, changed := x.node.behaviour()
	for fault == Freeze {
		select {
		case <-changed:
			fault, delay, changed = x.node.behaviour()
		case <-x.departed():
			return
		case <-x.node.done:
			return
		}
	}
	if delay > 0 && !x.wait(delay) {
		return
	}

	switch fault {
	case Drip:
		for _, b := range x.decide().Bytes(time.Now()) {
			if _, err := x.conn.Write([]byte{b}); err != nil || !x.wait(time.Second) {
				return
			}
		}
	case CloseEarly:
		whole := x.decide().Bytes(time.Now())
		x.conn.Write(whole[:len(whole)/2])
	case Empty, Refuse: // Refuse: asked just before the port was closed
	case Reset:
		x.finish()
		abort(x.raw)
	case Garbage:
		x.send(Answer{Status: http.StatusOK, Header: []string{"Content-Type: text/html"}, Body: []byte("<h1>It works!</h1>\n")})
	case WrongShape:
		x.send(jsonAnswer(http.StatusOK, []int{1, 2, 3}))
	case Status500:
		x.send(errorPage(http.StatusInternalServerError, "", true))
	case Redirect:
		x.send(Answer{Status: http.StatusFound, Header: []string{"Location: " + x.node.URL() + "/patroni"}, Body: []byte("elsewhere\n")})
	case Huge:
		a := x.decide()
		if rest, ok := bytes.CutPrefix(a.Body, []byte{'{'}); ok {
			a.Body = slices.Concat([]byte(`{"padding": "`), bytes.Repeat([]byte{'x'}, hugeBody), []byte(`", `), rest)
		}
		x.send(a)
	case EndlessHeaders:
		line := []byte("HTTP/1.0 200 OK\r\n")
		for {
			if _, err := x.conn.Write(line); err != nil {
				return
			}
			line = fmt.Appendf(nil, "X-Filler: %0512d\r\n", 0)
		}
	default:
		x.send(x.decide())
	}
}

// abort ends a connection with a reset where that is possible.
func abort(conn net.Conn) {
	switch conn := conn.(type) {
	case *net.TCPConn:
		conn.SetLinger(0)
		conn.Close()
	case interface{ abort() error }:
		conn.abort()
	}
}
