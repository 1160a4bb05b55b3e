//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patroniglue/contrib/lab"
)

// dcs is a real etcd of three members with TLS and authentication, where every node of the fleet is announced.
type dcs struct {
	*announcer
	lab    *lab.Lab
	client *clientv3.Client
	config string // [discovery]
	vanish func()
}

// startDCS gives each node of the fleet a port of its own and announces it.
func startDCS(ctx context.Context, f *fleet, nodes int, ttl time.Duration, stderr io.Writer) (_ *dcs, err error) {
	parts := []string{lab.ETCD}
	if err := lab.Check(ctx, parts...); err != nil {
		return nil, err
	}
	d := &dcs{vanish: func() {}}
	if d.lab, err = lab.Start(ctx, lab.Options{Parts: parts, ThreeETCD: true}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.stopDCS(stderr)
		}
	}()
	if d.config, err = d.lab.Discovery(); err != nil {
		return nil, err
	}
	if d.client, err = d.lab.ETCDClient(ctx, lab.ETCDPatroni); err != nil {
		return nil, err
	}
	d.announcer = newAnnouncer(d.client, ttl, nodes)
	if err := d.appear(ctx, f); err != nil {
		return nil, err
	}
	return d, nil
}

// appear opens the nodes' ports, which are others each time, and announces them.
func (d *dcs) appear(ctx context.Context, f *fleet) error {
	addresses, err := f.ask("/apart")
	if err != nil {
		return err
	}
	vanish, err := d.announcer.appear(ctx, strings.Fields(addresses))
	if err == nil {
		d.vanish = vanish
	}
	return err
}

func (d *dcs) stopDCS(stderr io.Writer) {
	d.vanish()
	if d.announcer != nil && d.failed.Load() > 0 {
		fmt.Fprintf(stderr, "announcing nodes: %d HA loops failed, first: %v\n", d.failed.Load(), *d.failure.Load())
	}
	if d.client != nil {
		d.client.Close()
	}
	if err := d.lab.Close(); err != nil {
		fmt.Fprintln(stderr, err)
	}
}

// discovered is what is measured of a fleet that was found in etcd.
type discovered struct {
	nodes             int
	ready             time.Duration
	streams, watchers float64
	reread            int64   // how often everything was read again
	writes            float64 // that etcd took each second
	cores             float64
	resident, peak    int64
	forgotten, left   asked
	silent, back      time.Duration // until nothing was listed any more; until everything was right again, after its return
}

// asked is what became of checks during something.
type asked struct {
	answers, wrong int
	example        string // of a wrong one
}

const (
	askers  = 10
	eachAsk = 20 * time.Millisecond
)

// phase is what is true of all nodes.
type phase int32

const (
	present phase = iota // they answer
	between              // they have just gone, or come
	gone                 // nothing of them can be believed any more
)

// discovery measures what etcd's part costs, and what becomes of answers when all keys go, and when all nodes go.
func (m *measurement) discovery(ctx context.Context) error {
	d := &m.row.found
	d.nodes, d.ready = m.row.nodes, m.daemon.ready
	for series, to := range map[string]*float64{
		"etcd_debugging_mvcc_watch_stream_total": &d.streams, "etcd_debugging_mvcc_watcher_total": &d.watchers,
	} {
		values, err := m.dcs.lab.ETCDMetric(ctx, series)
		if err != nil {
			return err
		}
		for _, v := range values {
			*to += v
		}
	}
	_, text, err := get(http.DefaultClient, "http://"+m.daemon.address+"/metrics")
	if err != nil {
		return err
	}
	d.reread = metric(text, "patroniglue_discovery_restarts_total")
	writes := m.dcs.writes.Load()
	used, elapsed, err := m.during(func() error { return m.sleep(ctx, m.length) })
	if err != nil {
		return err
	}
	d.cores = used.Seconds() / elapsed.Seconds()
	d.writes = float64(m.dcs.writes.Load()-writes) / elapsed.Seconds()
	if d.resident, err = m.daemon.memory("VmRSS"); err != nil {
		return err
	}
	if d.forgotten, err = m.whileAsking(ctx, m.forget); err != nil {
		return err
	}
	if d.left, err = m.whileAsking(ctx, m.leave); err != nil {
		return err
	}
	d.peak, err = m.daemon.memory("VmHWM")
	return err
}

// forget deletes every key, and waits until all members have written theirs again.
func (m *measurement) forget(ctx context.Context, _ *atomic.Int32) error {
	if err := m.dcs.forget(ctx); err != nil {
		return err
	}
	if err := m.until(ctx, "every member is listed again", func() (bool, error) {
		n, err := m.dcs.listed(ctx)
		return n == m.row.nodes, err
	}); err != nil {
		return err
	}
	return m.sleep(ctx, 2*time.Second)
}

// leave makes all nodes go, and come back elsewhere when nothing is known of them in etcd any more.
func (m *measurement) leave(ctx context.Context, now *atomic.Int32) error {
	now.Store(int32(between))
	began := time.Now()
	if _, err := m.fleet.ask("/gone"); err != nil {
		return err
	}
	m.dcs.vanish()
	if err := m.sleep(ctx, m.cacheTTL()+time.Second); err != nil {
		return err
	}
	now.Store(int32(gone))
	if err := m.until(ctx, "no member is listed", func() (bool, error) {
		n, err := m.dcs.listed(ctx)
		return n == 0, err
	}); err != nil {
		return err
	}
	m.row.found.silent = time.Since(began)
	if err := m.sleep(ctx, time.Second); err != nil {
		return err
	}
	now.Store(int32(between))
	began = time.Now()
	if err := m.dcs.appear(ctx, m.fleet); err != nil {
		return err
	}
	var status int
	var health []byte
	if err := m.until(ctx, "every cluster is healthy", func() (ok bool, err error) {
		status, health, err = get(http.DefaultClient, "http://"+m.daemon.address+"/health?strict")
		return status == http.StatusOK, err
	}); err != nil {
		return fmt.Errorf("%w: %s", err, regexp.MustCompile(`"text":"[^"]*"`).FindAll(health, 10))
	}
	m.row.found.back = time.Since(began)
	now.Store(int32(present))
	return m.sleep(ctx, 5*time.Second)
}

func (m *measurement) until(ctx context.Context, what string, f func() (bool, error)) error {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if ok, err := f(); ok || err != nil {
			return err
		}
		if err := m.sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("waited two minutes in vain until %s", what)
}

// whileAsking asks about any node all the time while something is done. What is right: a node that answers passes one
// check, and one that does not passes none when that must be known; nobody ever passes the other one.
func (m *measurement) whileAsking(ctx context.Context, do func(context.Context, *atomic.Int32) error) (a asked, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var now atomic.Int32
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range askers {
		wg.Go(func() {
			tick := time.NewTicker(eachAsk)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				wrong := m.askAny(&now)
				mu.Lock()
				if a.answers++; wrong != "" {
					a.wrong++
					a.example = wrong
				}
				mu.Unlock()
			}
		})
	}
	err = do(ctx, &now)
	cancel()
	wg.Wait()
	return a, err
}

// askAny asks about any node, and says what is wrong with the answer.
func (m *measurement) askAny(now *atomic.Int32) (wrong string) {
	i := rand.N(len(m.sizes))
	j := rand.N(m.sizes[i])
	check := []string{"primary", "replica"}[rand.N(2)]
	path := "/cluster/" + clusterName(i) + "/node/" + nodeName(j) + "/" + check
	before := phase(now.Load())
	status, body, err := m.askAnew(path)
	after := phase(now.Load())
	may := m.dcs.leads(i, j) == (check == "primary")
	pass := status == http.StatusOK
	switch {
	case err != nil:
	case !pass && status != http.StatusServiceUnavailable:
		err = errors.New("want status 200 or 503")
	case pass && !may:
		err = errors.New("want 503: this is not what it is")
	case !pass && may && before == present && after == present:
		err = errors.New("want 200: it answers")
	case pass && before == gone && after == gone:
		err = errors.New("want 503: it is gone")
	}
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%s GET %s: status %d: %v (%s)", time.Now().Format(time.StampMilli), path, status, err, body)
}

// askAnew asks on a connection of its own.
func (m *measurement) askAnew(path string) (status int, body []byte, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}, Timeout: 10 * time.Second}
	return get(&client, "http://"+m.daemon.address+path)
}

var discoveredColumns = []string{"nodes", "ready", "watch streams, watchers", "read again", "writes to etcd/s", "cores", "resident", "peak",
	"all keys deleted: answers", "wrong", "all nodes gone: not listed after", "answers", "wrong", "back: all right after"}

// writeDiscovered writes a table, if there is one, and is an error when an answer was wrong.
func writeDiscovered(w io.Writer, found []discovered) error {
	if len(found) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(discoveredColumns, " | "), strings.Repeat("---|", len(discoveredColumns)))
	var errs []error
	for _, d := range found {
		cells := []string{
			fmt.Sprint(d.nodes), short(d.ready), fmt.Sprintf("%.0f, %.0f", d.streams, d.watchers), fmt.Sprint(d.reread), fmt.Sprintf("%.0f", d.writes),
			fmt.Sprintf("%.3f", d.cores), megabytes(d.resident), megabytes(d.peak),
			fmt.Sprint(d.forgotten.answers), fmt.Sprint(d.forgotten.wrong),
			short(d.silent), fmt.Sprint(d.left.answers), fmt.Sprint(d.left.wrong), short(d.back),
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		if n := d.forgotten.wrong + d.left.wrong; n > 0 {
			errs = append(errs, fmt.Errorf("%d answers were wrong, such as: %s", n, strings.TrimSpace(d.forgotten.example+"\n"+d.left.example)))
		}
	}
	return errors.Join(errs...)
}
