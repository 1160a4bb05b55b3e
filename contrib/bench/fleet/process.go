//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one that the bench started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for us; we end them
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		cmd.Wait()
	}()
	return p, nil
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

// processorTime is what the process has used so far, in user mode and in the kernel: clock_getcpuclockid(3), of which
// the C library makes the number as here.
func (p *process) processorTime() (time.Duration, error) {
	const cpuclockSched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|cpuclockSched), &t); err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", filepath.Base(p.cmd.Path), err)
	}
	return time.Duration(t.Nano()), nil
}

// memory gives a line of /proc/PID/status in bytes: VmRSS, or VmHWM for the most so far.
func (p *process) memory(line string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"+line+":"))
	fields := strings.Fields(string(rest[:max(0, bytes.IndexByte(rest, '\n'))]))
	if len(fields) != 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("reading %s: want kB (got %q)", line, fields)
	}
	kb, err := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10, err
}

// fleet is the simulator's process.
type fleet struct {
	*process
	urls []string // of each hundred clusters
}

func startFleet(nodes int, stderr io.Writer) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, simulate, strconv.Itoa(nodes))
	cmd.Stderr = stderr
	if _, err := cmd.StdinPipe(); err != nil { // which ends with us
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	f := &fleet{process: p}
	for lines := bufio.NewReader(out); len(f.urls) < ports(nodes); {
		address, err := lines.ReadString('\n')
		if err != nil {
			p.stop()
			return nil, fmt.Errorf("starting the simulator: %w", err)
		}
		f.urls = append(f.urls, "http://"+strings.TrimSpace(address))
	}
	return f, nil
}

// url is a cluster's.
func (f *fleet) url(cluster int) string { return f.urls[cluster/perPort] + "/" + clusterName(cluster) }

// ask asks the simulator itself.
func (f *fleet) ask(path string) (string, error) {
	status, body, err := get(http.DefaultClient, f.urls[0]+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return "", fmt.Errorf("asking the simulator for %s: %w", path, err)
	}
	return string(body), nil
}

// polls is how many it has answered.
func (f *fleet) polls() (float64, error) {
	text, err := f.ask("/answered")
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(text, 64)
}

// daemon is the patroniglue that is measured.
type daemon struct {
	*process
	address string        // of HTTP
	ready   time.Duration // from its start until every node was polled
}

// nodes are the [[node]]s of the configuration.
func (f *fleet) nodes(n int) string {
	var text strings.Builder
	for i, size := range clusterSizes(n) {
		for j := range size {
			c, n := clusterName(i), nodeName(j)
			fmt.Fprintf(&text, "[[node]]\nname = '%s'\ncluster = '%s'\nurl = '%s/%s'\n", n, c, f.url(i), n)
		}
	}
	return text.String()
}

// cacheTTL is how long an answer is believed.
func (o *options) cacheTTL() time.Duration { return max(5*time.Second, 3*o.interval) }

// startDaemon starts patroniglue with that of the configuration that says whom to watch.
func (o *options) startDaemon(ctx context.Context, dir, whom string) (_ *daemon, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	var text strings.Builder
	fmt.Fprintf(&text, "[frontend]\nhost = '127.0.0.1'\nport = %s\n[backend]\ninterval = '%v'\nprimary-interval = '%v'\n", port, o.interval, o.primaryInterval)
	fmt.Fprintf(&text, "[cache]\nttl = '%v'\n", o.cacheTTL())
	text.WriteString(whom)
	config := filepath.Join(dir, "patroniglue.toml")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log")) // each switchover is in it
	if err != nil {
		return nil, err
	}
	defer log.Close()
	begun := time.Now()
	cmd := exec.Command(o.program, "-quiet", "-config", config)
	cmd.Stderr = log
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	defer func() {
		if text, _ := os.ReadFile(log.Name()); err != nil {
			err = fmt.Errorf("starting patroniglue: %w\n%s", err, text[:min(len(text), 1000)])
		}
	}()
	d := &daemon{process: p, address: address}
	for time.Since(begun) < 2*time.Minute {
		if status, _, err := get(http.DefaultClient, "http://"+address+"/readyz"); err == nil && status == http.StatusOK {
			d.ready = time.Since(begun)
			return d, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.ended:
			return nil, errors.New("it ended at once")
		case <-ctx.Done():
			d.stop()
			return nil, context.Cause(ctx)
		}
	}
	d.stop()
	return nil, errors.New("it was not ready within two minutes")
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func get(c *http.Client, url string) (status int, body []byte, err error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
