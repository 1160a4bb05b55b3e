package main

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
)

// troubles are what clusters can be in, and what the page says of it.
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

// TestPage looks at the status page of clusters in all kinds of trouble.
func TestPage(t *testing.T) {
	clusters := make(map[string]*nodetest.Cluster)
	config := []string{"[frontend]\n" + anyPort + "[agent]\nlisten = '127.0.0.1:0'\n[checks]\nmax-lag = '100MB'\nlag-hold = 0\n" + fastPolls}
	for _, trouble := range troubles {
		c := nodetest.NewCluster(trouble.name, "pg1", "pg2", "pg3")
		t.Cleanup(c.Close)
		if trouble.before != nil {
			trouble.before(c)
		}
		clusters[trouble.name] = c
		config = append(config, nodesIn(c, trouble.name))
	}
	p := startProgram(t, "c.toml", strings.Join(config, ""))
	for _, trouble := range troubles {
		if trouble.after != nil {
			trouble.after(clusters[trouble.name])
		}
	}
	a := newAuthority(t)
	server := serverCert()
	server.NotAfter = time.Now().Add(72 * time.Hour)
	a.make(t, "server", server)
	secure := startProgram(t, "c.toml", "[frontend]\n"+anyPort+a.pair("server")+fastPolls+nodesIn(clusters["well"], "well"))
	b := startBrowser(t) // after the programs, which would wait for its connections

	for _, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			page := b.open(t, "http://"+p.http+"/ui/"+trouble.name)
			page.isLive(t)
			page.until(t, fmt.Sprintf("document.querySelector('#banner[data-cluster=%q]').dataset.level === %q", trouble.name, trouble.level))
			for _, code := range trouble.codes {
				page.until(t, fmt.Sprintf("document.querySelector('#banner li[data-code=%q]') !== null", code))
			}
			for _, text := range trouble.says {
				page.says(t, "main", text)
			}
			if n := evaluate[int](t, page, "document.querySelectorAll('tbody[data-node]').length"); n != 3 {
				t.Errorf("%d nodes, want 3", n)
			}
			evaluate[chromedp.Void](t, page, "document.querySelectorAll('details').forEach(d => d.open = true)")
			page.isWellMade(t, viewports...)
		})
	}
	t.Run("overview", func(t *testing.T) {
		page := b.open(t, "http://"+p.http+"/")
		page.isLive(t)
		for _, trouble := range troubles {
			page.until(t, fmt.Sprintf("document.querySelector('#cluster-%s').dataset.level === %q", trouble.name, trouble.level))
		}
		page.isWellMade(t, viewports...)
	})
	t.Run("certificate ends", func(t *testing.T) {
		page := b.open(t, "https://"+secure.http+"/")
		page.isLive(t)
		page.until(t, "document.querySelector('#own li[data-code=certificate_expiring]') !== null")
		page.isWellMade(t, viewports...)
	})
	t.Run("no such cluster", func(t *testing.T) {
		page := b.blank(t)
		page.allow("404")
		page.navigate(t, "http://"+p.http+"/ui/nowhere")
		page.says(t, "main", "nowhere")
		page.isWellMade(t, viewports...)
	})
	t.Run("keyboard", func(t *testing.T) {
		page := b.open(t, "http://"+p.http+"/ui/lagging")
		page.isLive(t)
		page.walks(t, "a.skip", "tbody[data-node=pg1] summary", "tbody[data-node=pg3] summary", "footer a")
		evaluate[chromedp.Void](t, page, "document.querySelector('tbody[data-node=pg2] summary').focus()")
		page.do(t, chromedp.KeyEvent(kb.Enter))
		page.until(t, "document.querySelector('tbody[data-node=pg2] details').open")

		page.navigate(t, "http://"+p.http+"/")
		page.isLive(t)
		page.walks(t, "#filter input[name=q]", "#filter input[name=trouble]", "#cluster-well a")
	})
	t.Run("many tabs", func(t *testing.T) {
		var tabs []*tab
		for range 8 { // a browser makes six connections
			page := b.blank(t, chromedp.WithNewWindow(false))
			page.navigate(t, "http://"+p.http+"/ui/well")
			page.isLive(t)
			tabs = append(tabs, page)
		}
		first := tabs[0]
		call(t, first, cdppage.BringToFront, cdp.Empty{})
		first.until(t, "source.readyState === EventSource.OPEN && !resting")
	})
	t.Run("without scripts", func(t *testing.T) {
		page := b.blank(t)
		page.withoutScripts(t)
		page.navigate(t, "http://"+p.http+"/ui/well")
		page.says(t, "#banner", "pg1 is primary")
		clusters["well"].Switchover("pg3")
		page.says(t, "#banner", "pg3 is primary")
		for _, v := range viewports {
			page.as(t, v)
			if out := page.sticksOut(t); len(out) > 0 {
				t.Errorf("%s: %s", v, out)
			}
		}
	})
}

// nodesIn are nodesOf in a cluster of that name.
func nodesIn(c *nodetest.Cluster, name string) string {
	return strings.ReplaceAll(nodesOf(c, ""), "'main'", "'"+name+"'")
}

// TestPageOfMany is the overview of so many clusters that one has to search.
func TestPageOfMany(t *testing.T) {
	const many, every = 200, 14 // so many'th has no primary
	config := []string{"[frontend]\n" + anyPort + "[backend]\ninterval = '3s'\nprimary-interval = '3s'\nfast-interval = '1s'\n"}
	for i := range many {
		name := fmt.Sprintf("shop-%03d", i)
		c := nodetest.NewCluster(name, fmt.Sprintf("db%03da", i), fmt.Sprintf("db%03db", i))
		t.Cleanup(c.Close)
		if i%every == 0 {
			c.LoseDCS(false)
		}
		config = append(config, nodesIn(c, name))
	}
	p := startProgram(t, "c.toml", strings.Join(config, ""))
	b := startBrowser(t)

	const rows = "[...document.querySelectorAll('[id^=cluster-]')].filter(r => r.checkVisibility()).map(r => r.dataset.cluster)"
	t.Run("all", func(t *testing.T) {
		page := b.open(t, "http://"+p.http+"/")
		page.isLive(t)
		page.until(t, rows+".length === 200")
		levels := evaluate[[]string](t, page, "[...document.querySelectorAll('[id^=cluster-]')].map(r => r.dataset.level)")
		order := []string{"critical", "warning", "ok"}
		if !slices.IsSortedFunc(levels, func(a, b string) int { return cmp.Compare(slices.Index(order, a), slices.Index(order, b)) }) || levels[0] == "ok" {
			t.Errorf("the levels from above are %q, want the worst first", levels)
		}
		page.isWellMade(t, narrowLight, wideDark) // it takes seconds
	})
	t.Run("filter", func(t *testing.T) {
		page := b.open(t, "http://"+p.http+"/")
		page.isLive(t)
		evaluate[chromedp.Void](t, page, "window.mark = true")
		page.do(t, chromedp.SendKeys(chromedp.CSS("#filter input[name=q]"), "hop-01"))
		page.until(t, rows+".length === 10")
		page.do(t, chromedp.Click(chromedp.CSS("#filter input[name=trouble]")))
		page.until(t, rows+".join() === 'shop-014'")
		page.do(t, chromedp.Clear(chromedp.CSS("#filter input[name=q]")))
		if !evaluate[bool](t, page, "window.mark") {
			t.Error("it was loaded again, want that it is filtered in place")
		}
	})
	t.Run("filter without scripts", func(t *testing.T) {
		page := b.blank(t)
		page.withoutScripts(t)
		page.navigate(t, "http://"+p.http+"/")
		page.do(t, chromedp.SendKeys(chromedp.CSS("#filter input[name=q]"), "db01"), chromedp.Click(chromedp.CSS("#filter button")))
		page.until(t, rows+".length === 10")
		page.do(t, chromedp.Click(chromedp.CSS("#filter input[name=trouble]")), chromedp.Click(chromedp.CSS("#filter button")))
		page.until(t, rows+".join() === 'shop-014'")
	})
}

// TestPageReconnects: the supervisor is killed and comes back, at last with other
// nodes.
func TestPageReconnects(t *testing.T) {
	sim := newSimulated(t, "pg1", "pg2", "pg3")
	addr := freePort(t)
	config := "[frontend]\nhost = '127.0.0.1'\nport = " + portOf(addr) + "\n" + fastPolls + nodesOf(sim, "")
	path := writeFile(t, "c.toml", config)
	program := startProcess(t, new(logLines), builtBinary(t), "-config", path)
	until(t, "the program answers", func() bool { return !refuses(addr) })
	page := startBrowser(t).open(t, "http://"+addr+"/")
	page.isLive(t)
	page.says(t, "#banner", "pg1 is primary")
	page.occupy(t)

	page.allow("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONNECTION_RESET") // the page goes on trying
	program.kill(t)
	page.until(t, "document.documentElement.dataset.live === 'no'")
	page.says(t, "#live", "Not live since")
	page.isWellMade(t, narrowLight, wideDark)
	page.as(t, narrowLight)
	sim.Switchover("pg2")
	program.start(t)
	page.isLive(t)
	page.says(t, "#banner", "pg2 is primary")
	page.until(t, "document.getElementById('live').hidden")
	page.isUndisturbed(t)

	program.kill(t)
	text, _, _ := strings.Cut(config, "[[node]]\nname = 'pg3'")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program.start(t)
	page.until(t, "document.querySelectorAll('tbody[data-node]').length === 2")
	page.isLive(t)
	page.allow() // nothing fails any more
	sim.Switchover("pg1")
	page.says(t, "#banner", "pg1 is primary")
}

// page: somebody has the page open while the primary of a real cluster changes.
func (e *behindHAProxy) page(t *testing.T) {
	c := e.well(t)
	to := c.replicas[0]
	page := startBrowser(t).open(t, "http://"+e.lab.HTTP+"/")
	page.isLive(t)
	page.says(t, "#banner", c.primary.Name+" is primary")
	page.occupy(t)
	if err := e.lab.Switchover(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	page.says(t, "#banner", to.Name+" is primary")
	page.until(t, fmt.Sprintf("document.querySelector('tbody[data-leader]').dataset.node === %q", to.Name))
	page.says(t, "#changes", "became "+to.Name+" after ") // so long
	page.until(t, "document.querySelector('#intervals li.none') !== null")
	e.well(t)
	page.until(t, "document.getElementById('banner').dataset.level === 'ok'")
	page.isUndisturbed(t)
	page.isWellMade(t, narrowLight)
}
