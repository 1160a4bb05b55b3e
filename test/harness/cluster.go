package harness

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/contrib/lab"
)

// Cluster is a real cluster of three nodes, with etcd, Patroni and PostgreSQL, and the
// program over it. HAProxy has to be started, by StartHAProxy.
type Cluster struct {
	Lab     *lab.Lab
	Program *Program
	lost    bool // the cluster did not become healthy: no need to wait again
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

// StartCluster starts a cluster and, when its nodes run, the program, with more in its
// configuration. The program is in this process, or in one of its own where o.Program
// names a binary.
func StartCluster(t *testing.T, o lab.Options, more string) *Cluster {
	t.Helper()
	begun := time.Now()
	o.Parts = []string{lab.ETCD, lab.Patroni}
	e := &Cluster{Lab: StartLab(t, o)}
	text := ReadFile(t, e.Lab.Config) + more
	if err := os.WriteFile(e.Lab.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if o.Program != "" {
		e.Program = StartProcess(t, text, exec.Command(o.Program, "-config", e.Lab.Config))
	} else {
		e.Program = begin(t, e.Lab.Config)
		e.Program.awaitReady(t, text)
	}
	t.Logf("cluster and program are up after %v", time.Since(begun).Round(time.Second))
	return e
}

// StartHAProxy starts the lab's HAProxy, with what "patroniglue haproxy" prints.
func (e *Cluster) StartHAProxy(t *testing.T) {
	t.Helper()
	if err := e.Lab.Run(t.Context(), "haproxy", "start"); err != nil {
		t.Fatal(err)
	}
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
