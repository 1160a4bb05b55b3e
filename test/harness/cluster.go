package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/contrib/lab"
)

// endToEnd is a real cluster and HAProxy, with the program in this process or in
// one of its own.
type Cluster struct {
	Lab  *lab.Lab
	Log  *LogLines // the program's
	lost bool      // the cluster did not become healthy: no need to wait again

	Cancel context.CancelFunc // ends the program in this process
	Ended  chan int           // its exit code
}

// StartLab skips where a lab cannot be had, unless build.sh said that it is
// required.
func StartLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("PATRONIGLUE_LAB") == "required" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("END TO END NOT TESTED: want root, to run PostgreSQL as its own user")
	}
	wanted := o
	wanted.Parts = append(slices.Clone(o.Parts), lab.HAProxy)
	if err := wanted.Check(t.Context()); err != nil {
		skip("END TO END NOT TESTED: %v", err)
	}
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// StartEndToEnd runs the program in this process.
func StartEndToEnd(t *testing.T, s lab.Suite) *Cluster {
	t.Helper()
	e := StartWithoutHAProxy(t, lab.Options{Suite: s})
	if err := e.Lab.Run(t.Context(), "haproxy", "start"); err != nil {
		t.Fatal(err)
	}
	return e
}

func StartWithoutHAProxy(t *testing.T, o lab.Options) *Cluster {
	t.Helper()
	begun := time.Now()
	o.Parts = []string{lab.ETCD, lab.Patroni}
	l := StartLab(t, o)

	ctx, cancel := context.WithCancel(context.Background())
	e := &Cluster{Lab: l, Log: new(LogLines), Cancel: cancel, Ended: make(chan int, 1)}
	running := make(chan struct{})
	go func() {
		defer close(running)
		e.Ended <- Command(ctx, []string{"-config", l.Config}, io.Discard, e.Log)
	}()
	t.Cleanup(func() {
		cancel()
		<-running
		e.Log.onFailure(t)
	})
	Eventually(t, 15*time.Second, func() error {
		select {
		case code := <-e.Ended:
			t.Fatalf("the program ended with exit code %d", code)
		default:
		}
		return e.Ready()
	})
	t.Logf("cluster and program are up after %v", time.Since(begun).Round(time.Second))
	return e
}

// Ready is nil when the program has polled every node.
func (e *Cluster) Ready() error {
	a, err := e.Ask(e.Lab.HTTP, "GET", "/readyz")
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("/readyz: status %d: %s", a.Status, a.Body)
	}
	return err
}

// Normal is what HAProxy shows of a healthy cluster: nothing is DOWN.
func (e *Cluster) Normal(c HealthyCluster) map[string]string {
	want := make(map[string]string)
	for _, n := range e.Lab.Nodes {
		want[lab.WriteBackend+"/"+n.Name], want[lab.ReadBackend+"/"+n.Name] = "MAINT", "UP"
	}
	want[lab.WriteBackend+"/"+c.Primary.Name], want[lab.ReadBackend+"/"+c.Primary.Name] = "UP", "MAINT"
	return want
}

// HAProxyShows waits until "show stat" says so: agents are asked every 200 ms.
func (e *Cluster) HAProxyShows(t *testing.T, want map[string]string) {
	t.Helper()
	var diff string
	Eventually(t, 20*time.Second, func() error {
		servers, err := e.Lab.HAProxyStat(t.Context())
		if err != nil {
			return err
		}
		got := make(map[string]string)
		for _, s := range servers {
			// "DOWN (agent)", "UP 1/2": on the way.
			word, _, _ := strings.Cut(s.Status, " ")
			got[s.Backend+"/"+s.Name] = word
		}
		if diff = gocmp.Diff(want, got); diff != "" {
			return fmt.Errorf("HAProxy's show stat (-want +got)\n%s", diff)
		}
		return nil
	})
}
