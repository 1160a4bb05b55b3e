package patroni

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// TestTwoClaims puts simulated members, who can do what no Patroni
// should, and databases that only greet behind the real HAProxy.
func TestTwoClaims(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Matrix(t, testTwoClaims)
}

func testTwoClaims(t *testing.T, s lab.Suite) {
	program := harness.BuiltBinary(t)
	l := harness.StartLab(t, lab.Options{Suite: s, Parts: []string{lab.HAProxy}, Program: program})
	sim := nodetest.Options{Addr: func(name string) string { return l.Node(name).REST }}.NewCluster(l.Scope, "pg1", "pg2", "pg3")
	t.Cleanup(sim.Close)
	db := new(databases)
	for _, n := range l.Nodes {
		db.listen(t, n)
	}
	e := suite{&harness.Cluster{Lab: l, Program: harness.StartProcess(t, harness.ReadFile(t, l.Config), exec.Command(program, "-config", l.Config))}}

	harness.Record(t, 2, 10*time.Millisecond, func() error {
		conn, err := greet(l.Write)
		if err == nil {
			conn.Close()
		}
		return err
	})
	claim := func(unlocked bool, names ...string) func() { return func() { sim.SplitBrain(unlocked, names...) } }
	serving := ""
	for _, tt := range []struct {
		name    string
		do      func()
		want    string   // who is in service then; "" is nobody
		reached []string // by clients meanwhile, one after another
	}{
		{"one claims", func() {}, "pg1", []string{"pg1"}},
		{"another one on the same timeline", claim(false, "pg1", "pg2"), "", []string{"pg1"}},
		{"it has won", func() { sim.Switchover("pg2") }, "pg2", []string{"pg2"}},
		{"the old one on a newer timeline", func() {
			sim.Node("pg1").Set(func(s *nodetest.State) { s.Timeline = new(int64(9)) })
			sim.SplitBrain(false, "pg1", "pg2")
		}, "pg1", []string{"pg2", "pg1"}},
		{"it does not see the DCS", claim(true, "pg2"), "pg1", []string{"pg1"}},
		{"neither sees the DCS", claim(true, "pg1", "pg2"), "pg1", []string{"pg1"}},
		{"the one in service hangs", sim.Node("pg1").Freeze, "pg2", []string{"pg1", "pg2"}},
		{"and is back", sim.Node("pg1").Thaw, "pg2", []string{"pg2"}},
		{"and sees the DCS, the other does not", func() {
			sim.Node("pg1").Set(func(s *nodetest.State) { s.Unlocked = false })
		}, "pg1", []string{"pg2", "pg1"}},
		{"all three", claim(false, "pg1", "pg2", "pg3"), "pg1", []string{"pg1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var session net.Conn
			if serving != "" {
				var err error
				if session, err = greet(l.Write); err != nil {
					t.Fatal(err)
				}
				defer session.Close()
			}
			db.forget()
			begun := time.Now()
			tt.do()
			e.haproxyWrites(t, tt.want)
			took := time.Since(begun)
			time.Sleep(1500 * time.Millisecond) // and so it stays: every node is polled meanwhile
			e.haproxyWrites(t, tt.want)
			if got := db.reached(); !slices.Equal(got, tt.reached) {
				t.Errorf("clients reached %v, want %v", got, tt.reached)
			}
			if session != nil && tt.want != serving {
				session.SetDeadline(time.Now().Add(time.Second))
				if _, err := session.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("a session on %s is still alive (%v)", serving, err)
				}
			}
			t.Logf("in service %q, %v later", tt.want, took.Round(10*time.Millisecond))
			serving = tt.want
		})
	}
}

// haproxyWrites waits until HAProxy writes to this node only, or to nobody.
func (e suite) haproxyWrites(t *testing.T, node string) {
	t.Helper()
	var want []string
	if node != "" {
		want = []string{node}
	}
	harness.Eventually(t, 10*time.Second, func() error {
		servers, err := e.Lab.HAProxyStat(t.Context())
		if err != nil {
			return err
		}
		var up []string
		for _, s := range servers {
			if s.Backend == lab.WriteBackend && s.Up() {
				up = append(up, s.Name)
			}
		}
		if !slices.Equal(up, want) {
			return fmt.Errorf("HAProxy writes to %v, want %v", up, want)
		}
		return nil
	})
}

// databases listen in place of PostgreSQL, greet and then say nothing.
type databases struct {
	mu    sync.Mutex
	nodes []string // guarded by mu: who was reached, one after another
}

func (db *databases) listen(t *testing.T, n lab.Node) {
	t.Helper()
	ln, err := net.Listen("tcp", n.SQL)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			db.mu.Lock()
			db.nodes = append(db.nodes, n.Name)
			db.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				io.WriteString(conn, "!")
				io.Copy(io.Discard, conn) // until the client, or HAProxy, goes
			})
		}
	})
}

func (db *databases) forget() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.nodes = nil
}

// reached gives who was reached, each once in a row, and no more than ten.
func (db *databases) reached() []string {
	db.mu.Lock()
	defer db.mu.Unlock()
	nodes := slices.Compact(slices.Clone(db.nodes))
	return nodes[:min(10, len(nodes))]
}

// greet connects and waits until a database greets.
func greet(addr string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
