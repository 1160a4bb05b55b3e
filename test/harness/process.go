package harness

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// StartProcess runs the program in a process of its own until the test ends, and returns
// when every node was polled. The process is cmd, which may be wrapped in whatever in the
// end becomes the program by exec; nil is the built binary. In both cases text is the
// configuration.
func StartProcess(t *testing.T, text string, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{Log: new(Log), cmd: cmd}
	if cmd == nil {
		p.Path = WriteFile(t, "c.toml", text)
		p.cmd = exec.Command(BuiltBinary(t), "-config", p.Path)
	}
	p.startProcess(t)
	t.Cleanup(func() {
		if !p.mayEnd {
			select {
			case <-p.Ended:
				t.Errorf("the program ended by itself: %v", p.cmd.ProcessState)
			default:
			}
		}
		_ = p.Process.Kill() // an error: it has ended
		<-p.Ended
		p.Log.showIfFailed(t)
	})
	p.awaitReady(t, text)
	return p
}

func (p *Program) startProcess(t *testing.T) {
	t.Helper()
	p.cmd.Stderr = p.Log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, ended := p.cmd, make(chan struct{})
	p.Process, p.Ended, p.mayEnd = cmd.Process, ended, false
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its exit code tells
		p.code = cmd.ProcessState.ExitCode()
	}()
}

// State is how the process has ended. It is read after Ended is closed.
func (p *Program) State() *os.ProcessState { return p.cmd.ProcessState }

// Signal sends a signal to the program's process.
func (p *Program) Signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Kill is kill -9. It returns when the process is gone.
func (p *Program) Kill(t *testing.T) {
	t.Helper()
	p.mayEnd = true
	_ = p.Process.Kill() // an error: it has ended, as the state tells
	<-p.Ended
	if status, ok := p.State().Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("the program ended by itself: %v", p.State())
	}
}

// Restart starts the same command again after the process has ended, and returns when
// every node was polled. What is logged is added to Log.
func (p *Program) Restart(t *testing.T) {
	t.Helper()
	p.begun = len(p.Log.String())
	old := p.cmd
	p.cmd = &exec.Cmd{Path: old.Path, Args: old.Args, Env: old.Env, Dir: old.Dir, ExtraFiles: old.ExtraFiles, SysProcAttr: old.SysProcAttr}
	p.startProcess(t)
	p.awaitReady(t, "")
}
