//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server that the bench started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// spawn starts a server. It belongs to the lab, so that "lab down" ends it whatever becomes of this process.
func (b *bench) spawn(program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(b.run, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "PATRONIGLUE_LAB="+b.lab.Dir)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for us; we end them
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	return p, nil
}

// ready waits until the server passes the check.
func (b *bench) ready(ctx context.Context, p *process, l load) error {
	l.connections, l.duration = 1, time.Millisecond
	for end := time.Now().Add(15 * time.Second); ; {
		o, err := l.run(ctx)
		if err != nil || o.answers > 0 {
			return err
		}
		select {
		case <-p.done:
			err = errors.New("it ended at once")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
			if time.Now().Before(end) {
				continue
			}
			err = errors.New("it did not pass the check within 15 s")
		}
		log, _ := os.ReadFile(filepath.Join(b.run, "log"))
		return fmt.Errorf("starting %s: %w\n%s", filepath.Base(p.cmd.Path), err, log)
	}
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// tick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 wherever Debian runs (proc(5)).
const tick = 10 * time.Millisecond

// processorTime is what these processes and those that descend from them have used so far.
func processorTime(roots ...int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	parents, used := make(map[int]int), make(map[int]time.Duration)
	for _, root := range roots {
		parents[root] = -1 // the tree ends here
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended
		} else if err != nil {
			return 0, err
		}
		pid, parent, d, err := parseStat(string(text))
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", file, err)
		}
		if used[pid] = d; parents[pid] != -1 {
			parents[pid] = parent
		}
	}
	var sum time.Duration
	for pid, d := range used {
		for pid > 0 {
			pid = parents[pid]
		}
		if pid == -1 {
			sum += d
		}
	}
	return sum, nil
}

// parseStat reads a line of /proc/PID/stat (proc(5)): of its fields 1 pid, 4 ppid, 14 utime, 15 stime.
func parseStat(line string) (pid, parent int, used time.Duration, err error) {
	first, rest, found := strings.Cut(line, " (")
	fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:]) // a program's name may hold anything
	if !found || len(fields) < 13 {
		return 0, 0, 0, fmt.Errorf("want PID (NAME) and 13 fields or more (got %q)", line)
	}
	for i, s := range []string{first, fields[1], fields[11], fields[12]} {
		n, e := strconv.Atoi(s)
		err = errors.Join(err, e)
		switch i {
		case 0:
			pid = n
		case 1:
			parent = n
		default:
			used += time.Duration(n) * tick
		}
	}
	return pid, parent, used, err
}

// pidIn is the number at the beginning of a file.
func pidIn(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return 0, fmt.Errorf("reading a pid from %s: it is empty", file)
	}
	return strconv.Atoi(fields[0])
}
