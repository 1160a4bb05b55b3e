package agentapi

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

const haproxy = "/usr/sbin/haproxy"

// TestHAProxy shows that a real HAProxy does what the lines mean. Its
// servers' names are the outcomes; each is asked for on a shared port in one of
// the ways that HAProxy can send a request, the last one on a dedicated port.
func TestHAProxy(t *testing.T) {
	if _, err := os.Stat(haproxy); err != nil {
		if os.Geteuid() == 0 {
			t.Fatalf("HAProxy is not installed: %v", err)
		}
		t.Skipf("HAPROXY NOT TESTED: %v", err)
	}
	var mu sync.Mutex // guards verdicts
	verdicts := map[string]node.Verdict{
		"pass":    {Outcome: node.Pass, Label: "replica"},
		"other":   {Outcome: node.OtherRole, Label: "primary"},
		"lagging": {Outcome: node.Lagging, Label: "lag 212 MB over 100 MB for 14s"},
		"passing": {Outcome: node.Transient, Label: "starting"},
		"fault":   {Outcome: node.Fault, Label: "no answer\nwithin 3s"},
	}
	s := New(Config{
		Asker: askerFunc(func(ctx context.Context, q cluster.Question) (cluster.Answer, error) {
			c, err := node.ParseCheck(q.Check, q.Query)
			if err != nil {
				return cluster.Answer{}, err
			}
			mu.Lock()
			v, ok := verdicts[q.Node]
			mu.Unlock()
			if !ok {
				return cluster.Answer{}, fmt.Errorf("unknown node %q", q.Node)
			}
			return cluster.Answer{Check: c, Verdict: v}, nil
		}),
	})
	addrs := start(t, s, &cluster.Question{Node: "pass", Check: "replica"})
	port := func(i int) int { return addrs[i].(*net.TCPAddr).Port }

	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	config := fmt.Sprintf(`global
  stats socket %s level admin
  max-spread-checks 20ms
defaults
  mode tcp
  timeout connect 1s
  timeout client 1s
  timeout server 1s
backend ro
  default-server disabled agent-check agent-addr 127.0.0.1 agent-inter 500ms agent-port %d weight 100
  server pass 127.0.0.1:9 agent-send "pass/replica\n"
  server other 127.0.0.1:9 agent-send "other/replica\r\n"
  server lagging 127.0.0.1:9 agent-send 'lagging/replica\n'
  server passing 127.0.0.1:9 agent-send "passing/replica"
  server fault 127.0.0.1:9 agent-send "main/fault/replica?lag=1MB\n"
  server lagging-write 127.0.0.1:9 agent-send "lagging/primary\n"
  server unknown 127.0.0.1:9 agent-send "pgX/replica\n"
  server silent 127.0.0.1:9 agent-inter 2s
  server dedicated 127.0.0.1:9 agent-port %d agent-send "whatever"
`, socket, port(0), port(1))
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), haproxy, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy said:\n%s", &log)
		}
	})

	want := map[string]string{ // status, what the agent said last
		"pass":          "no check, via agent : up (replica)",
		"other":         "MAINT, via agent : down (primary)",
		"lagging":       "DRAIN (agent), via agent : up (lag 212 MB over 100 MB for 14s)",
		"passing":       "MAINT, via agent : down (starting)",
		"fault":         "DOWN (agent), via agent : down (no answer within 3s)",
		"lagging-write": "MAINT, via agent : down (lag 212 MB over 100 MB for 14s)",
		"unknown":       `MAINT, via agent : down (unknown node "pgX")`,
		"silent":        `MAINT, via agent : down (no request: want agent-send "node/check\n")`,
		"dedicated":     "no check, via agent : up (replica)",
	}
	expect(t, socket, want)

	// Every answer must undo all that the answer before it said.
	up, maint, drain, down := "no check, via agent : up (x)", "MAINT, via agent : down (x)", "DRAIN (agent), via agent : up (x)", "DOWN (agent), via agent : down (x)"
	for _, to := range []struct {
		outcome node.Outcome
		want    string
	}{
		{node.OtherRole, maint}, {node.Pass, up}, {node.Lagging, drain}, {node.Pass, up}, {node.Fault, down}, {node.Pass, up},
		{node.OtherRole, maint}, {node.Lagging, drain}, {node.OtherRole, maint}, {node.Fault, down}, {node.Lagging, drain},
		{node.Fault, down}, {node.OtherRole, maint},
	} {
		mu.Lock()
		verdicts["pass"] = node.Verdict{Outcome: to.outcome, Label: "x"}
		mu.Unlock()
		want["pass"], want["dedicated"] = to.want, to.want
		expect(t, socket, want)
	}
}

// expect waits until HAProxy shows want.
func expect(t *testing.T, socket string, want map[string]string) {
	t.Helper()
	var got map[string]string
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if got, err = servers(socket); err != nil {
			continue
		}
		same := true
		for name, w := range want {
			same = same && got[name] == w
		}
		if same {
			return
		}
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: got %q, want %q", name, got[name], w)
		}
	}
}

// servers asks HAProxy for each server's status and what its agent said last.
func servers(socket string) (map[string]string, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "show stat\n"); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(strings.TrimSpace(string(b)), "# "))).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("reading %q: %w", b, err)
	}
	column := make(map[string]int)
	for i, name := range rows[0] {
		column[name] = i
	}
	got := make(map[string]string)
	for _, row := range rows[1:] {
		got[row[column["svname"]]] = row[column["status"]] + ", " + row[column["last_agt"]]
	}
	return got, nil
}
