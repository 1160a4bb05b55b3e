package httpapi_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/node/nodetest"
)

func TestRefresh(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2")
		s := start(t, nw, nil, partOf(c, "main"))
		settle()
		a := s.ask("POST", "/node/pgX/refresh")
		if a.status != 404 || strings.TrimSpace(a.body) != errorBody(`unknown node "pgX", want one of pg1, pg2`) {
			t.Errorf("refresh of nobody = %d %s", a.status, a.body)
		}
		time.Sleep(200 * time.Millisecond)
		before := c.Node("pg2").Requests("/primary")
		for range 1000 {
			if a := s.ask("POST", "/node/pg1/refresh"); a.status != 202 || a.body != `{"refresh":"pg1"}`+"\n" {
				t.Fatalf("refresh = %d %s", a.status, a.body)
			}
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if n := c.Node("pg2").Requests("/primary") - before; n < 1 || n > 2 {
			t.Errorf("1000 refreshes of pg1 polled pg2 %d times in a fast interval, want at once and once more", n)
		}
		// Refreshing without pause never polls faster than every fast interval.
		before = c.Node("pg2").Requests("/primary")
		for range 2000 {
			time.Sleep(time.Millisecond)
			s.ask("POST", "/node/pg2/refresh")
		}
		if n := c.Node("pg2").Requests("/primary") - before; n < 18 || n > 21 {
			t.Errorf("%d polls in 2 s of refreshing, want about 20", n)
		}
	})
}
