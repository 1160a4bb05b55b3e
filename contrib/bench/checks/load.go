//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long an answer may take: HAProxy's inter in what "patroniglue haproxy" prints.
const patience = time.Second

// load asks one server one question, over and over.
type load struct {
	addr     *unix.SockaddrInet4
	request  []byte
	keep     bool // ask again on the same connection
	complete func(answer []byte, eof bool) (whole, passes bool)

	connections int
	duration    time.Duration
}

// outcome is what became of a load.
type outcome struct {
	inTime    int             // answers within the duration
	latencies []time.Duration // of every answer, and of every check that waited in vain for as long as its patience
	answers   int
	errors    int // timeouts, refusals, wrong or broken answers
}

// asker is one of those that ask. It does what HAProxy 2.6 does for a check (strace): no Nagle, no quick ACK, so that the
// ACK of the handshake goes with the question, one event to send, one to read, and a reset for a server that did not close.
type asker struct {
	fd    int // -1 = not connected
	done  bool
	sent  bool
	began time.Time
	n     int // bytes of the answer in buf
	buf   [16 << 10]byte
}

// run asks in one thread, until the duration is over and every check under way has come to an end.
func (l load) run(ctx context.Context) (outcome, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	o := outcome{latencies: make([]time.Duration, 0, 1<<18)}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return o, err
	}
	defer unix.Close(epoll)

	begun := time.Now()
	askers := make([]asker, l.connections)
	running := len(askers)
	next := func(i int, now time.Time) {
		a := &askers[i]
		if now.Sub(begun) >= l.duration || ctx.Err() != nil {
			a.close(false)
			a.done = true
			running--
			return
		}
		if err := a.ask(epoll, i, l, now); err != nil {
			o.errors++
			a.close(false) // the next sweep tries again
		}
	}
	for i := range askers {
		askers[i].fd = -1
		next(i, begun)
	}
	events := make([]unix.EpollEvent, l.connections)
	const sweep = 20 * time.Millisecond
	for swept := begun; running > 0; {
		n, err := unix.EpollWait(epoll, events, int(sweep.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return o, fmt.Errorf("waiting for answers: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			a := &askers[event.Fd]
			got, eof := a.handle(event.Events, l)
			if got == nothing {
				continue
			}
			now := time.Now()
			if got == passed {
				o.answers++
				o.latencies = append(o.latencies, now.Sub(a.began))
				if now.Sub(begun) <= l.duration {
					o.inTime++
				}
			} else {
				o.errors++
			}
			if !l.keep || eof || got == failed {
				a.close(eof)
			}
			next(int(event.Fd), now)
		}
		now := time.Now()
		if now.Sub(swept) < sweep {
			continue
		}
		swept = now
		for i := range askers {
			switch a := &askers[i]; {
			case a.done:
			case a.fd < 0:
				next(i, now)
			case now.Sub(a.began) >= patience:
				o.errors++
				o.latencies = append(o.latencies, patience)
				a.close(false)
				next(i, now)
			}
		}
	}
	return o, context.Cause(ctx)
}

// ask begins a check, on the connection that there is or a new one.
func (a *asker) ask(epoll, i int, l load, now time.Time) (err error) {
	a.began, a.n = now, 0
	if a.fd >= 0 {
		_, err = unix.Write(a.fd, l.request)
		return err
	}
	a.sent = false
	if a.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	unix.SetsockoptInt(a.fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(a.fd, unix.SOL_TCP, unix.TCP_QUICKACK, 0)
	if err := unix.Connect(a.fd, l.addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	events := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)}
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, a.fd, &events)
}

// verdict is what an event brought.
type verdict int

const (
	nothing verdict = iota
	passed
	failed
)

// handle takes an event: the connection is there, or there is something to read. eof says that the server closed it.
func (a *asker) handle(events uint32, l load) (v verdict, eof bool) {
	if !a.sent {
		a.sent = true
		if _, err := unix.Write(a.fd, l.request); err != nil { // one that was refused, too
			return failed, false
		}
		return nothing, false
	}
	n, err := unix.Read(a.fd, a.buf[a.n:])
	if errors.Is(err, unix.EAGAIN) {
		return nothing, false
	}
	if err != nil || a.n+n == len(a.buf) { // no answer is that long
		return failed, false
	}
	a.n += n
	// All that came before the server's FIN is in this read, which had room for more.
	eof = n == 0 || events&unix.EPOLLRDHUP != 0
	switch whole, passes := l.complete(a.buf[:a.n], eof); {
	case whole && passes:
		return passed, eof
	case whole || eof:
		return failed, eof
	}
	return nothing, false
}

// close ends the connection, by a reset unless the server has closed it.
func (a *asker) close(eof bool) {
	if a.fd < 0 {
		return
	}
	if !eof {
		unix.SetsockoptLinger(a.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(a.fd)
	a.fd = -1
}

// httpAnswer reports whether answer is a whole answer to GET, and whether it is a 200.
func httpAnswer(answer []byte, eof bool) (whole, passes bool) {
	head, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !ok {
		return false, false
	}
	status, headers, _ := bytes.Cut(head, []byte("\r\n"))
	passes = len(status) >= 12 && string(status[:7]) == "HTTP/1." && string(status[8:12]) == " 200"
	for len(headers) > 0 {
		var header []byte
		header, headers, _ = bytes.Cut(headers, []byte("\r\n"))
		name, value, _ := bytes.Cut(header, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.Atoi(string(value))
			return err == nil && len(body) >= n, passes && err == nil && len(body) == n
		case bytes.EqualFold(name, []byte("Transfer-Encoding")): // of nginx, for what it has from Patroni
			return bytes.HasSuffix(body, []byte("\r\n0\r\n\r\n")), passes && bytes.EqualFold(value, []byte("chunked"))
		}
	}
	return eof, passes // as Patroni answers
}

// agentAnswer is that for the line of an agent.
func agentAnswer(answer []byte, _ bool) (whole, passes bool) {
	return bytes.HasSuffix(answer, []byte("\n")), bytes.HasPrefix(answer, []byte("ready up "))
}
