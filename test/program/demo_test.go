package program

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"patroniglue/test/harness"
)

func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, log harness.Log
	ended := make(chan int, 1)
	go func() {
		ended <- harness.Command(ctx, []string{"demo", "-listen", "127.0.0.1:0", "-agent", "127.0.0.1:0"}, &stdout, &log)
	}()
	log.Await(t, 1, "message", "ready: every node was polled")
	log.Await(t, 1, "message", "answering agent checks")
	http, agent := log.Values("http", "message", "supervising")[0], log.Values("listener", "message", "answering agent checks")[0]
	for _, want := range []string{"http://" + http + "/\n", "curl -i http://" + http + "/node/pg1/primary\n", "/dev/tcp/127.0.0.1/" + harness.PortOf(agent), "Ctrl-C"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the guide has no %q:\n%s", want, &stdout)
		}
	}
	if resp, body := harness.Ask(t, nil, "GET", "http://"+http+"/node/pg1/primary"); resp.StatusCode != 200 {
		t.Errorf("GET /node/pg1/primary: %s: %s", resp.Status, body)
	}
	if got, want := harness.AskAgent(t, agent, "pg1/primary\n"), "ready up 100% #primary\n"; got != want {
		t.Errorf("agent: %q, want %q", got, want)
	}

	// What the guide says works as it stands.
	for line := range strings.Lines(stdout.String()) {
		_, command, ok := strings.Cut(line, "as HAProxy asks  ")
		if !ok {
			continue
		}
		if _, err := exec.LookPath("bash"); err != nil {
			t.Logf("NOT TESTED: the guide's %s: %v", command, err)
			continue
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil || string(out) != "ready up 100% #primary\n" {
			t.Errorf("%s: %q, %v", command, out, err)
		}
	}

	cancel()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("demo: exit code %d, want 0", code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the demo still runs")
	}
	if !harness.Refuses(http) || !harness.Refuses(agent) {
		t.Error("the demo is over, but a port is open")
	}
}
