package program

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"patroniglue/test/harness"
)

// The end of the context ends everything and leaves nothing behind. That open
// requests are answered first is httpapi's to test.
func TestDaemonEnds(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.FastPolls+harness.NodesOf(sim, ""))
	p.End()
	harness.AwaitClosed(t, p.HTTP, p.Agents[0])
	if err := p.Wait(); err != nil {
		t.Errorf("run: %v, want nil", err)
	}
	if got := p.Log.Values("cause", "message", "stopping"); !slices.Equal(got, []string{"the test ends it"}) {
		t.Errorf("stopping is logged with the causes %q", got)
	}
	harness.Eventually(t, harness.Soon, func() error {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, ours := range []string{"patroniglue/cluster.", "patroniglue/httpapi.", "patroniglue/agentapi.", "patroniglue/internal/daemon.", "patroniglue/internal/history."} {
			if bytes.Contains(stacks, []byte(ours)) {
				return fmt.Errorf("a goroutine is still in %s", ours)
			}
		}
		return nil
	})
}

func TestSignals(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	config := "[frontend]\n" + harness.AnyPort + harness.FastPolls + harness.NodesOf(sim, "")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p := harness.StartProcess(t, config, nil)
			p.Signal(t, s)
			if err := p.Wait(); err != nil {
				t.Errorf("%v, want exit code 0", err)
			}
			if got := p.Log.Values("cause", "message", "stopping"); len(got) != 1 || !strings.HasPrefix(got[0], s.String()) {
				t.Errorf("stopping is logged with the causes %q, want %q", got, s)
			}
			if n := len(p.Log.Lines("message", "stopped")); n != 1 {
				t.Errorf("stopped is logged %d times", n)
			}
		})
	}
	t.Run("while a request does not end", func(t *testing.T) {
		p := harness.StartProcess(t, config, nil)
		harness.HalfRequest(t, p.HTTP)
		begun := time.Now()
		p.Signal(t, syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Errorf("%v, want exit code 0", err)
		}
		if took := time.Since(begun); took < 4*time.Second {
			t.Errorf("it took %s, want that it waits for some seconds", took)
		}
	})
	t.Run("twice", func(t *testing.T) {
		p := harness.StartProcess(t, config, nil)
		harness.HalfRequest(t, p.HTTP) // else it would end at the first
		begun := time.Now()
		for range 100 {
			if p.Process.Signal(syscall.SIGTERM) != nil {
				break // it has ended
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = p.Wait() // it says that the exit code is none
		if status := p.State().Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
			t.Errorf("exit code %d, signal %v, want death by SIGTERM", status.ExitStatus(), status.Signal())
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestResidentMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("MEMORY NOT TESTED: want Linux's /proc")
	}
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	p := harness.StartProcess(t, "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n"+harness.NodesOf(sim, ""), nil)
	time.Sleep(3 * time.Second)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nVmRSS:")
	var kB int
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatalf("VmRSS: %v in\n%s", err, text)
	}
	t.Logf("resident memory: %.1f MB", float64(kB)/1024)
	if kB<<10 > harness.MaxResident {
		t.Errorf("%d kB are resident, want at most %d", kB, harness.MaxResident>>10)
	}
}
