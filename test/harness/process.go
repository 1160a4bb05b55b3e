package harness

import (
	"errors"
	"os/exec"
	"testing"
)

// Process is the program in a process of its own.
type Process struct {
	log  *LogLines
	args []string
	cmd  *exec.Cmd // nil when it does not run
}

func StartProcess(t *testing.T, log *LogLines, args ...string) *Process {
	t.Helper()
	p := &Process{log: log, args: args}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.Kill(t)
		}
		log.onFailure(t)
	})
	p.Start(t)
	return p
}

func (p *Process) Start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stderr = p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = cmd
}

// Kill is kill -9. It returns when the process is gone.
func (p *Process) Kill(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Kill() // an error: it has ended, as Wait tells
	err := p.cmd.Wait()
	p.cmd = nil
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.String() != "signal: killed" {
		t.Errorf("the program ended by itself: %v", err)
	}
}
