package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/internal/config"
	"patroniglue/test/harness"
)

// A thousand reloads leave nothing behind: no goroutine, file, memory or series of a
// metric.
func TestReloadLeaksNothing(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	ca := harness.NewAuthority(t)
	ca.Make(t, "server", harness.ServerCert())
	port, spare := harness.FreePort(t), harness.FreePort(t)
	p := startQuiet(t, "[frontend]\n"+harness.AnyPort+harness.FastPolls+harness.NodeTable(sim.Node("pg1"), "pg1", ""))
	text := func(i int) string {
		frontend := "[frontend]\n" + harness.AnyPort
		if i%4 == 1 {
			frontend += ca.Pair("server")
		}
		frontend += "[history]\nsize = 100\n"
		return frontend + harness.FastPolls + "cafile = '" + ca.File("ca.crt") + "'\n" + harness.NodeTable(sim.Node("pg1"), "pg1", "agent = { primary = '"+[]string{port, spare}[i%2]+"' }") +
			harness.NodeTable(sim.Node("pg2"), fmt.Sprintf("node%d", i), "") + harness.NodeTable(sim.Node("pg3"), "pg3", fmt.Sprintf("cluster = 'c%d'", i%3))
	}
	type counts struct{ goroutines, files, heap, series int }
	measure := func() (c counts) {
		t.Helper()
		p.reload(t, text(0)) // without TLS
		for range 3 {        // because some goroutines end a little later
			time.Sleep(200 * time.Millisecond)
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return counts{runtime.NumGoroutine(), len(fds), int(m.HeapAlloc), strings.Count(harness.Scrape(t, p.d.http.Handler()), "\npatroniglue_")}
	}
	for i := range 100 {
		p.reload(t, text(i))
	}
	before := measure()
	for i := range 1000 {
		p.reload(t, text(i))
	}
	after := measure()
	t.Logf("before %+v, after 1000 reloads %+v", before, after)
	if after.goroutines > before.goroutines+5 || after.files > before.files+5 || after.series != before.series || after.heap > before.heap+1<<20 {
		t.Errorf("before %+v, after 1000 reloads %+v", before, after)
	}
}

// quietDaemon is a daemon that runs in this process without a log.
type quietDaemon struct {
	d    *Daemon
	path string
}

func startQuiet(t *testing.T, text string) *quietDaemon {
	t.Helper()
	path := harness.WriteFile(t, "c.toml", text)
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	d, err := New(Options{Config: cfg, Path: path, Log: zerolog.Nop(), Opened: func(_, _ []net.Addr) { close(opened) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-opened
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return &quietDaemon{d, path}
}

// reload replaces the configuration, sends SIGHUP, and waits until that has succeeded.
func (q *quietDaemon) reload(t *testing.T, text string) {
	t.Helper()
	loaded := func() uint64 {
		r := &q.d.reloads
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.configErr != nil {
			t.Fatal(r.configErr)
		}
		return r.succeeded
	}
	before := loaded()
	if err := os.WriteFile(q.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); loaded() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not reloaded")
		}
	}
}
