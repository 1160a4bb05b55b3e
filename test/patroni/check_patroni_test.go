package patroni

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// checkPatroni: check_patroni says the same of us as of Patroni itself, whatever it is asked, but for what only the DCS
// knows.
func (e suite) checkPatroni(t *testing.T) {
	if e.Lab.Suite == lab.Bookworm {
		t.Skip("check_patroni is not in Debian 12")
	}
	c := e.Healthy(t)
	p := e.startCheckPatroni(t)
	const later = "2100-01-01T00:00:00+00:00"
	replica, ours := c.Replicas[0], "http://"+e.Lab.HTTP

	set := func(config string) func() { return func() { e.change(t, replica, "PATCH", "/config", config) } }
	before := e.value(t, replica, "max_locks_per_transaction")
	for _, tt := range []struct {
		name       string
		begin, end func()
		shows      string // this is in Patroni's /cluster then
		services   string // that say something else then; "" is all
	}{
		{"all is well", func() {}, func() {}, "", ""},
		{"pause", set(`{"pause": true}`), set(`{"pause": null}`), `"pause": true`, "cluster_is_in_maintenance"},
		{
			"restart pending", set(`{"postgresql": {"parameters": {"max_locks_per_transaction": 66}}}`),
			set(`{"postgresql": {"parameters": {"max_locks_per_transaction": ` + before + `}}}`), `"pending_restart": true`, "node_is_pending_restart",
		},
		{
			"restart scheduled", func() { e.change(t, replica, "POST", "/restart", `{"schedule": "`+later+`"}`) },
			func() { e.change(t, replica, "DELETE", "/restart", "") }, `"scheduled_restart"`, "cluster_has_scheduled_action",
		},
		{"synchronous", set(`{"synchronous_mode": true}`), set(`{"synchronous_mode": null}`), `"sync_standby"`, "node_is_replica cluster_has_replica cluster_node_count"},
		{
			"switchover scheduled", func() {
				e.change(t, c.Primary, "POST", "/switchover", `{"leader": "`+c.Primary.Name+`", "scheduled_at": "`+later+`"}`)
			},
			func() { e.change(t, c.Primary, "DELETE", "/switchover", "") }, `"scheduled_switchover"`, "cluster_has_scheduled_action",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.begin()
			defer tt.end()
			harness.Eventually(t, 30*time.Second, func() error {
				if theirs := string(e.Must(t, c.Primary.REST, "GET", "/cluster").Body); !strings.Contains(theirs, tt.shows) {
					return fmt.Errorf("Patroni does not show it: %s", theirs)
				}
				return nil
			})
			wanted := func(args string) bool {
				service, _, _ := strings.Cut(args, " ")
				return tt.services == "" || slices.Contains(strings.Fields(tt.services), service)
			}
			for _, n := range e.Lab.Nodes {
				for _, args := range nodeServices(e.document(t, n)) {
					if wanted(args) {
						p.agree(t, args, n.URL, ours+"/node/"+n.Name)
					}
				}
			}
			for _, args := range clusterServices {
				switch {
				case tt.name == "switchover scheduled" && wanted(args):
					p.differ(t, args, c.Primary.URL, 2, ours, 0) // the DCS has it, no health check brings it
				case wanted(args):
					p.agree(t, args, c.Primary.URL, ours, ours+"/cluster/"+e.Lab.Scope, ours+"/node/"+replica.Name)
				}
			}
			if args := "cluster_config_has_changed --hash none"; wanted(args) {
				p.differ(t, args, c.Primary.URL, 2, ours, 3) // UNKNOWN, rather than a configuration that is none
			}
		})
		e.Healthy(t)
	}
	p.askedAll(t)
}

// nodeServices are the services of check_patroni that ask about a node, each with arguments by which it passes for some.
func nodeServices(d patroniDocument) []string {
	return []string{
		"node_is_alive",
		"node_is_leader",
		"node_is_leader --is-standby-leader",
		"node_is_pending_restart",
		"node_is_primary",
		"node_is_replica",
		"node_is_replica --max-lag 1MB",
		"node_is_replica --is-async",
		"node_is_replica --is-sync",
		"node_is_replica --is-sync --sync-type quorum",
		"node_patroni_version --patroni-version " + d.Patroni.Version,
		"node_patroni_version --patroni-version 1.2.3",
		"node_tl_has_changed --timeline " + d.Timeline.String(),
		"node_tl_has_changed --timeline 99",
	}
}

// clusterServices are those that ask about a cluster.
var clusterServices = []string{
	"cluster_has_leader",
	"cluster_has_replica --warning 2: --critical 1:",
	"cluster_has_replica --warning 3: --critical 1: --max-lag 1MB",
	"cluster_has_replica --sync-warning 2: --sync-critical 1:",
	"cluster_has_scheduled_action",
	"cluster_is_in_maintenance",
	"cluster_node_count --warning 3: --critical 2: --healthy-warning 3: --healthy-critical 2:",
	"cluster_node_count --critical 4:",
}

// checker is check_patroni in a process that forks one for each question: to start Python takes longer than all the rest.
type checker struct {
	questions *json.Encoder
	answers   *json.Decoder
	asked     map[string]bool // services
	services  []string        // all that it has
}

const checkPatroniLoop = `
import json, os, sys
from check_patroni.cli import main

print(json.dumps(sorted(main.commands)), flush=True)
for line in sys.stdin:
    out, to = os.pipe()
    if os.fork() == 0:
        os.dup2(to, 1)
        os.dup2(to, 2)
        sys.argv = ["check_patroni"] + json.loads(line)
        try:
            main()
        finally:
            os.close(to)
    os.close(to)
    with open(out) as said:
        text = said.read()
    print(json.dumps({"code": os.waitstatus_to_exitcode(os.wait()[1]), "said": text}), flush=True)
`

func (e suite) startCheckPatroni(t *testing.T) *checker {
	t.Helper()
	cmd := e.Lab.Command(t.Context(), "python3", "-c", checkPatroniLoop)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, to := io.Pipe()
	log := new(harness.Log)
	cmd.Stdout, cmd.Stderr = to, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close()
		cmd.Wait()
		if t.Failed() {
			t.Logf("check_patroni said:\n%s", log)
		}
	})
	p := &checker{questions: json.NewEncoder(in), answers: json.NewDecoder(out), asked: make(map[string]bool)}
	if err := p.answers.Decode(&p.services); err != nil {
		t.Fatalf("starting check_patroni: %v\n%s", err, log)
	}
	return p
}

// verdict is an exit code, and what was printed.
type verdict struct {
	Code int
	Said string
}

// ask gives check_patroni's verdict of an endpoint, without how far replicas are behind.
func (p *checker) ask(t *testing.T, endpoint, args string) (v verdict) {
	t.Helper()
	words := append([]string{"--timeout", "30", "--endpoints", endpoint}, strings.Fields(args)...)
	p.asked[words[4]] = true
	if err := p.questions.Encode(words); err != nil {
		t.Fatal(err)
	}
	if err := p.answers.Decode(&v); err != nil {
		t.Fatal(err)
	}
	v.Said = lagValue.ReplaceAllString(v.Said, "_lag=0")
	return v
}

// lagValue is how far a replica is behind, which is not the same from one moment to another.
var lagValue = regexp.MustCompile(`_lag=\d+`)

// agree waits until all have Patroni's verdict in the same words.
func (p *checker) agree(t *testing.T, args, patroni string, ours ...string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error { // what Patroni shows of others is as old as its loop_wait
		want := p.ask(t, patroni, args)
		for _, endpoint := range ours {
			if got := p.ask(t, endpoint, args); got != want || got.Code > 2 {
				return fmt.Errorf("check_patroni %s says\n%d %sof %s and\n%d %sof %s", args, got.Code, got.Said, endpoint, want.Code, want.Said, patroni)
			}
		}
		return nil
	})
}

// differ waits until each has its verdict.
func (p *checker) differ(t *testing.T, args, patroni string, patroniCode int, ours string, ourCode int) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		theirs, got := p.ask(t, patroni, args), p.ask(t, ours, args)
		if theirs.Code != patroniCode || got.Code != ourCode {
			return fmt.Errorf("check_patroni %s says\n%d %sof %s, want %d, and\n%d %sof %s, want %d", args,
				got.Code, got.Said, ours, ourCode, theirs.Code, theirs.Said, patroni, patroniCode)
		}
		return nil
	})
}

// askedAll: no service was left out.
func (p *checker) askedAll(t *testing.T) {
	t.Helper()
	for _, service := range p.services {
		if !p.asked[service] {
			t.Errorf("check_patroni %s was not tried, of %q", service, p.services)
		}
	}
}
