package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolated says in the environment that this process is in a namespace that Isolate made.
const isolated = "PATRONIGLUE_ISOLATED"

// Isolate runs this program again in a network namespace of its own, with nothing but loopback, and ends with its exit
// code: no port of its labs and tests meets one of a program beside it. In the namespace it returns, and so it does for
// everybody but root, who may make none. It is to be called before anything else is started; the program reads its
// arguments, files and environment as before.
func Isolate() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if os.Getenv(isolated) != "" {
		return loopbackUp()
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	runtime.LockOSThread() // the child is killed when the thread ends that started it
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolated+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	os.Exit(0)
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	return nil
}
