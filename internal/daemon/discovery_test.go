package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/discovery"
	"patroniglue/discovery/discoverytest"
	"patroniglue/internal/config"
	"patroniglue/node"
	"patroniglue/test/harness"
)

// A name that is announced may resolve to anything: who dials looks at the address.
func TestDiscoveryDials(t *testing.T) {
	contacted := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { contacted <- struct{}{}; io.WriteString(w, "{}") }))
	defer server.Close()
	p := &plan{cfg: config.Default(), transports: make(map[backendTLS]*node.Transport), sums: make(map[[3]string][sha256.Size]byte)}
	for _, tc := range []struct {
		allow, err string
	}{
		{"10.0.0.0/8", "is not asked: it is not in discovery.allow"},
		{"127.0.0.0/8", ""},
	} {
		transport, _, err := p.transport(&p.cfg.Backend, []netip.Prefix{netip.MustParsePrefix(tc.allow), netip.MustParsePrefix("fe80::/10")}, &plan{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = node.NewClient(node.Options{URL: u, Timeout: time.Minute, Transport: transport}).Settings(t.Context())
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("allow %s: %v, want %q", tc.allow, err, tc.err)
		}
		if got := len(contacted) > 0; got != (tc.err == "") {
			t.Errorf("allow %s: contacted: %t", tc.allow, got)
		}
	}
}

// An unlisted member that answers no more is forgotten after an hour, and only then.
func TestDiscoveryForgets(t *testing.T) {
	e := discoverytest.Start(t)
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		e.Announce("main", name, sim.Node(name).URL())
	}
	cfg, err := config.Parse("c.toml", []byte(harness.Discovering(t, e, "")), harness.Files{}.Read)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New("", cfg, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { d.sup.Run(ctx) })
	running.Go(func() { d.discovered.watcher.Run(ctx) })
	d.discovered.watcher.Apply(d.plan.Load().source)
	names := func() string {
		var all []string
		for _, v := range d.sup.Views() {
			for _, m := range v.Members {
				name := m.Name
				if !m.Unlisted.IsZero() {
					name += " unlisted"
				}
				all = append(all, name)
			}
		}
		return strings.Join(all, ", ")
	}
	is := func(want string) {
		t.Helper()
		harness.Eventually(t, harness.Soon, func() error {
			d.discovered.look(time.Now())
			return harness.Want(names() == want, "nodes %s (got %s)", want, names())
		})
	}
	is("pg1, pg2, pg3")
	if err := d.sup.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	e.Delete("/service/main/members/pg2")
	e.Delete("/service/main/members/pg3")
	is("pg1, pg2 unlisted, pg3 unlisted")
	sim.Node("pg3").Close()
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(d.sup.Views()[0].Members[2].Entry.Failures > 0, "that pg3 answers no more")
	})
	d.discovered.look(time.Now().Add(discovery.ForgetAfter - time.Minute))
	if got := names(); got != "pg1, pg2 unlisted, pg3 unlisted" {
		t.Errorf("after 59 minutes: %s", got)
	}
	// By this clock pg2 has not answered for an hour either: give it what it would have.
	gone := time.Now()
	harness.Eventually(t, harness.Soon, func() error {
		return harness.Want(d.sup.Views()[0].Members[1].Entry.Began.After(gone.Add(time.Second)), "that pg2 answered since")
	})
	d.discovered.look(gone.Add(discovery.ForgetAfter + 500*time.Millisecond))
	if got := names(); got != "pg1, pg2 unlisted" {
		t.Errorf("after an hour: %s", got)
	}
}

// fleet is a daemon that discovered clusters of three, without ports and polls.
func fleet(b testing.TB, clusters int) (*Daemon, []discovery.Member) {
	cfg, err := config.Parse("c.toml", []byte("discovery.etcd = ['http://127.0.0.1:1']"), harness.Files{}.Read)
	if err != nil {
		b.Fatal(err)
	}
	d, err := New("", cfg, "test", zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	var members []discovery.Member
	for n := range 3 * clusters {
		members = append(members, discovery.Member{
			Scope: fmt.Sprintf("c%04d", n/3), Name: fmt.Sprintf("pg%d", n%3+1), Postgres: "10.0.0.1:5432",
			API: &url.URL{Scheme: "http", Host: fmt.Sprintf("10.%d.%d.%d:8008", n>>16, n>>8&255, n&255)},
		})
	}
	return d, members
}

// What it costs that one member of 3,000 moves.
func BenchmarkDiscoveryMove(b *testing.B) { benchmarkDiscovery(b, 1) }

// What it costs that all of them leave, or come back.
func BenchmarkDiscoveryLeave(b *testing.B) { benchmarkDiscovery(b, 3000) }

func benchmarkDiscovery(b *testing.B, change int) {
	d, members := fleet(b, 1000)
	n := 0
	for b.Loop() {
		n++
		next := slices.Clone(members)
		for i := range change {
			if change == 1 {
				next[i].API = &url.URL{Scheme: "http", Host: fmt.Sprintf("10.0.0.1:%d", 1000+n%2)}
			} else if n%2 == 0 {
				next[i].Unlisted = time.Unix(1e9, 0)
			}
		}
		p, err := d.plan.Load().with(found{members: next}, d.metrics)
		if err != nil {
			b.Fatal(err)
		}
		d.watch(p)
	}
}
