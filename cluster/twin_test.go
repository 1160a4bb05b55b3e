package cluster

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
)

// Two names of DNS that lead to one member must not make two primaries of it. Patroni
// before 3.2 does not tell its name.
func TestTwins(t *testing.T) {
	here, there := netip.MustParseAddrPort("10.0.0.11:8008"), netip.MustParseAddrPort("10.0.0.12:8008")
	unnamed := func(s clustertest.Script, started string) clustertest.Script {
		return s.WithField("patroni", map[string]any{"version": "3.0.2", "scope": "main"}).WithField("postmaster_start_time", started)
	}
	const first, second = "2026-11-22 12:44:15.478774+00:00", "2026-11-22 12:44:15.478775+00:00"
	for _, tt := range []struct {
		name       string
		pg2        clustertest.Script
		peer       netip.AddrPort
		wantPG2    string
		wantHealth Level
	}{
		{"the same member", unnamed(leads(1), first), here, "10.0.0.11:8008 answers for pg1, too: want another url", Warning},
		{"another one behind the same address", unnamed(follows(1), second), here, "", OK},
		{"a replica elsewhere", unnamed(follows(1), first), there, "", OK},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			w := begin(t, config(clustertest.New(t, "pg1", unnamed(leads(1), first).WithPeer(here)), clustertest.New(t, "pg2", tt.pg2.WithPeer(tt.peer))))
			w.settle()
			time.Sleep(time.Minute)
			synctest.Wait()
			v := w.view()
			if got := w.primary(); got != "pg1" {
				t.Errorf("primary %q, want pg1", got)
			}
			if got := v.Member("pg2").Refused; got != tt.wantPG2 {
				t.Errorf("pg2 is refused: %q, want %q", got, tt.wantPG2)
			}
			if got := v.Health(time.Now()); got.Level != tt.wantHealth {
				t.Errorf("%+v, want %s", got, tt.wantHealth)
			}
		})
	}
}
