package patroni

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
	"patroniglue/internal/client"
	"patroniglue/node"
	"patroniglue/test/harness"
)

// suite is a real cluster with the tests that it goes through.
type suite struct{ *harness.Cluster }

// TestEndToEnd runs the whole program against Debian's Patroni, PostgreSQL,
// etcd and HAProxy. Its subtests share one cluster, one daemon and one HAProxy;
// each begins when one primary leads two streaming replicas and everybody knows.
func TestEndToEnd(t *testing.T) {
	t.Parallel() // it mostly waits
	harness.Core(t, testEndToEnd)
}

func testEndToEnd(t *testing.T, s lab.Suite) {
	e := suite{harness.StartCluster(t, lab.Options{Suite: s}, "")}
	e.StartHAProxy(t)
	t.Run("steady state", e.steadyState)
	t.Run("quiet", e.quiet)
	t.Run("status", e.status)
	t.Run("clients of Patroni", e.clients)
	t.Run("check_patroni", e.checkPatroni)
	t.Run("HAProxy", e.haproxy)
	t.Run("switchover", e.switchover)
	t.Run("leaving", e.leaving)
	t.Run("short freeze", e.shortFreeze)
	t.Run("long freeze", e.longFreeze)
	t.Run("PostgreSQL killed", e.postgresKilled)
	t.Run("stop", e.stops)
}

// steadyState: every check of every node answers as Patroni itself does.
func (e suite) steadyState(t *testing.T) {
	c := e.Healthy(t)
	for _, n := range e.Lab.Nodes {
		for _, check := range node.CheckNames() {
			for _, query := range []string{"", "?lag=1MB", "?tag_x=y", "?tag_x=", "?lag=1MB&tag_x=y"} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					patroni := e.Must(t, n.REST, method, "/"+check+query).Status
					ours := e.Must(t, e.Lab.HTTP, method, "/node/"+n.Name+"/"+check+query)
					want, why := patroni, "as Patroni"
					switch {
					case (check == "liveness" || check == "readiness") && method != "GET":
						// Patroni has no such HEAD or OPTIONS: 503, always (#2035).
						want, why = e.Must(t, n.REST, "GET", "/"+check+query).Status, "as Patroni's GET"
						if patroni != http.StatusServiceUnavailable {
							t.Errorf("%s %s /%s%s of Patroni: status %d, want 503", n.Name, method, check, query, patroni)
						}
					case check == "read-only-quorum" && c.Major < 4 && n.Name != c.Primary.Name:
						// Before 4.0 the name is unknown, and its path has "read-only" in it.
						want, why = http.StatusServiceUnavailable, "nobody is a quorum standby"
					case query == "?tag_x=" && patroni == http.StatusOK && refusesTags(check):
						// Patroni drops parameters without a value; we take it as the value that is wanted.
						want, why = http.StatusServiceUnavailable, "an empty tag is a value"
					}
					if ours.Status != want {
						t.Errorf("%s %s /%s%s: status %d, want %d, %s", n.Name, method, check, query, ours.Status, want, why)
					}
					if hasBody := len(ours.Body) > 0; hasBody != (method == "GET") {
						t.Errorf("%s %s /%s%s: body of %d bytes", n.Name, method, check, query, len(ours.Body))
					}
				}
			}
		}
	}
}

// refusesTags reports whether the check looks at tag_ parameters at all.
func refusesTags(check string) bool {
	c, _ := node.ParseCheck(check, "")
	return !c.Writes() && c.Ask != node.AskLiveness && c.Ask != node.AskReadiness
}

// quiet: no check makes a line in the log.
func (e suite) quiet(t *testing.T) {
	c := e.Healthy(t)
	before := e.Program.Log.Lines()
	for i := range 100 {
		n := e.Lab.Nodes[i%3]
		check := node.CheckNames()[i%len(node.CheckNames())]
		e.Must(t, e.Lab.HTTP, "GET", "/node/"+n.Name+"/"+check)
		if _, err := e.AskAgent(n.Name + "/" + check); err != nil {
			t.Error(err)
		}
	}
	e.Healthy(t) // nothing happened meanwhile that is worth a line
	if added := e.Program.Log.Lines()[len(before):]; len(added) != 0 {
		t.Errorf("200 checks while %s leads made %d log lines, want none:\n%s", c.Primary.Name, len(added), strings.Join(added, "\n"))
	}
}

// status: what people read.
func (e suite) status(t *testing.T) {
	c := e.Healthy(t)
	var stdout, stderr bytes.Buffer
	if code := harness.Command(t.Context(), []string{"-config", e.Lab.Config, "status"}, &stdout, &stderr); code != 0 {
		t.Errorf("status: exit code %d, want 0\n%s%s", code, &stdout, &stderr)
	}
	for _, n := range e.Lab.Nodes {
		want := []string{n.Name, n.SQL, "replica", "running", "no yes"}
		if n.Name == c.Primary.Name {
			want = []string{n.Name, n.SQL, "Leader", "running", "yes no"}
		}
		var row string
		for line := range strings.Lines(stdout.String()) {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] == n.Name {
				row = strings.Join(fields, " ")
			}
		}
		for _, w := range want {
			if !strings.Contains(row, w) {
				t.Errorf("status: no %q in the row of %s: %q\n%s", w, n.Name, row, &stdout)
			}
		}
	}

	stdout.Reset()
	if code := harness.Command(t.Context(), []string{"-config", e.Lab.Config, "status", "-json"}, &stdout, &stderr); code != 0 {
		t.Errorf("status -json: exit code %d\n%s%s", code, &stdout, &stderr)
	}
	var report client.Status
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || len(report.Nodes) != 3 || !report.Health.Healthy {
		t.Errorf("status -json: error %v, want 3 nodes of a healthy cluster:\n%s", err, &stdout)
	}

	if got := e.Must(t, e.Lab.HTTP, "GET", "/health?strict"); got.Status != http.StatusOK {
		t.Errorf("/health: status %d: %s", got.Status, got.Body)
	}
	if got := e.Must(t, e.Lab.HTTP, "GET", "/readyz"); got.Status != http.StatusOK {
		t.Errorf("/readyz: status %d: %s", got.Status, got.Body)
	}
}

// haproxy: what HAProxy itself makes of it.
func (e suite) haproxy(t *testing.T) {
	c := e.Healthy(t)
	e.HAProxyShows(t, e.Normal(c))

	if got, err := e.Lab.Query(t.Context(), e.Lab.Write, "select pg_is_in_recovery()"); err != nil || got != "f" {
		t.Errorf("pg_is_in_recovery() through the write port: %q, %v, want f", got, err)
	}
	if got, err := e.Lab.Query(t.Context(), e.Lab.Read, "select pg_is_in_recovery()"); err != nil || got != "t" {
		t.Errorf("pg_is_in_recovery() through the read port: %q, %v, want t", got, err)
	}
	if _, err := e.Lab.Query(t.Context(), e.Lab.Write, "insert into lab (said) values ('end to end')"); err != nil {
		t.Errorf("writing through the write port: %v", err)
	}
	if got, err := e.Lab.Query(t.Context(), c.Primary.SQL, "select count(*) from lab where said = 'end to end'"); err != nil || got != "1" {
		t.Errorf("rows on %s: %q, %v, want 1", c.Primary.Name, got, err)
	}

	crashed := c.Replicas[0].Name
	if err := e.Lab.CrashNode(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	want := e.Normal(c)
	want[lab.WriteBackend+"/"+crashed] = "DOWN"
	want[lab.ReadBackend+"/"+crashed] = "DOWN"
	e.HAProxyShows(t, want)
	for _, check := range []string{"primary", "replica", "health", "liveness"} {
		got := e.Must(t, e.Lab.HTTP, "GET", "/node/"+crashed+"/"+check)
		if reason := got.Reason(t); got.Status != http.StatusServiceUnavailable || !strings.HasPrefix(reason, "not answering: ") {
			t.Errorf("/node/%s/%s of a crashed node: status %d, reason %q", crashed, check, got.Status, reason)
		}
	}
	if err := e.Lab.StartNode(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	e.HAProxyShows(t, e.Normal(e.Healthy(t)))
}

// stops: the end of its context ends the program in good order.
func (e suite) stops(t *testing.T) {
	e.Healthy(t)
	begun := time.Now()
	e.Program.End()
	if err := e.Program.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v", time.Since(begun).Round(time.Millisecond))
	for _, addr := range []string{e.Lab.HTTP, e.Lab.Agent} {
		if _, err := e.Ask(addr, "GET", "/livez"); err == nil {
			t.Errorf("%s still answers", addr)
		}
	}
}
