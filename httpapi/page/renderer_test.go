package page

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/cluster/clustertest"
)

// A page is made from the four inputs of a Config, and a viewer gets what changes on it.
func TestRenderer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sup, nodes := supervise(t, "pg1", "pg1", "pg2")
		own := cluster.Health{Level: cluster.Warning, Reasons: []cluster.Reason{{Code: cluster.CodeReloadFailed, Level: cluster.Warning, Text: "line 7"}}}
		r := New(Config{
			Supervisor: sup, Version: "2.0.0-test",
			OwnHealth: func(time.Time) cluster.Health { return own },
			AgentLine: func(b []byte, a cluster.Answer) []byte {
				return fmt.Appendf(b, "words for %s/%s\n", a.Member.Name, a.Check.Name)
			},
		})
		q := Query{Cluster: "main", Base: "../", Live: "ui/main/live"}
		html, err := r.Render(q, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"<b>pg1</b> is primary", `data-code="reload_failed"`, "line 7", "words for pg2/replica", "2.0.0-test", `data-stream="../ui/main/live"`, "assets/page.css?" + r.Build(),
		} {
			if !strings.Contains(string(html), want) {
				t.Errorf("no %q in the page: %s", want, html)
			}
		}
		if _, err := r.Render(Query{Cluster: "other"}, time.Now()); err == nil {
			t.Error("an unknown cluster has a page")
		}
		html, err = r.NotFound(errors.New(`no cluster <"other">`), time.Now())
		if err != nil || !strings.Contains(string(html), "no cluster &lt;&#34;other&#34;&gt;") || !strings.Contains(string(html), `<a href="../ui/main">`) {
			t.Errorf("the page for an unknown cluster: %v, %s", err, html)
		}

		v := r.Live(q)
		event := func() string {
			t.Helper()
			text, err := v.Event(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		if first := event(); !strings.Contains(first, "is primary") || !strings.Contains(first, `"node-pg2"`) {
			t.Errorf("the first event: %s", first)
		}
		nodes["pg1"].Set(clustertest.Replica(1).WithDelay(0))
		nodes["pg2"].Set(clustertest.Primary(1).WithDelay(0))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if next := event(); !strings.Contains(next, `<b>pg2</b> is primary`) || strings.Contains(next, `"own":`) {
			t.Errorf("the event after a switchover: %s", next)
		}
		v.Close()
		if n := len(r.live.pages); n > 0 {
			t.Errorf("%d pages are kept for no viewer", n)
		}
	})
}
