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

// What holds for the daemon with its default limits, whatever clients do.
const (
	mostMemory  = 384 << 20              // bytes that are resident
	mostWait    = time.Second            // for a check: after that HAProxy counts it as failed (timeout check in haproxy.cfg.tmpl)
	mostTries   = 3                      // so many failed checks in a row make HAProxy act (fall)
	usuallyWait = 100 * time.Millisecond // for half of the checks, even on a busy machine
)

// victim is a daemon in a process of its own, which is asked checks during an attack.
type victim struct {
	t           *testing.T
	program     *harness.Program
	http, agent string // host:port
	trust       *tls.Config
	quiet       time.Duration // p99 of checks when nobody else asks
	mostTimes   float64       // how many times quiet p99 may be during an attack; 0 = any
}

// startVictim runs the binary after a shell command, with more in [frontend], which
// makes it TLS where trust is not nil, and with text for the rest of the configuration.
func startVictim(t *testing.T, before, frontend, text string, trust *tls.Config) *victim {
	t.Helper()
	text = "[frontend]\n" + harness.AnyPort + frontend + "[agent]\nlisten = '127.0.0.1:0'\n" + text
	p := harness.StartProcess(t, text, exec.Command("sh", "-c", before+` exec "$0" -config "$1"`, harness.BuiltBinary(t), harness.WriteFile(t, "c.toml", text)))
	t.Cleanup(func() {
		p.Signal(t, syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Errorf("the daemon: %v", err)
		}
	})
	v := &victim{t: t, program: p, http: p.HTTP, agent: p.Agents[0], trust: trust}
	if most := os.Getenv(abuseFactor); most != "" {
		var err error
		if v.mostTimes, err = strconv.ParseFloat(most, 64); err != nil {
			t.Fatalf("%s: %v", abuseFactor, err)
		}
	}
	return v
}

func (v *victim) url() string {
	if v.trust != nil {
		return "https://" + v.http
	}
	return "http://" + v.http
}

// metric returns a value of /metrics.
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

// peak returns the most memory that was resident since the last call, in bytes.
func (v *victim) peak() int {
	v.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", v.program.Process.Pid)
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

// during asks checks as load balancers do while f runs, for 600 ms at least. Every
// answer has to be right and to come in time.
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

// suffers calls during while the attack begins and, if its connections stay, while they
// are there. An attack that is too slow for mostTimes is repeated twice.
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
