package cluster

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSuspendedTime runs itself where the clock that also runs while a machine
// is suspended is ahead by a thousand seconds, as after a suspension.
func TestSuspendedTime(t *testing.T) {
	const child = "PATRONIGLUE_TEST_SUSPENDED"
	if before := os.Getenv(child); before != "" {
		was, err := time.ParseDuration(before)
		if err != nil {
			t.Fatal(err)
		}
		if gap := Suspended() - was; gap < 999*time.Second || gap > 1001*time.Second {
			t.Errorf("suspended for %s more, want 1000s", gap)
		}
		return
	}
	before := Suspended()
	if gap := Suspended() - before; gap > time.Second || gap < -time.Second {
		t.Errorf("suspended for %s between two calls", gap)
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "--time", "true").CombinedOutput(); err != nil {
		t.Skipf("A REAL SUSPENSION'S CLOCKS NOT TESTED: want root and time namespaces: %v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--time", "--boottime", "1000", "--fork", os.Args[0], "-test.run=^TestSuspendedTime$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+Suspended().String())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSuspendedTime") {
		t.Errorf("%v: %s", err, out)
	}
}
