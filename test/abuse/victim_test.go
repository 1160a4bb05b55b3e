package abuse

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patroniglue/test/harness"
)

// What the daemon owes, whatever clients do to it with the default limits.
const (
	mostMemory  = 384 << 20              // bytes that it may take
	mostWait    = time.Second            // for a check: then HAProxy takes it for failed (timeout check in haproxy.cfg.tmpl)
	mostTries   = 3                      // as many failed ones it believes (fall)
	usuallyWait = 100 * time.Millisecond // for one of two checks; on a busy machine, too
)

// victim is a daemon in a process of its own, and what is asked of it meanwhile.
type victim struct {
	t           *testing.T
	http, agent string
	trust       *tls.Config
	pid         int
	log         *harness.Log
	quiet       time.Duration // p99 of checks when nobody else asks
	mostTimes   float64       // that it may be during an attack; 0 = any
}

// startVictim runs the binary with a shell command in front of it, and with more in
// [frontend], which is TLS where trust is not nil.
func startVictim(t *testing.T, before, frontend, text string, trust *tls.Config) *victim {
	t.Helper()
	v := &victim{t: t, http: harness.FreePort(t), agent: harness.FreePort(t), trust: trust, log: new(harness.Log)}
	if most := os.Getenv(abuseFactor); most != "" {
		var err error
		if v.mostTimes, err = strconv.ParseFloat(most, 64); err != nil {
			t.Fatalf("%s: %v", abuseFactor, err)
		}
	}
	path := harness.WriteFile(t, "c.toml", "[frontend]\nhost = '127.0.0.1'\nport = "+harness.PortOf(v.http)+"\n"+frontend+"[agent]\nlisten = '"+v.agent+"'\n"+text)
	cmd := exec.Command("sh", "-c", before+` exec "$0" -config "$1"`, harness.BuiltBinary(t), path)
	cmd.Stdout, cmd.Stderr = v.log, v.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v.pid = cmd.Process.Pid
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", v.log)
		}
	})
	v.log.Await(t, 1, "message", "ready: every node was polled")
	return v
}

func (v *victim) url() string {
	if v.trust != nil {
		return "https://" + v.http
	}
	return "http://" + v.http
}

// metric gives a sample of /metrics.
func (v *victim) metric(name string) float64 {
	v.t.Helper()
	_, body := harness.Ask(v.t, v.trust, "GET", v.url()+"/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (.*)$`).FindStringSubmatch(body)
	if m == nil {
		v.t.Fatalf("/metrics has no %s", name)
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		v.t.Fatal(err)
	}
	return f
}

// peak is the most memory that it had at once since the last time, in bytes.
func (v *victim) peak() int {
	v.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", v.pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		v.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	kb, err := strconv.Atoi(string(m[1]))
	if err == nil {
		err = os.WriteFile(proc+"clear_refs", []byte("5"), 0) // proc(5)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return kb << 10
}

// during asks as load balancers do for as long as f takes, at least for a while,
// and wants every answer to be right, and to be there in time.
func (v *victim) during(name string, f func()) (p99 time.Duration) {
	v.t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	again := 0
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, question := range []struct {
		node, check string
		passes      bool
	}{{"pg1", "primary", true}, {"pg2", "primary", false}, {"pg2", "replica", true}, {"pg1", "replica", false}} {
		for _, askOnce := range []func(node, check string) (bool, error){v.askHTTP, v.askAgent} {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(20 * time.Millisecond):
					}
					begun := time.Now()
					passes, err := askOnce(question.node, question.check)
					d := time.Since(begun)
					for try := 1; err != nil && try < mostTries; try++ {
						mu.Lock()
						again++
						mu.Unlock()
						passes, err = askOnce(question.node, question.check)
					}
					if err != nil || passes != question.passes {
						v.t.Errorf("%s: %s/%s passes: %v, %v", name, question.node, question.check, passes, err)
						return
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
	}
	begun := time.Now()
	f()
	time.Sleep(time.Until(begun.Add(600 * time.Millisecond)))
	close(done)
	wg.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		v.t.Fatalf("%s: no check was answered", name)
	}
	at := func(percent int) time.Duration { return took[(len(took)-1)*percent/100].Round(10 * time.Microsecond) }
	times := ""
	if v.quiet > 0 {
		times = fmt.Sprintf(", %.1f times the quiet one", float64(at(99))/float64(v.quiet))
	}
	peak := v.peak()
	v.t.Logf("%-46s %5d checks, median %8v, p99 %8v%s; %d asked again; %d MB", name, len(took), at(50), at(99), times, again, peak>>20)
	if peak > mostMemory {
		v.t.Errorf("%s: it takes %d MB of memory, want at most %d", name, peak>>20, mostMemory>>20)
	}
	if at(50) > usuallyWait {
		v.t.Errorf("%s: half of the checks took more than %v, want at most %v", name, at(50), usuallyWait)
	}
	return at(99)
}

// suffers is during, while that attack comes, and once it is there.
func (v *victim) suffers(name string, a attack) {
	v.t.Helper()
	for try := 1; ; try++ {
		var end func()
		worst := v.during(name, func() {
			var wait func()
			wait, end = a.start(v.t)
			wait()
		})
		if a.Hold {
			worst = max(worst, v.during(name+", there", func() {}))
		}
		end()
		times := float64(worst) / float64(v.quiet)
		if v.mostTimes == 0 || times <= v.mostTimes {
			return
		}
		if try == 3 {
			v.t.Errorf("%s: p99 %v is %.1f times the quiet one, three times over; want at most %v", name, worst, times, v.mostTimes)
			return
		}
	}
}

func (v *victim) askHTTP(node, check string) (bool, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), mostWait)
	defer cancel()
	resp, _, err := harness.TryToAsk(ctx, v.trust, "GET", v.url()+"/node/"+node+"/"+check)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != 200 && resp.StatusCode != 503 {
		return false, fmt.Errorf("status %s", resp.Status)
	}
	return resp.StatusCode == 200, nil
}

func (v *victim) askAgent(node, check string) (bool, error) {
	end := time.Now().Add(mostWait)
	conn, err := net.DialTimeout("tcp", v.agent, mostWait)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(end)
	if _, err := io.WriteString(conn, node+"/"+check+"\n"); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "ready up"), err
}
