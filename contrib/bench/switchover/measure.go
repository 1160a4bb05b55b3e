package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"patroniglue/contrib/lab"
)

// event is what happens to the primary.
type event int

const (
	switchover event = iota // planned, by patronictl
	loseNode                // kill -9 of PostgreSQL and Patroni
)

// bench is one cluster with what was measured on it.
type bench struct {
	lab     *lab.Lab
	dir     string // everything of ours
	program string
	event   event
	reads   bool
	keep    string
	log     io.Writer

	clients int             // made so far, to tell their rows apart
	acked   map[string]bool // writes that were acknowledged
}

const (
	calm  = 50                     // attempts served in a row: all is well
	quick = 100 * time.Millisecond // for each of them before the event: the machine is not busy with something else
	over  = 90 * time.Second       // for how long anything is waited for
)

// measure lets v and the floor see one event.
func (b *bench) measure(ctx context.Context, v variant) (sample, error) {
	if err := b.healthy(ctx); err != nil {
		return sample{}, err
	}
	p, err := b.start(ctx, v)
	defer p.stop()
	if err != nil {
		return sample{}, err
	}
	floor, proxied, err := b.newClients()
	if err != nil {
		return sample{}, err
	}
	if err := b.settled(ctx, p, proxied); err != nil {
		return sample{}, err
	}
	old, err := b.lab.Primary(ctx)
	if err != nil {
		return sample{}, err
	}
	logs := b.nodeLogs()

	driving, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		drive(driving, floor, proxied)
	}()
	defer func() {
		stop()
		<-done
	}()
	// On a busy machine the figures would be of something else.
	if err := wait(ctx, over, "a quiet machine", func() error {
		for _, c := range []*client{floor, proxied} {
			if !c.steady(time.Time{}, calm, quick) {
				return fmt.Errorf("%s: want %d attempts in a row within %v each", c.name, calm, quick)
			}
		}
		return nil
	}); err != nil {
		return sample{}, err
	}
	began := time.Now()
	next, err := b.happen(ctx, v, p, old)
	if err != nil {
		return sample{}, err
	}
	// The floor is back when this returns; whoever is behind HAProxy may be later.
	for end, since := time.Now().Add(over), time.Now(); !floor.steady(since, calm, limit) || !proxied.steady(since, calm, limit); {
		if time.Now().After(end) {
			break // its gap then says so
		}
		if err := sleep(ctx, tick); err != nil {
			return sample{}, err
		}
	}
	stop()
	<-done

	s := sample{floor: account(floor.attempts), variant: account(proxied.attempts)}
	s.moments = b.moments(logs, p, old, next, began, s)
	for _, c := range []*client{floor, proxied} {
		for _, a := range c.attempts {
			if a.outcome == served && !b.reads {
				b.acked[a.id] = true
			}
		}
	}
	if b.keep != "" {
		if err := b.keepLogs(v, p, logs, floor, proxied); err != nil {
			return sample{}, err
		}
	}
	if b.event == loseNode {
		return s, b.lab.StartNode(ctx, old.Name)
	}
	return s, nil
}

// happen makes the event happen, and returns the new primary.
func (b *bench) happen(ctx context.Context, v variant, p processes, old lab.Node) (lab.Node, error) {
	if err := b.setCallback(v.callback); err != nil {
		return lab.Node{}, err
	}
	if b.event == loseNode {
		if err := b.lab.CrashNode(ctx, old.Name); err != nil {
			return lab.Node{}, err
		}
	} else {
		if v.announce {
			if _, err := b.command(ctx, "-config", p.config, "leaving", old.Name); err != nil {
				return lab.Node{}, err
			}
		}
		// Always the next one round, so that no variant has the fastest node to itself.
		if err := b.lab.Switchover(ctx, b.after(old).Name); err != nil {
			return lab.Node{}, err
		}
	}
	for end := time.Now().Add(over); ; {
		next, err := b.lab.Primary(ctx)
		if err == nil && next.Name != old.Name {
			return next, nil
		}
		if time.Now().After(end) {
			return lab.Node{}, fmt.Errorf("waiting for a primary other than %s: %w", old.Name, err)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return lab.Node{}, err
		}
	}
}

func (b *bench) after(n lab.Node) lab.Node {
	for i := range b.lab.Nodes {
		if b.lab.Nodes[i].Name == n.Name {
			return b.lab.Nodes[(i+1)%len(b.lab.Nodes)]
		}
	}
	panic("no node " + n.Name)
}

// newClients makes the client of the floor and that of the variant.
func (b *bench) newClients() (floor, proxied *client, err error) {
	b.clients++
	var hosts, ports []string
	for _, n := range b.lab.Nodes {
		hosts, ports = append(hosts, "127.0.0.1"), append(ports, port(n.SQL))
	}
	attrs, addr := "read-write", b.lab.Write
	if b.reads {
		attrs, addr = "prefer-standby", b.lab.Read
	}
	floor, floorErr := newClient(fmt.Sprintf("floor %d", b.clients),
		"host="+strings.Join(hosts, ",")+" port="+strings.Join(ports, ",")+" target_session_attrs="+attrs, b.reads)
	proxied, err = newClient(fmt.Sprintf("variant %d", b.clients), "host=127.0.0.1 port="+port(addr), b.reads)
	return floor, proxied, errors.Join(floorErr, err)
}

// healthy waits until the primary has two replicas that stream.
func (b *bench) healthy(ctx context.Context) error {
	return wait(ctx, over, "two replicas to stream", func() error {
		n, err := b.lab.Primary(ctx)
		if err != nil {
			return err
		}
		conn, err := pgconn.Connect(ctx, "host=127.0.0.1 port="+port(n.SQL)+" user=postgres dbname=postgres sslmode=disable connect_timeout=3")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		count, err := query(ctx, conn, "select count(*) from pg_stat_replication where state = 'streaming'")
		if err == nil && count != "2" {
			err = fmt.Errorf("want 2 (got %s)", count)
		}
		return err
	})
}

// settled waits until HAProxy has sorted its servers: with Patroni's template all of them are up at first.
func (b *bench) settled(ctx context.Context, p processes, proxied *client) error {
	probe := &client{name: "probe", config: proxied.config, reads: true}
	good := 0
	return wait(ctx, 30*time.Second, "HAProxy to send connections to the right node", func() error {
		for _, q := range []*process{p.haproxy, p.daemon} {
			if q != nil && q.ended() {
				return fmt.Errorf("it ended: %v", q.log())
			}
		}
		probe.try(0)
		a := probe.attempts[len(probe.attempts)-1]
		switch {
		case a.err != nil:
			good = 0
			return a.err
		case a.onPrimary == b.reads:
			good = 0
			return errors.New("a node of the wrong role answered")
		}
		if good++; good < 20 {
			return fmt.Errorf("only %d connections in a row", good)
		}
		return nil
	})
}

// lostWrites counts the acknowledged writes that the cluster does not have.
func (b *bench) lostWrites(ctx context.Context) (int, error) {
	if err := b.healthy(ctx); err != nil {
		return 0, err
	}
	n, err := b.lab.Primary(ctx)
	if err != nil {
		return 0, err
	}
	out, err := b.lab.Query(ctx, n.SQL, "select said from lab")
	if err != nil {
		return 0, err
	}
	kept := make(map[string]bool)
	for said := range strings.Lines(out) {
		kept[strings.TrimSpace(said)] = true
	}
	lost := 0
	for id := range b.acked {
		if !kept[id] {
			lost++
		}
	}
	return lost, nil
}

// writeCallback makes what Patroni runs as on_role_change.
func (b *bench) writeCallback(ctx context.Context) (string, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the checkout: %w", err)
	}
	script, err := os.ReadFile(filepath.Join(filepath.Dir(string(gomod)), "contrib", "patroni-callback"))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "patroni-callback"), script, 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without it d is not available
		return "", err
	}
	path := filepath.Join(b.dir, "callback")
	return path, os.WriteFile(path, fmt.Appendf(nil, callbackScript, b.dir), 0o755)
}

// setCallback turns Patroni's callback, which always runs, on or off.
func (b *bench) setCallback(on bool) error {
	path := filepath.Join(b.dir, "callback.on")
	if on {
		return os.WriteFile(path, nil, 0o644)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// wait tries each 50 ms until f succeeds.
func wait(ctx context.Context, limit time.Duration, what string, f func() error) error {
	for end := time.Now().Add(limit); ; {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
