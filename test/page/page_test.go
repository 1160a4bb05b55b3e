package page

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// troubles is states of clusters, and what the page shows of each.
var troubles = []struct {
	name   string
	before func(*nodetest.Cluster) // the program starts; nil = nothing
	after  func(*nodetest.Cluster) // it has polled all nodes
	level  string
	codes  []string // of the reasons
	says   []string
}{
	{name: "well", level: "ok", says: []string{"pg1 is primary", "Nothing is wrong."}},
	{
		name: "lagging", level: "warning", codes: []string{"lag"}, says: []string{"pg1 is primary", "lag 212 MB over 100 MB"},
		after: func(c *nodetest.Cluster) { c.Node("pg2").SetLag(212 << 20) },
	},
	{
		name: "leaderless", level: "critical", codes: []string{"no_primary", "node_down"}, says: []string{"No primary", "connection refused", "was primary"},
		after: func(c *nodetest.Cluster) { c.Kill("pg1") },
	},
	{
		name: "split", level: "critical", codes: []string{"split_brain", "no_primary"}, says: []string{"claims by pg1 (timeline 1) and pg2 (timeline 1)"},
		after: func(c *nodetest.Cluster) { c.SplitBrain(false, "pg1", "pg2") },
	},
	{
		name: "mixed-up", level: "warning", codes: []string{"wrong_cluster"}, says: []string{"system identifier is 7000000000000000000, want "},
		after: func(c *nodetest.Cluster) {
			c.Node("pg3").Set(func(s *nodetest.State) { s.SystemID = "7000000000000000000" })
		},
	},
	{
		name: "unsafe", level: "warning", codes: []string{"ttl_unsafe"}, says: []string{"cache ttl 5s is not below 2s"},
		before: func(c *nodetest.Cluster) {
			c.SetConfig(func(config map[string]any) { config["ttl"], config["loop_wait"] = 12, 10 })
		},
	},
	{
		name: "unread", level: "warning", codes: []string{"ttl_unknown"}, says: []string{"cannot be compared with Patroni", "ttl: want a whole number of seconds"},
		before: func(c *nodetest.Cluster) {
			c.SetConfig(func(config map[string]any) { config["ttl"] = "12s" })
		},
	},
	{
		name: "frozen", level: "warning", codes: []string{"node_down"}, says: []string{"stale: last answer ", "was replica"},
		after: func(c *nodetest.Cluster) { c.Node("pg3").Freeze() },
	},
	{
		name: "unseen", level: "warning", codes: []string{"node_down"}, says: []string{"PostgreSQL unknown", "never"},
		before: func(c *nodetest.Cluster) { c.Kill("pg3") },
	},
	{
		name: "paused", level: "warning", codes: []string{"paused"}, says: []string{"no automatic failover"},
		before: func(c *nodetest.Cluster) { c.SetPause(true) },
	},
}

// TestPage checks the status page of clusters in all kinds of trouble.
func TestPage(t *testing.T) {
	clusters := make(map[string]*nodetest.Cluster)
	config := []string{"[frontend]\n" + harness.AnyPort + "[agent]\nlisten = '127.0.0.1:0'\n[checks]\nmax-lag = '100MB'\nlag-hold = 0\n" + harness.FastPolls}
	for _, trouble := range troubles {
		c := nodetest.NewCluster(trouble.name, "pg1", "pg2", "pg3")
		t.Cleanup(c.Close)
		if trouble.before != nil {
			trouble.before(c)
		}
		clusters[trouble.name] = c
		config = append(config, nodesIn(c, trouble.name))
	}
	p := harness.Start(t, "c.toml", strings.Join(config, ""))
	for _, trouble := range troubles {
		if trouble.after != nil {
			trouble.after(clusters[trouble.name])
		}
	}
	a := harness.NewAuthority(t)
	server := harness.ServerCert()
	server.NotAfter = time.Now().Add(72 * time.Hour)
	a.Make(t, "server", server)
	secure := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+a.Pair("server")+harness.FastPolls+nodesIn(clusters["well"], "well"))
	b := harness.StartBrowser(t) // after the programs, which would wait for its connections

	for _, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			page := b.Open(t, "http://"+p.HTTP+"/ui/"+trouble.name)
			page.AwaitLive(t)
			page.Await(t, fmt.Sprintf("document.querySelector('#banner[data-cluster=%q]').dataset.level === %q", trouble.name, trouble.level))
			for _, code := range trouble.codes {
				page.Await(t, fmt.Sprintf("document.querySelector('#banner li[data-code=%q]') !== null", code))
			}
			for _, text := range trouble.says {
				page.AwaitText(t, "main", text)
			}
			if n := harness.Evaluate[int](t, page, "document.querySelectorAll('tbody[data-node]').length"); n != 3 {
				t.Errorf("%d nodes, want 3", n)
			}
			harness.Evaluate[chromedp.Void](t, page, "document.querySelectorAll('details').forEach(d => d.open = true)")
			page.IsWellMade(t, harness.Viewports...)
		})
	}
	t.Run("overview", func(t *testing.T) {
		page := b.Open(t, "http://"+p.HTTP+"/")
		page.AwaitLive(t)
		for _, trouble := range troubles {
			page.Await(t, fmt.Sprintf("document.querySelector('#cluster-%s').dataset.level === %q", trouble.name, trouble.level))
		}
		page.IsWellMade(t, harness.Viewports...)
	})
	t.Run("certificate ends", func(t *testing.T) {
		page := b.Open(t, "https://"+secure.HTTP+"/")
		page.AwaitLive(t)
		page.Await(t, "document.querySelector('#own li[data-code=certificate_expiring]') !== null")
		page.IsWellMade(t, harness.Viewports...)
	})
	t.Run("no such cluster", func(t *testing.T) {
		page := b.Blank(t)
		page.Allow("404")
		page.Navigate(t, "http://"+p.HTTP+"/ui/nowhere")
		page.AwaitText(t, "main", "nowhere")
		page.IsWellMade(t, harness.Viewports...)
	})
	t.Run("keyboard", func(t *testing.T) {
		page := b.Open(t, "http://"+p.HTTP+"/ui/lagging")
		page.AwaitLive(t)
		page.Walks(t, "a.skip", "tbody[data-node=pg1] summary", "tbody[data-node=pg3] summary", "footer a")
		harness.Evaluate[chromedp.Void](t, page, "document.querySelector('tbody[data-node=pg2] summary').focus()")
		page.Do(t, chromedp.KeyEvent(kb.Enter))
		page.Await(t, "document.querySelector('tbody[data-node=pg2] details').open")

		page.Navigate(t, "http://"+p.HTTP+"/")
		page.AwaitLive(t)
		page.Walks(t, "#filter input[name=q]", "#filter input[name=trouble]", "#cluster-well a")
	})
	t.Run("many tabs", func(t *testing.T) {
		var tabs []*harness.Tab
		for range 8 { // a browser makes six connections
			page := b.Blank(t, chromedp.WithNewWindow(false))
			page.Navigate(t, "http://"+p.HTTP+"/ui/well")
			page.AwaitLive(t)
			tabs = append(tabs, page)
		}
		first := tabs[0]
		harness.Call(t, first, cdppage.BringToFront, cdp.Empty{})
		first.Await(t, "source.readyState === EventSource.OPEN && !resting")
	})
	t.Run("without scripts", func(t *testing.T) {
		page := b.Blank(t)
		page.WithoutScripts(t)
		page.Navigate(t, "http://"+p.HTTP+"/ui/well")
		page.AwaitText(t, "#banner", "pg1 is primary")
		clusters["well"].Switchover("pg3")
		page.AwaitText(t, "#banner", "pg3 is primary")
		for _, v := range harness.Viewports {
			page.SetViewport(t, v)
			if out := page.SticksOut(t); len(out) > 0 {
				t.Errorf("%s: %s", v, out)
			}
		}
	})
}

// nodesIn is harness.NodeTables for a cluster of that name.
func nodesIn(c *nodetest.Cluster, name string) string {
	return strings.ReplaceAll(harness.NodeTables(c, ""), "'main'", "'"+name+"'")
}

// TestPageOfMany checks the overview of so many clusters that one has to search.
func TestPageOfMany(t *testing.T) {
	const many, every = 200, 14 // so many'th has no primary
	config := []string{"[frontend]\n" + harness.AnyPort + "[backend]\ninterval = '3s'\nprimary-interval = '3s'\nfast-interval = '1s'\n[cache]\nttl = '9s'\n"}
	for i := range many {
		name := fmt.Sprintf("shop-%03d", i)
		c := nodetest.NewCluster(name, fmt.Sprintf("db%03da", i), fmt.Sprintf("db%03db", i))
		t.Cleanup(c.Close)
		if i%every == 0 {
			c.LoseDCS(false)
		}
		config = append(config, nodesIn(c, name))
	}
	p := harness.Start(t, "c.toml", strings.Join(config, ""))
	b := harness.StartBrowser(t)

	const rows = "[...document.querySelectorAll('[id^=cluster-]')].filter(r => r.checkVisibility()).map(r => r.dataset.cluster)"
	t.Run("all", func(t *testing.T) {
		page := b.Open(t, "http://"+p.HTTP+"/")
		page.AwaitLive(t)
		page.Await(t, rows+".length === 200")
		levels := harness.Evaluate[[]string](t, page, "[...document.querySelectorAll('[id^=cluster-]')].map(r => r.dataset.level)")
		order := []string{"critical", "warning", "ok"}
		if !slices.IsSortedFunc(levels, func(a, b string) int { return cmp.Compare(slices.Index(order, a), slices.Index(order, b)) }) || levels[0] == "ok" {
			t.Errorf("the levels from above are %q, want the worst first", levels)
		}
		page.IsWellMade(t, harness.NarrowLight, harness.WideDark) // it takes seconds
	})
	t.Run("filter", func(t *testing.T) {
		page := b.Open(t, "http://"+p.HTTP+"/")
		page.AwaitLive(t)
		harness.Evaluate[chromedp.Void](t, page, "window.mark = true")
		page.Do(t, chromedp.SendKeys(chromedp.CSS("#filter input[name=q]"), "hop-01"))
		page.Await(t, rows+".length === 10")
		page.Do(t, chromedp.Click(chromedp.CSS("#filter input[name=trouble]")))
		page.Await(t, rows+".join() === 'shop-014'")
		page.Do(t, chromedp.Clear(chromedp.CSS("#filter input[name=q]")))
		if !harness.Evaluate[bool](t, page, "window.mark") {
			t.Error("it was loaded again, want that it is filtered in place")
		}
	})
	t.Run("filter without scripts", func(t *testing.T) {
		page := b.Blank(t)
		page.WithoutScripts(t)
		page.Navigate(t, "http://"+p.HTTP+"/")
		page.Do(t, chromedp.SendKeys(chromedp.CSS("#filter input[name=q]"), "db01"), chromedp.Click(chromedp.CSS("#filter button")))
		page.Await(t, rows+".length === 10")
		page.Do(t, chromedp.Click(chromedp.CSS("#filter input[name=trouble]")), chromedp.Click(chromedp.CSS("#filter button")))
		page.Await(t, rows+".join() === 'shop-014'")
	})
}

// TestPageReconnects: the page follows a supervisor that is killed and comes back, in the end with
// other nodes.
func TestPageReconnects(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2", "pg3")
	addr := harness.FreePort(t)
	config := "[frontend]\nhost = '127.0.0.1'\nport = " + harness.PortOf(addr) + "\n" + harness.FastPolls + harness.NodeTables(sim, "")
	program := harness.StartProcess(t, config, nil)
	page := harness.StartBrowser(t).Open(t, "http://"+addr+"/")
	page.AwaitLive(t)
	page.AwaitText(t, "#banner", "pg1 is primary")
	page.Occupy(t)

	page.Allow("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONNECTION_RESET") // the page goes on trying
	program.Kill(t)
	page.Await(t, "document.documentElement.dataset.live === 'no'")
	page.AwaitText(t, "#live", "Not live since")
	page.IsWellMade(t, harness.NarrowLight, harness.WideDark)
	page.SetViewport(t, harness.NarrowLight)
	sim.Switchover("pg2")
	program.Restart(t)
	page.AwaitLive(t)
	page.AwaitText(t, "#banner", "pg2 is primary")
	page.Await(t, "document.getElementById('live').hidden")
	page.IsUndisturbed(t)

	program.Kill(t)
	text, _, _ := strings.Cut(config, "[[node]]\nname = 'pg3'")
	if err := os.WriteFile(program.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program.Restart(t)
	page.Await(t, "document.querySelectorAll('tbody[data-node]').length === 2")
	page.AwaitLive(t)
	page.Allow() // nothing fails any more
	sim.Switchover("pg1")
	page.AwaitText(t, "#banner", "pg1 is primary")
}
