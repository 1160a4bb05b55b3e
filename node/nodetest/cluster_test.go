package nodetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// picture is every member on a line: its state and what it answers with 200, as in the transcripts of the facts.
func picture(c *Cluster) string {
	var lines []string
	for _, n := range c.Nodes() {
		w := c.now.Load()
		s := *w.members[n.name]
		words := []string{n.name, s.shownState() + "/" + s.Role, fmt.Sprintf("tl%d", orZero(s.Timeline))}
		if n.Fault() == Refuse {
			words = append(words, "refuses")
		}
		words[len(words)-1] += ":"
		for _, check := range []string{"/primary", "/leader", "/standby-leader", "/replica", "/async", "/health", "/readiness"} {
			if Decide(s, w.view, Request{"GET", check}, time.Now()).Status == 200 {
				words = append(words, strings.TrimPrefix(check, "/"))
			}
		}
		for _, flag := range []struct {
			name string
			on   bool
		}{{"unlocked", s.Unlocked || !s.DCS}, {"failsafe", s.Failsafe}, {"pause", s.Pause}, {"streaming", s.ReplicationState == "streaming"}} {
			if flag.on {
				words = append(words, "+"+flag.name)
			}
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

func expect(t *testing.T, when string, c *Cluster, want ...string) {
	t.Helper()
	if got, want := picture(c), strings.Join(want, "\n"); got != want {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", when, got, want)
	}
}

const (
	leads   = ": primary leader health readiness"
	follows = ": replica async health readiness +streaming"
)

func TestMoves(t *testing.T) {
	start := []string{"pg1 running/primary tl1" + leads, "pg2 running/replica tl1" + follows, "pg3 running/replica tl1" + follows}
	tests := []struct {
		name string
		do   func(*Cluster)
		want []string
	}{
		{"start", func(c *Cluster) {}, start},
		{"switchover", func(c *Cluster) { c.Switchover("pg2") },
			[]string{"pg1 running/replica tl2" + follows, "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
		{"switchover to the leader", func(c *Cluster) { c.Switchover("pg1") }, start},
		{"switchover and back", func(c *Cluster) { c.Switchover("pg2"); c.Switchover("pg1") },
			[]string{"pg1 running/primary tl3" + leads, "pg2 running/replica tl3" + follows, "pg3 running/replica tl3" + follows}},
		{"killed leader", func(c *Cluster) { c.Kill("pg1") },
			[]string{"pg1 stopped/primary tl1 refuses:", "pg2 running/replica tl1: replica async health", "pg3 running/replica tl1: replica async health"}},
		{"killed leader, expired", func(c *Cluster) { c.Kill("pg1"); c.Expire() },
			[]string{"pg1 stopped/primary tl1 refuses: +unlocked", "pg2 running/replica tl1: replica async health +unlocked", "pg3 running/replica tl1: replica async health +unlocked"}},
		{"killed and revived leader", func(c *Cluster) { c.Kill("pg1"); c.Revive("pg1") }, start},
		{"killed replica", func(c *Cluster) { c.Kill("pg3") },
			[]string{start[0], start[1], "pg3 stopped/replica tl1 refuses: +streaming"}},
		{"failover", func(c *Cluster) { c.Failover("pg3") },
			[]string{"pg1 stopped/primary tl1 refuses:", "pg2 running/replica tl2" + follows, "pg3 running/primary tl2" + leads}},
		{"failover and revival", func(c *Cluster) { c.Failover("pg3"); c.Revive("pg1") },
			[]string{"pg1 running/replica tl2" + follows, "pg2 running/replica tl2" + follows, "pg3 running/primary tl2" + leads}},
		{"switchover from the dead", func(c *Cluster) { c.Kill("pg1"); c.Switchover("pg2") },
			[]string{"pg1 stopped/primary tl1 refuses:", "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
		{"promotion that does not end", func(c *Cluster) { c.BeginPromotion("pg2") },
			[]string{"pg1 running/replica tl1: replica async health", "pg2 running/replica tl1: primary leader replica async health readiness", "pg3 running/replica tl1: replica async health"}},
		{"promotion that ends", func(c *Cluster) { c.BeginPromotion("pg2"); c.Promote("pg2") },
			[]string{"pg1 running/replica tl2" + follows, "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
		{"two leaders", func(c *Cluster) { c.SplitBrain(false, "pg1", "pg2") },
			[]string{start[0], "pg2 running/primary tl1" + leads, start[2]}},
		{"two leaders without a view", func(c *Cluster) { c.SplitBrain(true, "pg1", "pg2") },
			[]string{start[0] + " +unlocked", "pg2 running/primary tl1" + leads + " +unlocked", start[2]}},
		{"pause", func(c *Cluster) { c.SetPause(true) }, []string{
			"pg1 running/primary tl1: primary leader health readiness +pause",
			"pg2 running/replica tl1: replica async health readiness +pause +streaming",
			"pg3 running/replica tl1: replica async health readiness +pause +streaming"}},
		{"pause and back", func(c *Cluster) { c.SetPause(true); c.SetPause(false) }, start},
		{"pause without DCS, two primaries", func(c *Cluster) { c.SetPause(true); c.SplitBrain(false, "pg1", "pg2"); c.LoseDCS(false) }, []string{
			"pg1 running/primary tl1: primary leader health +unlocked +pause",
			"pg2 running/primary tl1: primary leader health +unlocked +pause",
			"pg3 running/replica tl1: replica health readiness +unlocked +pause +streaming"}},
		{"no DCS", func(c *Cluster) { c.LoseDCS(false) }, []string{
			"pg1 running/replica tl1: replica health +unlocked",
			"pg2 running/replica tl1: replica health +unlocked",
			"pg3 running/replica tl1: replica health +unlocked"}},
		{"no DCS, failsafe", func(c *Cluster) { c.LoseDCS(true) }, []string{
			"pg1 running/primary tl1: primary leader health readiness +unlocked +failsafe",
			"pg2 running/replica tl1: replica health readiness +unlocked +failsafe +streaming",
			"pg3 running/replica tl1: replica health readiness +unlocked +failsafe +streaming"}},
		{"DCS back", func(c *Cluster) { c.LoseDCS(false); c.RestoreDCS() },
			[]string{"pg1 running/primary tl2" + leads, "pg2 running/replica tl2" + follows, "pg3 running/replica tl2" + follows}},
		{"DCS back, failsafe", func(c *Cluster) { c.LoseDCS(true); c.RestoreDCS() }, start},
		{"standby cluster", func(c *Cluster) { c.SetStandbyCluster(true) },
			[]string{"pg1 running/standby_leader tl1: leader standby-leader health readiness +streaming", start[1], start[2]}},
		{"switchover in a standby cluster", func(c *Cluster) { c.SetStandbyCluster(true); c.Switchover("pg2") },
			[]string{"pg1 running/replica tl1" + follows, "pg2 running/standby_leader tl1: leader standby-leader health readiness +streaming", start[2]}},
		{"standby cluster promoted", func(c *Cluster) { c.SetStandbyCluster(true); c.SetStandbyCluster(false) },
			[]string{"pg1 running/primary tl2" + leads, "pg2 running/replica tl2" + follows, "pg3 running/replica tl2" + follows}},
		{"wrong cluster", func(c *Cluster) {
			c.Node("pg3").Set(func(s *State) { s.Scope, s.SystemID, s.Name = "other", "1", "pg9" })
		}, start},
	}
	for _, tt := range tests {
		bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
			tt.do(c)
			expect(t, tt.name, c, tt.want...)
		})
	}
}

func TestMembers(t *testing.T) {
	bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
		contains := func(path string, want ...string) {
			t.Helper()
			_, body, err := get("pg3", path)
			for _, w := range want {
				if !strings.Contains(body, w) {
					t.Errorf("%s: %s (%v), want %s in it", path, body, err, w)
				}
			}
		}
		contains("/cluster", `{"name": "pg1", "role": "leader", "state": "running", "api_url": "http://pg1:8008/patroni", "host": "127.0.0.1", "port": 5432, "timeline": 1}`)
		contains("/config", `{"loop_wait": 10, "maximum_lag_on_failover": 1048576, "retry_timeout": 10, "ttl": 30}`)
		contains("/history", `[]`)
		c.SetConfig(func(config map[string]any) { config["ttl"] = 20 })
		c.Write(100)
		c.Node("pg2").SetLag(60)
		c.Write(40)
		contains("/config", `"ttl": 20`)
		contains("/cluster", `"receive_lag": 0, "receive_lsn": "0/30000EC", "replay_lag": 60, "replay_lsn": "0/30000B0"`)
		if status, _, _ := get("pg2", "/replica?lag=59B"); status != 503 {
			t.Errorf("lag over the limit: %d", status)
		}
		if status, _, _ := get("pg2", "/replica?lag=60B"); status != 200 {
			t.Errorf("lag at the limit: %d", status)
		}
		for _, name := range []string{"pg2", "pg3"} {
			if r := c.Node("pg1").State().Replication; !slices.ContainsFunc(r, func(w Walsender) bool { return w.Application == name }) {
				t.Errorf("the leader does not send to %s: %+v", name, r)
			}
		}

		c.Failover("pg2")
		contains("/history", `[[1, 50331884, "no recovery target specified", "2000-01-01T00:00:00.000000+00:00", "pg2"]]`)
		contains("/cluster", `"name": "pg2", "role": "leader"`)
		if _, body, _ := get("pg3", "/cluster"); strings.Contains(body, "pg1") {
			t.Errorf("the dead are still there: %s", body)
		}
		if got := c.Leader().Name(); got != "pg2" {
			t.Errorf("leader %q, want pg2", got)
		}
		if tl := orZero(c.Node("pg3").State().Timeline); tl != 2 {
			t.Errorf("timeline %d, want 2", tl)
		}

		// dcs_last_seen stops when the DCS is lost, and nothing answers that needs it.
		c.LoseDCS(true)
		time.Sleep(time.Minute)
		contains("/replica", `"cluster_unlocked": true, "failsafe_mode_is_active": true, "dcs_last_seen": 946684800,`)
		if _, _, err := get("pg3", "/cluster"); err == nil {
			t.Error("/cluster without DCS: no error")
		}
		c.RestoreDCS()
		contains("/replica", `"dcs_last_seen": 946684860,`)

		// Copies are copies.
		s := c.Node("pg3").State()
		*s.Timeline = 99
		if tl := orZero(c.Node("pg3").State().Timeline); tl != 2 {
			t.Errorf("changing a copy changed the node: timeline %d", tl)
		}
	})
}

// TestSlowly looks at the cluster a millisecond after each change.
func TestSlowly(t *testing.T) {
	type moment struct {
		at   time.Duration
		want []string
	}
	tests := []struct {
		name    string
		play    func(*Cluster, context.Context) error
		moments []moment
	}{
		{"switchover", func(c *Cluster, ctx context.Context) error { return c.SwitchoverSlowly(ctx, "pg2", MeasuredSwitchover) }, []moment{
			{0, []string{"pg1 stopping/primary tl1: primary leader readiness", "pg2 running/replica tl1" + follows, "pg3 running/replica tl1" + follows}},
			{2040, []string{"pg1 stopping/demoted tl1: +unlocked", "pg2 running/replica tl1: replica async health +unlocked", "pg3 running/replica tl1: replica async health +unlocked"}},
			{2290, []string{"pg1 stopping/demoted tl1:", "pg2 running/replica tl1: primary leader replica async health readiness", "pg3 running/replica tl1: replica async health"}},
			{2420, []string{"pg1 stopping/demoted tl1:", "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
			{4220, []string{"pg1 starting/replica tl1:", "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
			{4640, []string{"pg1 running/replica tl2" + follows, "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
		}},
		{"failover", func(c *Cluster, ctx context.Context) error { return c.FailoverSlowly(ctx, "pg2", MeasuredFailover) }, []moment{
			{0, []string{"pg1 stopped/primary tl1 refuses:", "pg2 running/replica tl1: replica async health", "pg3 running/replica tl1: replica async health"}},
			{20000, []string{"pg1 stopped/primary tl1 refuses: +unlocked", "pg2 running/replica tl1: replica async health +unlocked", "pg3 running/replica tl1: replica async health +unlocked"}},
			{20250, []string{"pg1 stopped/primary tl1 refuses:", "pg2 running/replica tl1: primary leader replica async health readiness", "pg3 running/replica tl1: replica async health"}},
			{20380, []string{"pg1 stopped/primary tl1 refuses:", "pg2 running/primary tl2" + leads, "pg3 running/replica tl2" + follows}},
		}},
		{"crash", func(c *Cluster, ctx context.Context) error { return c.CrashSlowly(ctx, "pg1", MeasuredCrash) }, []moment{
			{0, []string{"pg1 unknown/primary tl1: primary leader readiness", "pg2 running/replica tl1: replica async health", "pg3 running/replica tl1: replica async health"}},
			{3000, []string{"pg1 crashed/primary tl1: primary leader readiness", "pg2 running/replica tl1: replica async health", "pg3 running/replica tl1: replica async health"}},
			{3200, []string{"pg1 starting/primary tl1: primary leader readiness", "pg2 running/replica tl1: replica async health", "pg3 running/replica tl1: replica async health"}},
			{4600, []string{"pg1 running/primary tl1" + leads, "pg2 running/replica tl1" + follows, "pg3 running/replica tl1" + follows}},
		}},
		{"failsafe blip", func(c *Cluster, ctx context.Context) error {
			c.LoseDCS(true)
			return c.FailsafeBlip(ctx, 140*time.Millisecond)
		}, []moment{
			{0, []string{"pg1 running/primary tl1: health +unlocked +failsafe",
				"pg2 running/replica tl1: replica async health readiness +unlocked +failsafe +streaming", "pg3 running/replica tl1: replica async health readiness +unlocked +failsafe +streaming"}},
			{140, []string{"pg1 running/primary tl1" + leads, "pg2 running/replica tl1" + follows, "pg3 running/replica tl1" + follows}},
		}},
	}
	for _, tt := range tests {
		bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
			start := time.Now()
			ended := make(chan error, 1)
			go func() { ended <- tt.play(c, t.Context()) }()
			for _, m := range tt.moments {
				time.Sleep(time.Until(start.Add(m.at*time.Millisecond + time.Millisecond)))
				expect(t, fmt.Sprintf("%s at %dms", tt.name, m.at), c, m.want...)
			}
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
	}
}

func TestPlayEndsEarly(t *testing.T) {
	bubble(t, func(t *testing.T, c *Cluster, get func(string, string) (int, string, error)) {
		ctx, cancel := context.WithCancelCause(t.Context())
		because := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(because) })
		if err := c.SwitchoverSlowly(ctx, "pg2", MeasuredSwitchover); !errors.Is(err, because) {
			t.Errorf("after the context's end: %v, want %v", err, because)
		}
		time.AfterFunc(time.Second, c.Close)
		err := c.SwitchoverSlowly(t.Context(), "pg2", MeasuredSwitchover)
		if want := `playing on cluster "main": use of closed network connection`; !errors.Is(err, net.ErrClosed) || err.Error() != want {
			t.Errorf("after Close: %v, want %s", err, want)
		}
		if err := c.SwitchoverSlowly(t.Context(), "pg1", MeasuredSwitchover); err != nil {
			t.Errorf("to the leader itself: %v", err)
		}
		c.Node("pg1").SetFault(Refuse)
		c.Expire()
		if err := c.FailsafeBlip(t.Context(), time.Second); err == nil || err.Error() != `playing on cluster "main": no leader` {
			t.Errorf("blip without a leader: %v", err)
		}
	})
}

// TestConcurrently: everything at once, for the race detector.
func TestConcurrently(t *testing.T) {
	c := NewCluster("main", "pg1", "pg2", "pg3")
	defer c.Close()
	cl := client(nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, n := range c.Nodes() {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					fetch(t.Context(), cl, n.URL()+"/cluster")
					fetch(t.Context(), cl, n.URL()+"/primary")
					_, _ = n.State(), n.MaxOpen()
				}
			}
		})
	}
	for i := range 60 {
		c.Switchover([]string{"pg2", "pg3", "pg1"}[i%3])
		c.Node("pg1").Set(func(s *State) { s.Tags = map[string]any{"i": i} })
		c.Node("pg2").SetFault([]Fault{None, Refuse, Reset, CloseEarly}[i%4])
		c.Node("pg3").SetDelay(time.Duration(i) * time.Microsecond)
		c.Write(1 << 10)
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
}

func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Options{Listen: NewNet().Listen}.NewCluster("main", "pg1")
		defer c.Close()
		tests := []struct {
			do   func()
			want string
		}{
			{func() { c.Node("pgX") }, `nodetest: cluster "main" has no member "pgX"`},
			{func() { c.Switchover("pgX") }, `nodetest: cluster "main" has no member "pgX"`},
			{func() { NewCluster("main", "pg1", "pg1") }, `nodetest: two members named "pg1"`},
			{func() {
				Options{Addr: func(string) string { return "nowhere" }, Listen: NewNet().Listen}.NewCluster("main", "pg1")
			},
				`nodetest: opening a port for "pg1": listen tcp nowhere: address nowhere: missing port in address`},
		}
		for _, tt := range tests {
			func() {
				defer func() {
					if got := recover(); got != tt.want {
						t.Errorf("panic %v, want %s", got, tt.want)
					}
				}()
				tt.do()
			}()
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	s, r := Replica("main", "pg1"), Request{"GET", "/primary"}
	dcs := DCS{Config: defaultConfig()}
	for b.Loop() {
		Decide(s, dcs, r, now)
	}
}
