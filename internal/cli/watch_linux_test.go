package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"patroniglue/test/harness"
)

// openTerminal returns both ends of a terminal of 80 by 24: the one from which the test
// reads, and the one to which the program writes.
func openTerminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 80, Row: 24})); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return screen, program
}

// The binary on a real terminal, and what it leaves behind after a signal.
func TestWatchOnTerminal(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodesOf(sim, ""))
	harness.Eventually(t, harness.Soon, func() error {
		code, _, stderr := p.Command(t, "status")
		return harness.Want(code == 0, "exit code 0 of status (got %d, %s)", code, stderr)
	})
	for _, test := range []struct {
		env, want string
		signal    syscall.Signal
	}{
		{"TERM=xterm", enterScreen + home, syscall.SIGINT},
		{"TERM=xterm", "Cluster main: \x1b[32mok\x1b[m", syscall.SIGTERM},
		{"NO_COLOR=1", "Cluster main: ok", syscall.SIGTERM},
	} {
		screen, program := openTerminal(t)
		var shown harness.Log
		read := make(chan struct{})
		go func() {
			defer close(read)
			io.Copy(&shown, screen) // EIO when the program's end is closed
		}()
		cmd := exec.CommandContext(t.Context(), harness.BuiltBinary(t), "-config", p.Config, "status", "-watch", "-every", "100ms")
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "NO_COLOR=") }), "TERM=xterm", test.env)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		program.Close()
		harness.Eventually(t, harness.Soon, func() error {
			return harness.Want(strings.Count(shown.String(), "holds the l>") >= 2, "that two frames with a table")
		})
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s, %s: %v, want exit code 0", test.env, test.signal, err)
		}
		<-read
		text := shown.String()
		if !strings.Contains(text, test.want) || !strings.HasSuffix(text, leaveScreen) {
			t.Errorf("%s, %s: %q: want %q in it and %q at the end", test.env, test.signal, text, test.want, leaveScreen)
		}
	}
}
