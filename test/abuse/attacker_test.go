package abuse

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// attack is what an attacker does: it opens connections and sends the same by each.
type attack struct {
	Addr        string
	Connections int
	PerSecond   int    // connections at most; 0 = all at once
	Text        []byte // sent by each
	Times       int    // how often, without waiting for answers; 0 = once
	Answers     bool   // it reads as many answers as it sent requests
	Hold        bool   // it keeps connections open until it is ended
}

// start runs it in a process of its own, and returns what waits until all is sent,
// and read, and what ends it.
//
// In life attackers have their own processors. Where it is measured what checks
// suffer (abuseFactor), they get those that nobody else wants at the moment
// (SCHED_IDLE of sched(7)): so that is what the daemon does about the attack, not
// that the attacker computes. Beside other tests they would hardly get any.
func (a attack) start(t *testing.T) (wait, end func()) {
	t.Helper()
	cmd := exec.Command("attacker")
	if os.Getenv(abuseFactor) != "" {
		cmd = exec.Command("chrt", "--idle", "0", "attacker")
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		in.Close()
		cmd.Wait()
	})
	t.Cleanup(end)
	if err := json.NewEncoder(in).Encode(a); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if said, err := bufio.NewReader(out).ReadString('\n'); said != "done\n" {
			t.Errorf("the attacker said %q (%v)", said, err)
		}
	}, end
}

// attacker is a command of the test's own binary: it reads an attack, says "done"
// or what went wrong, and ends, with its connections, when nobody writes to it any
// more.
func attacker() {
	in := json.NewDecoder(os.Stdin)
	var a attack
	err := in.Decode(&a)
	if err == nil {
		err = a.run()
	}
	if err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("done")
	}
	in.Decode(new(any)) // until its end
}

const attackTimeout = time.Minute // of a connection

// run has several clients at once.
func (a attack) run() error {
	var (
		clients = min(8, a.Connections)
		errs    = make(chan error, clients)
		begun   = time.Now()
	)
	for range clients {
		go func() {
			for j := range a.Connections / clients {
				if a.PerSecond > 0 {
					time.Sleep(time.Until(begun.Add(time.Duration(j*clients) * time.Second / time.Duration(a.PerSecond))))
				}
				if err := a.connect(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// connect is one connection. That it is closed from the other end is no error,
// unless answers are missing.
func (a attack) connect() error {
	c, err := net.DialTimeout("tcp", a.Addr, 10*time.Second)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	c.SetDeadline(time.Now().Add(attackTimeout))
	times := max(1, a.Times)
	if a.Answers {
		go c.Write(bytes.Repeat(a.Text, times))
		r := bufio.NewReader(c)
		for i := range times {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return fmt.Errorf("reading answer %d of %d: %w", i+1, times, err)
			}
			io.Copy(io.Discard, resp.Body)
		}
	} else {
		c.Write(bytes.Repeat(a.Text, times))
	}
	c.(*net.TCPConn).SetLinger(0)
	if !a.Hold {
		c.Close()
	} else {
		keptOpen.Lock()
		defer keptOpen.Unlock()
		keptOpen.conns = append(keptOpen.conns, c) // else they are closed as garbage
	}
	return nil
}

// keptOpen are an attacker's connections with Hold.
var keptOpen struct {
	sync.Mutex
	conns []net.Conn
}

// abuseFactor is a variable of the environment: how many times the quiet p99 of
// checks may be that during each attack, at the best of three tries. Tests run beside
// others, where that says nothing, so it is not wanted by default.
const abuseFactor = "PATRONIGLUE_ABUSE_FACTOR"
