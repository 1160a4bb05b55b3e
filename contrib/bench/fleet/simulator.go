//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"patroniglue/node/nodetest"
)

// simulate is the first argument that makes this program be the simulator.
const simulate = "simulate"

// clusterSize is how many nodes a cluster has; the last one has those that are left over, too.
const clusterSize = 3

// perPort is how many clusters share a port: each connection of the last minute keeps a pair of ports busy, and one queue
// for all would be full at once.
const perPort = 100

func clusterName(i int) string { return fmt.Sprintf("c%d", i+1) }
func nodeName(i int) string    { return fmt.Sprintf("pg%d", i+1) }

// clusterSizes says how many nodes each cluster has.
func clusterSizes(nodes int) []int {
	sizes := make([]int, nodes/clusterSize)
	for i := range sizes {
		sizes[i] = clusterSize
	}
	sizes[len(sizes)-1] += nodes % clusterSize
	return sizes
}

// simulator is a fleet of Patronis. Many share a port: their paths tell them apart, /CLUSTER/NODE/primary, so that
// thousands of them need neither thousands of ports nor of files. Answers are made when something changes, not when they
// are asked for: it must cost less than who is measured beside it.
type simulator struct {
	clusters []*simulated
	answered atomic.Uint64 // polls

	mu  sync.Mutex
	own []net.Listener // guarded by mu: the nodes' ports, when each has its own
}

// simulated is one cluster.
type simulated struct {
	mu      sync.Mutex // one switchover at a time
	leader  int
	states  []nodetest.State
	answers atomic.Pointer[[][]byte] // to GET /primary, by node
}

func newSimulator(nodes int) *simulator {
	s := &simulator{}
	for i, size := range clusterSizes(nodes) {
		c := &simulated{}
		for j := range size {
			make := nodetest.Replica
			if j == 0 {
				make = nodetest.Primary
			}
			c.states = append(c.states, make(clusterName(i), nodeName(j)))
		}
		c.publish()
		s.clusters = append(s.clusters, c)
	}
	return s
}

func (c *simulated) publish() {
	answers := make([][]byte, len(c.states))
	for i := range c.states {
		answers[i] = c.answer(i, "/primary")
	}
	c.answers.Store(&answers)
}

func (c *simulated) answer(i int, path string) []byte {
	dcs := nodetest.DCS{Leader: c.states[c.leader].Name, Members: c.states, Config: map[string]any{"ttl": 30, "loop_wait": 10}}
	now := time.Now()
	return nodetest.Decide(c.states[i], dcs, nodetest.Request{Method: http.MethodGet, Target: path}, now).Bytes(now)
}

// switchover makes the next node the primary, in an instant.
func (c *simulated) switchover() (primary string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.states[c.leader]
	timeline := *old.Timeline + 1
	c.states[c.leader] = nodetest.Replica(old.Scope, old.Name)
	c.leader = (c.leader + 1) % len(c.states)
	c.states[c.leader] = nodetest.Primary(old.Scope, c.states[c.leader].Name)
	for i := range c.states {
		c.states[i].Timeline = new(timeline)
	}
	c.publish()
	return c.states[c.leader].Name
}

// reply answers one request for a path.
func (s *simulator) reply(path string) []byte {
	own := func(text string) []byte { return []byte("HTTP/1.0 200 OK\r\n\r\n" + text) }
	parts := strings.Split(path, "/")
	switch path {
	case "/answered":
		return own(strconv.FormatUint(s.answered.Load(), 10))
	case "/apart":
		return own(strings.Join(s.apart(), " "))
	case "/gone":
		s.gone()
		return own("")
	}
	if len(parts) == 4 {
		i, j := numberAfter(parts[1], "c")-1, numberAfter(parts[2], "pg")-1
		if i >= 0 && i < len(s.clusters) {
			c := s.clusters[i]
			answers := *c.answers.Load()
			switch {
			case parts[3] == "switchover":
				return own(c.switchover())
			case j < 0 || j >= len(answers):
			case parts[3] == "primary":
				s.answered.Add(1)
				return answers[j]
			default:
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.answer(j, "/"+parts[3])
			}
		}
	}
	return []byte("HTTP/1.0 404 Not Found\r\n\r\n")
}

// numberAfter is 0 for what is no number.
func numberAfter(s, prefix string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(s, prefix))
	return n
}

// serve answers one request per connection and closes first, as Patroni does. The prefix goes before its path.
func (s *simulator) serve(conn net.Conn, prefix string) {
	defer conn.Close()
	buf := make([]byte, 2048)
	for n := 0; n < len(buf); {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			if fields := bytes.Fields(buf[:n]); len(fields) > 1 {
				conn.Write(s.reply(prefix + string(fields[1])))
			}
			return
		}
	}
}

// runSimulator is the other process: it tells the address of each hundred clusters, and ends when stdin does.
func runSimulator(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 1 {
		return errors.New(simulate + ": want how many nodes")
	}
	nodes, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	s := newSimulator(nodes)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	var eg errgroup.Group
	for i := range ports(nodes) {
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.%d.%d:0", i/250, i%250+1))
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		eg.Go(func() error { return s.accept(ctx, ln, "") })
		fmt.Fprintln(stdout, ln.Addr())
	}
	return eg.Wait()
}

// ports is how many of them so many nodes have.
func ports(nodes int) int { return (len(clusterSizes(nodes)) + perPort - 1) / perPort }

func (s *simulator) accept(ctx context.Context, ln net.Listener, prefix string) error {
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go s.serve(conn, prefix)
	}
}

// apart opens a port for each node, and gives their addresses.
func (s *simulator) apart() (addresses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.clusters {
		for j := range c.states {
			ln, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				panic(err) // out of files
			}
			s.own = append(s.own, ln)
			addresses = append(addresses, ln.Addr().String())
			go s.accept(context.Background(), ln, "/"+clusterName(i)+"/"+nodeName(j))
		}
	}
	return addresses
}

// gone closes these ports.
func (s *simulator) gone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ln := range s.own {
		ln.Close()
	}
	s.own = nil
}
