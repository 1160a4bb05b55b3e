package patroni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/contrib/lab"
	"patroniglue/test/harness"
)

// clients: who reads Patroni's /patroni and /cluster reads the same here.
func (e suite) clients(t *testing.T) {
	c := e.Healthy(t)
	for _, n := range e.Lab.Nodes {
		// Byte for byte, as far as both are of one moment.
		harness.Eventually(t, 20*time.Second, func() error {
			theirs, ours := e.Must(t, n.REST, "GET", "/patroni"), e.Must(t, e.Lab.HTTP, "GET", "/node/"+n.Name+"/patroni")
			if ours.Status != theirs.Status || !bytes.Equal(ours.Body, theirs.Body) {
				return fmt.Errorf("%s: /patroni is %d\n%s, Patroni's %d\n%s", n.Name, ours.Status, ours.Body, theirs.Status, theirs.Body)
			}
			return nil
		})
		// Patroni's HEAD of a path that is no health check is always 503 (#2035): that serves nobody.
		if theirs, ours := e.Must(t, n.REST, "HEAD", "/patroni"), e.Must(t, e.Lab.HTTP, "HEAD", "/node/"+n.Name+"/patroni"); theirs.Status != http.StatusServiceUnavailable || ours.Status != http.StatusOK {
			t.Errorf("%s: HEAD /patroni is %d, Patroni's %d", n.Name, ours.Status, theirs.Status)
		}
	}
	e.sameCluster(t, c)

	// What is seldom there. Patroni's API makes it, and takes it away again.
	replica, later := c.Replicas[0], time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05-07:00")
	t.Run("restart scheduled", func(t *testing.T) {
		e.change(t, replica, "POST", "/restart", `{"schedule": "`+later+`", "restart_pending": true}`)
		defer e.change(t, replica, "DELETE", "/restart", "")
		e.shows(t, c, `"scheduled_restart":{`, `"schedule":"`+later+`"`)
	})
	t.Run("restart pending", func(t *testing.T) {
		before := e.value(t, replica, "max_locks_per_transaction")
		e.change(t, replica, "PATCH", "/config", `{"postgresql": {"parameters": {"max_locks_per_transaction": 65}}}`)
		defer e.change(t, replica, "PATCH", "/config", `{"postgresql": {"parameters": {"max_locks_per_transaction": `+before+`}}}`)
		e.shows(t, c, `"pending_restart":true`)
	})
	t.Run("pause", func(t *testing.T) {
		e.change(t, replica, "PATCH", "/config", `{"pause": true}`)
		defer e.change(t, replica, "PATCH", "/config", `{"pause": null}`)
		e.shows(t, c, `"pause":true`)
	})
	t.Run("switchover scheduled", func(t *testing.T) {
		harness.Eventually(t, 20*time.Second, func() error { // Patroni 4 schedules none while it believes in the pause
			if d := e.document(t, c.Primary); d.Pause {
				return fmt.Errorf("%s is still paused", c.Primary.Name)
			}
			return nil
		})
		e.change(t, c.Primary, "POST", "/switchover", `{"leader": "`+c.Primary.Name+`", "scheduled_at": "`+later+`"}`)
		defer e.change(t, c.Primary, "DELETE", "/switchover", "")
		harness.Eventually(t, 20*time.Second, func() error {
			if theirs := e.Must(t, c.Primary.REST, "GET", "/cluster").Body; !bytes.Contains(theirs, []byte(`"scheduled_switchover"`)) {
				return fmt.Errorf("Patroni does not show the switchover: %s", theirs)
			}
			return nil
		})
		e.sameCluster(t, c)
	})
	e.Healthy(t)
	e.sameCluster(t, c)
}

// change asks Patroni to change something.
func (e suite) change(t *testing.T, n lab.Node, method, path, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Errorf("%s %s of %s: status %d: %s", method, path, n.Name, resp.StatusCode, said)
	}
}

func (e suite) value(t *testing.T, n lab.Node, setting string) string {
	t.Helper()
	got, err := e.Lab.Query(t.Context(), n.SQL, "show "+setting)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// shows waits until /cluster has all of the words, and Patroni's is the same.
func (e suite) shows(t *testing.T, c harness.HealthyCluster, words ...string) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		ours := e.Must(t, e.Lab.HTTP, "GET", "/cluster").Body
		for _, w := range words {
			if !bytes.Contains(ours, []byte(w)) {
				return fmt.Errorf("no %s in /cluster: %s", w, ours)
			}
		}
		return nil
	})
	e.sameCluster(t, c)
}

// sameCluster: Patroni's /cluster is ours, key by key, value by value, at every
// base that a client may be given.
func (e suite) sameCluster(t *testing.T, c harness.HealthyCluster) {
	t.Helper()
	for _, path := range []string{"/cluster", "/cluster/" + e.Lab.Scope, "/cluster/" + e.Lab.Scope + "/cluster", "/node/pg1/cluster", "/node/pg3/cluster"} {
		harness.Eventually(t, 20*time.Second, func() error { // member keys are as old as loop_wait
			var theirs, ours map[string]any
			for into, from := range map[*map[string]any][]byte{
				&theirs: e.Must(t, c.Primary.REST, "GET", "/cluster").Body, &ours: e.Must(t, e.Lab.HTTP, "GET", path).Body,
			} {
				if err := json.Unmarshal(from, into); err != nil {
					t.Fatalf("%v in %s", err, from)
				}
			}
			if d := gocmp.Diff(e.asOurs(theirs), typesOnly(ours)); d != "" {
				return fmt.Errorf("%s (-Patroni +ours)\n%s", path, d)
			}
			return nil
		})
	}
}

// asOurs makes of Patroni's /cluster what ours should be. Each line is a
// difference that is meant, and why.
func (e suite) asOurs(theirs map[string]any) map[string]any {
	typesOnly(theirs)
	theirs["scope"] = e.Lab.Scope // since 3.2.0; ours is the newest form, whatever the nodes are
	for _, m := range theirs["members"].([]any) {
		m := m.(map[string]any)
		if m["tags"] == nil {
			m["tags"] = map[string]any{} // ours always has them, Patroni up to 4.1 only when there are some
		}
		if m["lag"] != nil { // since 4.1.0
			m["receive_lag"], m["replay_lag"] = "a number", "a number"
			m["receive_lsn"], m["replay_lsn"], m["lsn"] = "a position", "a position", "a position"
		}
	}
	delete(theirs, "scheduled_switchover") // the DCS has it, no health check brings it
	for _, m := range theirs["members"].([]any) {
		if restart, ok := m.(map[string]any)["scheduled_restart"].(map[string]any); ok {
			delete(restart, "postmaster_start_time") // Patroni's inner affair, which /patroni leaves out (api.py:78)
		}
	}
	return theirs
}

// typesOnly writes the type of what changes from one moment to another.
func typesOnly(list map[string]any) map[string]any {
	for _, m := range list["members"].([]any) {
		m := m.(map[string]any)
		for _, key := range slices.Collect(maps.Keys(m)) {
			_, number := m[key].(float64)
			text, _ := m[key].(string)
			switch {
			case (key == "lag" || strings.HasSuffix(key, "_lag")) && number:
				m[key] = "a number"
			case (key == "lsn" || strings.HasSuffix(key, "_lsn")) && strings.Contains(text, "/"):
				m[key] = "a position"
			}
		}
	}
	return list
}
