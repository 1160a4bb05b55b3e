//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// row is what is known of one size.
type row struct {
	nodes               int
	ready               time.Duration
	perSecond           float64       // polls
	poll                time.Duration // processor time of one
	cores               float64
	resident, peak      int64           // bytes; the peak with scrapes and pages
	heap, stacks        int64           // bytes in use
	check, scrape, page time.Duration   // processor time of one
	changes             []time.Duration // from a change to the answer, sorted
	found               discovered
}

// measure starts a fleet and its supervisor, and measures.
func (o *options) measure(ctx context.Context, dir string, nodes int) (r row, err error) {
	f, err := startFleet(nodes, os.Stderr)
	if err != nil {
		return r, err
	}
	defer f.stop()
	m := &measurement{options: o, fleet: f, row: row{nodes: nodes}, sizes: clusterSizes(nodes)}
	whom, steps := f.nodes(nodes), []func(context.Context) error{m.settle, m.polling, m.switchovers, m.costs}
	if o.etcd {
		if m.dcs, err = startDCS(ctx, f, nodes, o.ttl, os.Stderr); err != nil {
			return r, err
		}
		defer m.dcs.stopDCS(os.Stderr)
		whom, steps = m.dcs.config, append(steps, m.settle, m.discovery)
	}
	if m.daemon, err = o.startDaemon(ctx, dir, whom); err != nil {
		return r, err
	}
	defer m.daemon.stop()
	m.row.ready = m.daemon.ready
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return m.row, err
		}
	}
	return m.row, nil
}

type measurement struct {
	*options
	fleet  *fleet
	daemon *daemon
	dcs    *dcs // nil when the nodes are configured
	row    row
	sizes  []int
}

// settle waits until clusters are not polled faster any more because they are new.
func (m *measurement) settle(ctx context.Context) error {
	return m.sleep(ctx, 2*time.Second+2*m.interval)
}

func (m *measurement) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-m.daemon.ended:
		return fmt.Errorf("patroniglue has ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// polling measures what polls alone cost.
func (m *measurement) polling(ctx context.Context) error {
	polls, err := m.fleet.polls()
	if err != nil {
		return err
	}
	used, elapsed, err := m.during(func() error { return m.sleep(ctx, m.length) })
	if err != nil {
		return err
	}
	after, err := m.fleet.polls()
	if err != nil {
		return err
	}
	r := &m.row
	r.perSecond = (after - polls) / elapsed.Seconds()
	r.cores = used.Seconds() / elapsed.Seconds()
	if after > polls {
		r.poll = time.Duration(float64(used) / (after - polls))
	}
	if r.resident, err = m.daemon.memory("VmRSS"); err != nil {
		return err
	}
	_, body, err := get(http.DefaultClient, "http://"+m.daemon.address+"/metrics")
	if err != nil {
		return err
	}
	r.heap, r.stacks = metric(body, "go_memstats_heap_inuse_bytes"), metric(body, "go_memstats_stack_inuse_bytes")
	return nil
}

func metric(text []byte, name string) int64 {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, _ := strconv.ParseFloat(value, 64)
			return int64(f)
		}
	}
	return 0
}

// during measures the processor time of the daemon while something is done.
func (m *measurement) during(do func() error) (used, elapsed time.Duration, err error) {
	before, err := m.daemon.processorTime()
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if err := do(); err != nil {
		return 0, 0, err
	}
	elapsed = time.Since(begun)
	after, err := m.daemon.processorTime()
	return after - before, elapsed, err
}

// rounds is how often what a question costs is compared with asking nothing.
const rounds = 5

// cost is the median of what a question costs beside polling, asked for so long each time.
func (m *measurement) cost(ctx context.Context, length time.Duration, ask func() error) (time.Duration, error) {
	var costs []time.Duration
	for range rounds {
		idle, elapsed, err := m.during(func() error { return m.sleep(ctx, length) })
		if err != nil {
			return 0, err
		}
		share := float64(idle) / float64(elapsed)
		asked := 0
		used, elapsed, err := m.during(func() error {
			for end := time.Now().Add(length); asked == 0 || time.Now().Before(end); asked++ {
				if err := ask(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		costs = append(costs, (used-time.Duration(share*float64(elapsed)))/time.Duration(asked))
	}
	slices.Sort(costs)
	return costs[len(costs)/2], ctx.Err()
}

func (m *measurement) costs(ctx context.Context) (err error) {
	r, length := &m.row, m.length/20
	if r.check, err = m.cost(ctx, length, m.check); err != nil {
		return err
	}
	fetch := func(path string) func() error {
		return func() error {
			status, _, err := get(http.DefaultClient, "http://"+m.daemon.address+path)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("GET %s: status %d", path, status)
			}
			return err
		}
	}
	if r.scrape, err = m.cost(ctx, length, fetch("/metrics")); err != nil {
		return err
	}
	if r.page, err = m.cost(ctx, length, fetch("/")); err != nil {
		return err
	}
	r.peak, err = m.daemon.memory("VmHWM")
	return err
}

// check asks about any node, as HAProxy does: with few words, on a connection of its own.
func (m *measurement) check() error {
	conn, err := net.Dial("tcp4", m.daemon.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	i := rand.N(len(m.sizes))
	if _, err := fmt.Fprintf(conn, "OPTIONS /cluster/%s/node/%s/replica HTTP/1.0\r\n\r\n", clusterName(i), nodeName(rand.N(m.sizes[i]))); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.0 200 ")) && !bytes.HasPrefix(answer, []byte("HTTP/1.0 503 ")) {
		err = fmt.Errorf("checking a node: want status 200 or 503 (got %.40q)", answer)
	}
	return err
}

const (
	switchers = 8 // switchovers at a time
	askEvery  = 5 * time.Millisecond
	// calm is when a cluster that had a switchover is polled as slowly as before.
	calm = 2 * time.Second
)

// switchovers makes some all the time, each in a cluster that is calm, and notes when the new primary passes.
func (m *measurement) switchovers(ctx context.Context) error {
	type done struct {
		changes []time.Duration
		err     error
	}
	var wg sync.WaitGroup
	results := make(chan done, switchers)
	end := time.Now().Add(m.length)
	for first := range min(switchers, len(m.sizes)) {
		wg.Go(func() {
			var d done
			last := make(map[int]time.Time)
			for i := first; time.Now().Before(end); {
				if calmed := last[i].Add(calm + m.interval); time.Now().Before(calmed) {
					// Not at the same moment after a poll each time.
					if d.err = m.sleep(ctx, time.Until(calmed)+rand.N(m.interval)); d.err != nil {
						break
					}
				}
				took, err := m.switchover(ctx, i)
				if d.err = err; err != nil {
					break
				}
				d.changes = append(d.changes, took)
				last[i] = time.Now()
				if i += switchers; i >= len(m.sizes) {
					i = first
				}
			}
			results <- d
		})
	}
	wg.Wait()
	close(results)
	var err error
	for d := range results {
		m.row.changes = append(m.row.changes, d.changes...)
		if d.err != nil {
			err = d.err
		}
	}
	slices.Sort(m.row.changes)
	return err
}

// patience is how long a switchover may take to be seen; it counts as this then. A machine that has too much to do takes
// longer.
const patience = 10 * time.Second

// switchover makes one, and returns after how long the new primary passes.
func (m *measurement) switchover(ctx context.Context, i int) (time.Duration, error) {
	begun := time.Now()
	primary, err := m.fleet.ask("/" + clusterName(i) + "/" + nodeName(0) + "/switchover")
	if err != nil {
		return 0, err
	}
	if m.dcs != nil {
		if err := m.dcs.lead(ctx, i, primary); err != nil {
			return 0, err
		}
	}
	url := "http://" + m.daemon.address + "/cluster/" + clusterName(i) + "/node/" + primary + "/primary"
	for {
		status, body, err := get(http.DefaultClient, url)
		took := time.Since(begun)
		if err != nil || status == http.StatusOK {
			return took, err
		}
		if took > patience {
			fmt.Fprintf(os.Stderr, "%s is not the primary of %s after %v: %s", primary, clusterName(i), patience, body)
			return took, nil
		}
		if err := m.sleep(ctx, askEvery); err != nil {
			return 0, err
		}
	}
}
