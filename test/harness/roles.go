package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"patroniglue/contrib/lab"
)

// HealthyCluster says who is what.
type HealthyCluster struct {
	Primary  lab.Node
	Replicas []lab.Node
	Major    int // Patroni's version
}

// Healthy waits until one primary leads two streaming replicas, on one timeline,
// and the program knows it.
func (e *Cluster) Healthy(t *testing.T) HealthyCluster {
	t.Helper()
	if e.lost {
		t.Fatal("the cluster did not become healthy after an earlier test")
	}
	e.lost = true // unless the next line returns
	var c HealthyCluster
	Eventually(t, 60*time.Second, func() (err error) {
		c, err = e.Look()
		if err == nil {
			err = e.agrees(c)
		}
		return err
	})
	e.lost = false
	return c
}

// Look asks Patroni.
func (e *Cluster) Look() (HealthyCluster, error) {
	var c HealthyCluster
	timelines := make(map[int64]bool)
	for _, n := range e.Lab.Nodes {
		a, err := e.Ask(n.REST, "GET", "/primary")
		if err != nil {
			return c, err
		}
		var doc struct {
			State, Role string
			Timeline    int64
			Replication []struct{ State string }
			Patroni     struct{ Version string }
		}
		if err := json.Unmarshal(a.Body, &doc); err != nil {
			return c, fmt.Errorf("%s: %w", n.Name, err)
		}
		if doc.State != "running" {
			return c, fmt.Errorf("%s is %s", n.Name, doc.State)
		}
		major, _, _ := strings.Cut(doc.Patroni.Version, ".")
		if c.Major, err = strconv.Atoi(major); err != nil {
			return c, fmt.Errorf("%s: Patroni's version: %w", n.Name, err)
		}
		timelines[doc.Timeline] = true
		leads := doc.Role == "primary" || doc.Role == "master"
		switch {
		case leads && a.Status == http.StatusOK:
			streaming := 0
			for _, r := range doc.Replication {
				if r.State == "streaming" {
					streaming++
				}
			}
			if streaming != 2 || c.Primary.Name != "" {
				return c, fmt.Errorf("%s is primary and streams to %d", n.Name, streaming)
			}
			c.Primary = n
		case doc.Role == "replica" && a.Status == http.StatusServiceUnavailable:
			c.Replicas = append(c.Replicas, n)
		default:
			return c, fmt.Errorf("%s is %s with status %d", n.Name, doc.Role, a.Status)
		}
	}
	if c.Primary.Name == "" || len(timelines) != 1 {
		return c, fmt.Errorf("primary %q, timelines %v", c.Primary.Name, timelines)
	}
	return c, nil
}

// agrees asks the program.
func (e *Cluster) agrees(c HealthyCluster) error {
	a, err := e.Ask(e.Lab.HTTP, "GET", "/health?strict")
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("/health?strict: status %d: %s", a.Status, a.Body)
	}
	var replicas []string
	for _, n := range c.Replicas {
		replicas = append(replicas, n.Name)
	}
	for check, want := range map[string][]string{"primary": {c.Primary.Name}, "replica": replicas} {
		if got, err := e.Passing(check); err != nil {
			return err
		} else if !slices.Equal(got, want) {
			return fmt.Errorf("%s here: %v, want %v", check, got, want)
		}
	}
	return nil
}

// Passing gives the nodes that pass a check, all from one view.
func (e *Cluster) Passing(check string) ([]string, error) {
	a, err := e.Ask(e.Lab.HTTP, "GET", "/cluster/"+e.Lab.Scope+"/"+check)
	if err != nil {
		return nil, err
	}
	var body struct{ Nodes []string }
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return nil, fmt.Errorf("/%s: %w: %s", check, err, a.Body)
	}
	return body.Nodes, nil
}
