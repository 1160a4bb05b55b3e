package httpapi_test

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// shown is an event of a page's stream.
type shown struct {
	Page, Level, Title, Clock string
	Sections                  map[string]string
	at                        time.Time
}

// show reads the next event.
func (l *listener) show() shown {
	l.Helper()
	e := l.must()
	var s shown
	if err := json.Unmarshal([]byte(e.data), &s); err != nil || e.name != "page" || s.Page == "" || s.Clock == "" {
		l.Fatalf("event %+v: %v", e, err)
	}
	s.at = time.Now()
	return s
}

func (s shown) ids() []string { return slices.Sorted(maps.Keys(s.Sections)) }

// The stream begins with the same bytes as the page, and then has only what changed.
func TestLive(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		l := s.listen("/ui/main/live", "")
		first := l.show()
		p := s.page("/ui/main")
		contains(t, "the page", p, `data-page="`+first.Page+`"`, `data-level="`+first.Level+`"`, "<title>"+first.Level+": "+first.Title+" · patroniglue</title>")
		want := []string{"banner", "changes", "clock", "day", "hour", "intervals", "node-pg1", "node-pg2", "own", "settings", "told"}
		if got := first.ids(); !slices.Equal(got, want) {
			t.Errorf("at first: %s\nwant %s", got, want)
		}
		for id, html := range first.Sections {
			if !strings.Contains(p, html) {
				t.Errorf("section %s is not in the page: %s", id, html)
			}
			if !strings.Contains(html, `id="`+id+`"`) {
				t.Errorf("section %s is another element: %s", id, html)
			}
		}
		containsNot(t, "what is read out", first.Sections["told"], "since", "ago")

		// Ages grow; nothing else of a node changes in a second.
		second := l.show()
		if d := second.at.Sub(first.at); d != time.Second {
			t.Errorf("the second event came after %s, want 1s", d)
		}
		for _, id := range second.ids() {
			if id == "told" || id == "own" || id == "changes" || strings.HasPrefix(id, "node-") {
				t.Errorf("a second later section %s is sent again: %s", id, second.Sections[id])
			}
		}
		if second.Page != first.Page || second.Sections["clock"] == "" || second.Clock == first.Clock {
			t.Errorf("a second later: %+v", second)
		}
	})
}

// However many viewers it has, a page is rendered once each second and once at each change.
func TestLiveIsRenderedOnceForAll(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		var renderings, events atomic.Int64
		counts := func(c *httpapi.Config) {
			withToken(c)
			c.Reasons = func() []cluster.Reason { renderings.Add(1); return nil } // the page asks each time
		}
		s := start(t, nw, counts, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"), partOf(members(t, nw, "", "other", "db1", "db2"), "other"))
		settle()
		watch := func(target string) {
			l := s.listen(target, "")
			go func() {
				for _, err := l.next(); err == nil; _, err = l.next() {
					events.Add(1)
				}
			}()
			time.Sleep(3 * time.Millisecond)
		}
		for range 50 {
			watch("/ui/main/live")
		}
		watch("/ui/other/live")
		watch("/live?trouble=1")
		for _, step := range []struct {
			what               string
			run                func()
			renderings, events int64
		}{
			{"all have come", func() { time.Sleep(500 * time.Millisecond) }, 52, 52},
			{"two full seconds", func() { time.Sleep(2 * time.Second) }, 2 * 3, 2 * 52},
			{"two changes at once", func() { s.leaving("POST", "/node/pg1/leaving"); time.Sleep(200 * time.Millisecond) }, 3, 2 * 52},
			{"the full second after that", func() { time.Sleep(500 * time.Millisecond) }, 3, 52},
		} {
			step.run()
			synctest.Wait()
			if r, e := renderings.Swap(0), events.Swap(0); r != step.renderings || e != step.events {
				t.Errorf("%s: %d renderings of three pages, and %d events for their 52 viewers; want %d and %d", step.what, r, e, step.renderings, step.events)
			}
		}
	})
}

// A change is sent at once, not at the next full second, but a burst of changes is not a
// burst of events.
func TestLiveTellsChangesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		s := start(t, nw, withToken, partOf(c, "main"), partOf(members(t, nw, "", "other", "db1", "db2"), "other"))
		settle()
		l, overview := s.listen("/ui/main/live", ""), s.listen("/live?trouble=1", "")
		l.show()
		overview.show()
		last := l.show().at
		overview.show()
		time.Sleep(200 * time.Millisecond)
		s.leaving("POST", "/node/pg1/leaving")
		e := l.show()
		if d := e.at.Sub(last); d > 250*time.Millisecond || e.Level != "warning" {
			t.Errorf("after %s: %+v", d, e)
		}
		contains(t, "the banner", e.Sections["banner"], `data-code="leaving"`)
		contains(t, "pg1", e.Sections["node-pg1"], "leaving")
		contains(t, "the changes", e.Sections["changes"], "<b>pg1</b> leaving")
		if _, ok := e.Sections["node-pg3"]; ok {
			t.Errorf("pg3 did not change: %s", e.ids())
		}
		o := overview.show()
		contains(t, "the overview", o.Sections["level-warning"], `data-cluster="main"`)
		containsNot(t, "the overview", o.Sections["level-warning"], `data-cluster="other"`)

		begun := time.Now()
		for range 20 {
			s.leaving("DELETE", "/node/pg1/leaving")
			s.leaving("POST", "/node/pg1/leaving")
		}
		for n := 0; ; n++ {
			if l.show(); time.Since(begun) > time.Second {
				if n > 12 {
					t.Errorf("%d events in a second", n)
				}
				break
			}
		}
	})
}

// A page of another build, or of other nodes, has to be loaded again.
func TestLivePageID(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		ids := map[string]string{}
		for _, tt := range []struct {
			what, version string
			names         []string
			same          bool // as the first
		}{
			{"at first", "2.0.0", []string{"pg1", "pg2"}, true},
			{"started again", "2.0.0", []string{"pg1", "pg2"}, true},
			{"another build", "2.0.1", []string{"pg1", "pg2"}, false},
			{"another node", "2.0.0", []string{"pg1", "pg2", "pg3"}, false},
		} {
			nw := nodetest.NewNet()
			version := func(cfg *httpapi.Config) { cfg.Version = tt.version }
			s := start(t, nw, version, partOf(members(t, nw, "", "main", tt.names...), "main"))
			settle()
			id := s.listen("/live", "").show().Page
			if ids[tt.what] = id; (id == ids["at first"]) != tt.same {
				t.Errorf("%s: %q, at first %q", tt.what, id, ids["at first"])
			}
		}
	})
}

// A reader that hangs is disconnected. A slow reader gets fewer events.
func TestLiveReaderHangs(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		hung, slow := s.listen("/live", ""), s.listen("/live", "")
		slow.show()
		for range 10 {
			time.Sleep(2 * time.Second)
			slow.show()
		}
		for n := 0; ; n++ { // events that were on their way
			if _, err := hung.next(); err != nil {
				break
			}
			if n == 2 {
				t.Fatal("a reader that read nothing for 20 s is still served")
			}
		}
	})
}

// Streams never end by themselves: they must not delay a stop.
func TestLiveEndsAtStop(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		l, hung := s.listen("/live", ""), s.listen("/live", "")
		l.show()
		hung.show()
		ended := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = l.next()
			}
			ended <- err
		}()
		begun := time.Now()
		s.stop()
		if err := <-ended; err != io.EOF {
			t.Errorf("the stream ended with %v, want a whole answer", err)
		}
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
		synctest.Wait()
	})
}

func TestLiveMethods(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := startAt(t, nw, address, nil, cluster.Rules{}, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		for _, method := range []string{"HEAD", "OPTIONS"} {
			if a := s.ask(method, "/live"); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%s /live: %+v", method, a)
			}
		}
	})
}
