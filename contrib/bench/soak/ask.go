package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// tally is what became of all checks.
type tally struct {
	log io.Writer

	mu                             sync.Mutex // guards the rest
	asked, decided, wrong, missing int
	latencies                      []time.Duration
}

func newTally(log io.Writer) *tally { return &tally{log: log} }

// patience is how long a check waits for its answer: a load balancer's timeout.
const patience = 2 * time.Second

// askAll asks so many times a second, whatever becomes of the checks before, as many load balancers do.
func askAll(ctx context.Context, d *daemon, clusters []*troubled, rate int, t *tally) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begun, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(begun).Seconds() * float64(rate)); sent < due; sent++ {
			c := clusters[rand.IntN(len(clusters))]
			node := c.Nodes()[rand.IntN(len(c.Nodes()))].Name()
			check := []string{"primary", "replica"}[rand.IntN(2)]
			wg.Go(func() {
				switch n := rand.IntN(10); {
				case n < 2:
					t.judge(c, node, check, func() (bool, string, error) { return askAgent(d.agent, c.name+"/"+node+"/"+check) })
				case n < 4:
					t.judge(c, node, check, func() (bool, string, error) { return askHTTP(fresh, d.http, c.name, node, check) })
				case n < 9:
					t.judge(c, node, check, func() (bool, string, error) { return askHTTP(client, d.http, c.name, node, check) })
				default:
					t.judgeCluster(c, func() ([]string, error) { return askCluster(client, d.http, c.name) })
				}
			})
		}
	}
}

func askHTTP(client *http.Client, addr, cluster, node, check string) (passes bool, reason string, err error) {
	resp, err := client.Get("http://" + addr + "/cluster/" + cluster + "/node/" + node + "/" + check)
	if err != nil {
		return false, "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Patroniglue struct {
			Pass   bool
			Reason string
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false, "", err
	}
	p := answer.Patroniglue
	if p.Pass != (resp.StatusCode == http.StatusOK) || p.Reason == "" {
		return false, "", fmt.Errorf("%s with pass: %v and the reason %q", resp.Status, p.Pass, p.Reason)
	}
	return p.Pass, p.Reason, nil
}

// askCluster gives the nodes that pass primary.
func askCluster(client *http.Client, addr, cluster string) ([]string, error) {
	resp, err := client.Get("http://" + addr + "/cluster/" + cluster + "/primary")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct{ Nodes []string }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Nodes, err
}

func askAgent(addr, question string) (passes bool, line string, err error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return false, "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, question+"\n"); err != nil {
		return false, "", err
	}
	line, err = bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "ready up "), strings.TrimSpace(line), err
}

func (t *tally) judge(c *troubled, node, check string, ask func() (bool, string, error)) {
	sent := time.Now()
	passes, reason, err := ask()
	got := time.Now()
	mayPass, mayFail := c.allowed(node, check, sent, got)
	t.note(got.Sub(sent), err, mayPass != mayFail, err == nil && (passes && !mayPass || !passes && !mayFail), func() string {
		return fmt.Sprintf("%s/%s/%s passes: %v (%s)\n%s", c.name, node, check, passes, reason, c.story(node, got))
	})
}

func (t *tally) judgeCluster(c *troubled, ask func() ([]string, error)) {
	sent := time.Now()
	nodes, err := ask()
	got := time.Now()
	wrong := len(nodes) > 1
	for _, node := range nodes {
		mayPass, _ := c.allowed(node, "primary", sent, got)
		wrong = wrong || !mayPass
	}
	t.note(got.Sub(sent), err, true, wrong, func() string { return fmt.Sprintf("primaries of %s: %q", c.name, nodes) })
}

// note counts a check; decided says that only one answer was right.
func (t *tally) note(took time.Duration, err error, decided, wrong bool, what func() string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked++
	t.latencies = append(t.latencies, took)
	if decided {
		t.decided++
	}
	const most = 100 // to write down
	switch {
	case err != nil:
		if t.missing++; t.missing <= most {
			fmt.Fprintf(t.log, "%s no answer after %v: %v\n", time.Now().Format(time.StampMilli), took, err)
		}
	case wrong:
		if t.wrong++; t.wrong <= most {
			fmt.Fprintf(t.log, "%s WRONG: %s\n", time.Now().Format(time.StampMilli), what())
		}
	}
}

// report writes the table, and is an error when an answer was wrong or missing.
func (t *tally) report(w io.Writer) error {
	slices.Sort(t.latencies)
	if len(t.latencies) == 0 {
		return errors.New("nothing was asked")
	}
	at := func(q float64) time.Duration {
		return t.latencies[int(q*float64(len(t.latencies)-1))].Round(10 * time.Microsecond)
	}
	fmt.Fprintf(w, "| checks | |\n|---|---|\n| answers | %d |\n| of which only one was right | %d |\n| wrong answers | %d |\n| without an answer | %d |\n", t.asked-t.missing, t.decided, t.wrong, t.missing)
	fmt.Fprintf(w, "| median, p99, p99.9 latency | %v, %v, %v |\n| worst latency | %v |\n", at(0.5), at(0.99), at(0.999), at(1))
	if t.wrong > 0 || t.missing > 0 {
		return fmt.Errorf("%d answers were wrong and %d missing", t.wrong, t.missing)
	}
	return nil
}
