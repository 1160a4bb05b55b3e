package daemon

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/cluster/clustertest"
	"patroniglue/test/harness"
)

// A daemon that no longer polls must not tell systemd that it works, else it would never
// be restarted.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg1 := clustertest.New(t, "pg1", clustertest.Primary(1))
		var log harness.Log
		d := &Daemon{log: zerolog.New(&log), sup: cluster.New(cluster.Config{
			TTL: 5 * time.Second, Clusters: []cluster.ClusterConfig{{Name: "main", Nodes: []cluster.NodeConfig{{
				Name: "pg1", Client: pg1, Interval: time.Second, PrimaryInterval: 250 * time.Millisecond, FastInterval: 100 * time.Millisecond, Fall: 3,
			}}}},
		})}
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan string, 100)
		polled, notified := make(chan error, 1), make(chan struct{})
		go func() { polled <- d.sup.Run(ctx) }()
		go func() {
			defer close(notified)
			d.notify(ctx, 10*time.Second, func(state string) { sent <- state })
		}()
		take := func() (taken []string) {
			synctest.Wait()
			for range len(sent) {
				taken = append(taken, <-sent)
			}
			return taken
		}

		time.Sleep(21 * time.Second)
		want := []string{"READY=1", "STATUS=polling every node for the first time", "STATUS=main: ok, leader pg1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"}
		if got := take(); !slices.Equal(got, want) {
			t.Errorf("in 21 s: %q, want %q", got, want)
		}
		if log.String() != "" {
			t.Errorf("log: %s, want nothing", &log)
		}

		pg1.Set(clustertest.Deaf())
		time.Sleep(10 * time.Second) // timeout and grace
		take()
		time.Sleep(30 * time.Second)
		if got := take(); len(got) > 0 {
			t.Errorf("while a loop hangs: %q, want nothing", got)
		}
		if want := `watching \"pg1\" of cluster \"main\": stuck in a poll`; !strings.Contains(log.String(), want) {
			t.Errorf("log: %s, want %s", &log, want)
		}

		pg1.Set(clustertest.Primary(1))
		time.Sleep(6 * time.Second)
		if got := take(); !slices.Contains(got, "WATCHDOG=1") {
			t.Errorf("when it turns again: %q, want WATCHDOG=1", got)
		}
		cancel()
		if err := <-polled; err != nil {
			t.Error(err)
		}
		<-notified
		if got := take(); !slices.Equal(got, []string{"STOPPING=1"}) {
			t.Errorf("at the end: %q, want STOPPING=1", got)
		}
	})
}

// A daemon that was started by hand notifies nothing, and logs nothing about that.
func TestNotifyNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log strings.Builder
	d := &Daemon{log: zerolog.New(&log)} // a supervisor is not needed
	d.notifySystemd(t.Context())
	if log.Len() > 0 {
		t.Errorf("log %q, want nothing", &log)
	}
}

// systemd shows that a reload is under way, and with Type=notify-reload waits until it is
// over, whether it succeeded or not.
func TestNotifyReloading(t *testing.T) {
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", systemd.LocalAddr().String())
	var log strings.Builder
	d := &Daemon{log: zerolog.New(&log)}
	d.notifyReloading()()
	for _, want := range []string{`^RELOADING=1\nMONOTONIC_USEC=[0-9]{6,}\n?$`, `^READY=1$`} {
		message := make([]byte, 4096)
		if err := systemd.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := systemd.Read(message)
		if err != nil || !regexp.MustCompile(want).Match(message[:n]) {
			t.Errorf("%q, %v, want %s", message[:n], err, want)
		}
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
}

// systemd drops a notification of more than 4096 bytes, however many clusters there are.
func TestStatusOfMany(t *testing.T) {
	var views []*cluster.View
	for i := range 300 {
		views = append(views, &cluster.View{Cluster: fmt.Sprintf("a-long-name-of-a-cluster-%03d", i)})
	}
	if got, want := statusOf(views[:2], time.Now()), "a-long-name-of-a-cluster-000: critical, leader none; a-long-name-of-a-cluster-001: critical, leader none"; got != want {
		t.Errorf("two: %s, want %s", got, want)
	}
	if got, want := statusOf(views, time.Now()), "300 clusters: 0 ok, 0 warning, 300 critical"; got != want {
		t.Errorf("many: %s, want %s", got, want)
	}
}
