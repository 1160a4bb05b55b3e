package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"patroniglue/test/harness"
)

// activated starts the binary as systemd does, with listening sockets.
func activated(t *testing.T, text string, sockets ...*os.File) *harness.Program {
	t.Helper()
	path := harness.WriteFile(t, "c.toml", text)
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=`+fmt.Sprint(len(sockets))+` exec "$0" -config "$1"`, harness.BuiltBinary(t), path)
	cmd.ExtraFiles = sockets
	p := harness.StartProcess(t, text, cmd)
	p.Path = path
	return p
}

// With sockets from systemd no connection is refused while the daemon restarts:
// they wait.
func TestSocketActivation(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	var files []*os.File
	var addrs []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		t.Cleanup(func() { f.Close() })
		files, addrs = append(files, f), append(addrs, ln.Addr().String())
	}
	text := "[frontend]\nhost = 'localhost'\nport = " + harness.PortOf(addrs[0]) + "\n[agent]\nlisten = '" + addrs[1] + "'\n" + harness.FastPolls + harness.NodesOf(sim, "")
	p := activated(t, text, files...)
	if got := p.Log.Values("socket", "level", "error", "message", "systemd passed a socket that fits no address of the configuration, so nobody answers there: want localhost:"+
		harness.PortOf(addrs[0])+" (frontend.port), "+addrs[1]+" (agent.listen)"); !slices.Equal(got, addrs[2:]) {
		t.Errorf("the socket that fits nothing is logged as %q, want %s", got, addrs[2])
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	var asked atomic.Int64
	for _, ask := range []func() error{
		func() error {
			resp, body, err := harness.TryToAsk(context.Background(), nil, "GET", "http://"+addrs[0]+"/node/pg1/primary")
			if err == nil && resp.StatusCode != 200 {
				err = errors.New(resp.Status + body)
			}
			return err
		},
		func() error {
			c, err := net.Dial("tcp", addrs[1])
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := io.WriteString(c, "pg1/primary\n"); err != nil {
				return err
			}
			// One that stops says nothing: HAProxy keeps what it knows.
			if line, err := bufio.NewReader(c).ReadString('\n'); line != "ready up 100% #primary\n" && line != "" {
				return fmt.Errorf("%q, %v", line, err)
			}
			return nil
		},
	} {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := ask(); err != nil {
					t.Errorf("after %d answers: %v", asked.Load(), err)
					return
				}
				asked.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 5 {
		time.Sleep(200 * time.Millisecond)
		p.Signal(t, syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // RestartSec
		p = activated(t, text, files...)
	}

	// A reload to the socket that was of no use, and back.
	other := strings.Replace(text, addrs[1], addrs[2], 1)
	cancel()
	clients.Wait()
	for range 2 {
		p.Reload(t, other, harness.LoadedAnew)
		if got := harness.AskAgent(t, addrs[2], "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("agent: %q", got)
		}
		p.Reload(t, text, harness.LoadedAnew)
		if got := harness.AskAgent(t, addrs[1], "pg1/primary\n"); got != "ready up 100% #primary\n" {
			t.Errorf("agent: %q", got)
		}
	}
	if n := asked.Load(); n < 200 {
		t.Errorf("%d answers only", n)
	}
}
