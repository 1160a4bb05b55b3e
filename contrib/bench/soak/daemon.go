package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"patroniglue/contrib/lab"
)

// daemon is the patroniglue of this checkout, in a process of its own.
type daemon struct {
	http, agent string // host:port
	stop        func()
	ended       chan struct{}
}

func startDaemon(ctx context.Context, clusters []*troubled, stderr io.Writer) (_ *daemon, err error) {
	dir, err := os.MkdirTemp("", "patroniglue-soak")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "patroniglue.toml")
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	program, err := lab.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	d := &daemon{ended: make(chan struct{})}
	if d.http, d.agent, err = twoPorts(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(d.http)
	var text strings.Builder
	// A history that is full soon, so that its growth is not taken for a leak.
	fmt.Fprintf(&text, "[frontend]\nhost = '127.0.0.1'\nport = %s\n[agent]\nlisten = '%s'\n[history]\nsize = 1000\n", port, d.agent)
	for _, c := range clusters {
		for _, n := range c.Nodes() {
			fmt.Fprintf(&text, "[[node]]\nname = '%s'\ncluster = '%s'\nurl = '%s'\n", n.Name(), c.name, n.URL())
		}
	}
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-quiet", "-config", config) // ended by stop alone
	cmd.Stdout = stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.ended)
		cmd.Wait()
	}()
	d.stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.ended:
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
			<-d.ended
		}
		os.RemoveAll(dir)
	}
	for range 300 {
		if resp, err := http.Get("http://" + d.http + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return d, nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-d.ended:
			return nil, errors.New("patroniglue ended at once")
		case <-ctx.Done():
			d.stop()
			return nil, context.Cause(ctx)
		}
	}
	d.stop()
	return nil, errors.New("patroniglue was not ready within 30 s")
}

// twoPorts finds two that are free.
func twoPorts() (a, b string, err error) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer first.Close()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer second.Close()
	return first.Addr().String(), second.Addr().String(), nil
}

// figures are what the daemon says of itself.
type figures struct{ memory, heap, goroutines float64 }

// looks are the figures at the start, after half of the time and at the end, each the median of many: what one shows is
// where the garbage collector was at that moment.
type looks [3]figures

const (
	lookFor   = 30 * time.Second
	lookEvery = 500 * time.Millisecond
	mayGrow   = 1.05
)

// watch waits for the warm-up and for length.
func (d *daemon) watch(ctx context.Context, length time.Duration) (l looks, err error) {
	begun := time.Now()
	span := min(lookFor, length/4)
	for i, at := range []time.Duration{warmUp, warmUp + length/2 - span/2, warmUp + length - span - lookEvery} {
		if err := d.sleep(ctx, time.Until(begun.Add(at))); err != nil {
			return l, err
		}
		var all []figures
		for end := time.Now().Add(span); time.Now().Before(end); {
			f, err := d.figures()
			if err != nil {
				return l, err
			}
			all = append(all, f)
			if err := d.sleep(ctx, lookEvery); err != nil {
				return l, err
			}
		}
		l[i] = figures{
			median(all, func(f figures) float64 { return f.memory }), median(all, func(f figures) float64 { return f.heap }),
			median(all, func(f figures) float64 { return f.goroutines }),
		}
	}
	return l, nil
}

func (d *daemon) sleep(ctx context.Context, for_ time.Duration) error {
	select {
	case <-time.After(for_):
		return nil
	case <-d.ended:
		return errors.New("patroniglue has ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func median(all []figures, of func(figures) float64) float64 {
	var values []float64
	for _, f := range all {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (d *daemon) figures() (f figures, err error) {
	resp, err := http.Get("http://" + d.http + "/metrics")
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseFloat(value, 64) // 0 is found below
		switch name {
		case "process_resident_memory_bytes":
			f.memory = n
		case "go_memstats_heap_inuse_bytes":
			f.heap = n
		case "go_goroutines":
			f.goroutines = n
		}
	}
	if f.memory == 0 || f.heap == 0 || f.goroutines == 0 {
		return f, fmt.Errorf("reading /metrics: status %d without memory or goroutines", resp.StatusCode)
	}
	return f, lines.Err()
}

// report writes the table, and is an error when something grew.
func (l looks) report(w io.Writer) error {
	var errs []error
	fmt.Fprintf(w, "\n| | start | half | end |\n|---|---|---|---|\n")
	row := func(name, unit string, scale float64, of func(figures) float64) {
		fmt.Fprintf(w, "| %s |", name)
		for _, f := range l {
			fmt.Fprintf(w, " %.4g%s |", of(f)/scale, unit)
		}
		fmt.Fprintln(w)
	}
	const mb = 1e6
	row("memory, resident", " MB", mb, func(f figures) float64 { return f.memory })
	row("memory, heap in use", " MB", mb, func(f figures) float64 { return f.heap })
	row("goroutines", "", 1, func(f figures) float64 { return f.goroutines })
	for _, later := range l[1:] {
		if later.memory > mayGrow*l[0].memory {
			errs = append(errs, fmt.Errorf("memory grew from %.1f to %.1f MB", l[0].memory/mb, later.memory/mb))
		}
		if later.goroutines > mayGrow*l[0].goroutines {
			errs = append(errs, fmt.Errorf("goroutines grew from %.0f to %.0f", l[0].goroutines, later.goroutines))
		}
	}
	return errors.Join(errs...)
}
