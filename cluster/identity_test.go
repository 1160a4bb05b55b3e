package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node"
)

func TestIdentity(t *testing.T) {
	patroni := func(scope, name string) map[string]any {
		return map[string]any{"version": "4.1.4", "scope": scope, "name": name}
	}
	tests := []struct {
		name   string
		change func(*ClusterConfig)
		wrong  clustertest.Script // of pg2
		want   string
	}{
		{"another system identifier", nil, leads(9).WithField("database_system_identifier", "6666"), "system identifier is 6666, want 7001"},
		{"another scope than configured", func(c *ClusterConfig) { c.Scope = "main" }, leads(9).WithField("patroni", patroni("test", "pg2")), `scope is "test", want "main"`},
		{"another member", func(c *ClusterConfig) { c.Nodes[1].Member = "pg2" }, leads(9).WithField("patroni", patroni("main", "pg7")), `member's name is "pg7", want "pg2"`},
	}
	for _, test := range tests {
		inBubble(t, test.name, func(t *testing.T) {
			w := three(t, func(c *Config) {
				if test.change != nil {
					test.change(&c.Clusters[0])
				}
			})
			w.fakes["pg2"].Set(test.wrong)
			if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{"pg1"}) {
				t.Errorf("primaries %q", got)
			}
			for _, check := range node.CheckNames() {
				if got, want := w.verdict("pg2", check), node.FaultFor("wrong cluster: "+test.want); got != want {
					t.Errorf("%s: %+v, want %+v", check, got, want)
				}
			}
			if got := w.passing("replica"); !slices.Equal(got, []string{"pg3"}) {
				t.Errorf("replicas %q", got)
			}
			want := []Reason{{"wrong_cluster", Warning, "pg2", test.want}}
			if h := w.view().Health(time.Now()); h.Level != Warning || !slices.Equal(h.Reasons, want) {
				t.Errorf("%+v", h)
			}
			w.fakes["pg1"].Set(follows(1))
			if got := w.primaries(5 * time.Second); !slices.Equal(got, []string{"pg1", ""}) {
				t.Errorf("primaries %q", got)
			}
			w.fakes["pg1"].Set(leads(1))
			w.fakes["pg2"].Set(follows(1))
			w.settle()
			if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "pg3"}) {
				t.Errorf("replicas %q", got)
			}
		})
	}
	inBubble(t, "a scope that is not configured is not checked: the other site is promoted", func(t *testing.T) {
		other := func(s clustertest.Script, name string) clustertest.Script {
			return s.WithField("patroni", patroni("dr", name))
		}
		w := begin(t, config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)),
			clustertest.New(t, "dr1", other(follows(1).WithRole(node.RoleStandbyLeader), "dr1")), clustertest.New(t, "dr2", other(follows(1), "dr2"))))
		w.settle()
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "dr2"}) {
			t.Errorf("replicas %q", got)
		}
		w.fakes["pg1"].Set(refuses)
		w.fakes["pg2"].Set(refuses)
		w.fakes["dr1"].Set(other(leads(2), "dr1"))
		w.fakes["dr2"].Set(other(follows(2), "dr2"))
		w.until(3*time.Second, "dr1 leads", func() bool { return w.primary() == "dr1" })
		w.fakes["pg1"].Set(follows(2).WithRole(node.RoleStandbyLeader))
		w.fakes["pg2"].Set(follows(2))
		w.settle()
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2", "dr2"}) || w.view().Scope != "dr" {
			t.Errorf("replicas %q, scope %q", got, w.view().Scope)
		}
	})
	inBubble(t, "a stranger that answers first does not keep the cluster out", func(t *testing.T) {
		stranger := follows(1).WithField("database_system_identifier", "6666")
		fakes := []*clustertest.Poller{clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", stranger)}
		w := begin(t, config(fakes...))
		w.sup.group().mu.Lock()
		w.sup.group().identity.systemID = "6666" // as if pg3 had answered first
		w.sup.group().mu.Unlock()
		w.until(2*time.Second, "pg1 leads", func() bool { return w.primary() == "pg1" })
		w.settle()
		if got, want := w.verdict("pg3", "replica"), node.FaultFor("wrong cluster: system identifier is 6666, want 7001"); got != want {
			t.Errorf("the stranger: %+v, want %+v", got, want)
		}
	})
	inBubble(t, "pg_upgrade gives the whole cluster another identifier", func(t *testing.T) {
		w := three(t)
		for name, s := range map[string]clustertest.Script{"pg1": leads(1), "pg2": follows(1), "pg3": follows(1)} {
			w.fakes[name].Set(s.WithField("database_system_identifier", "8888"))
		}
		w.until(3*time.Second, "pg1 leads again", func() bool { return w.primary() == "pg1" })
	})
	inBubble(t, "two strangers do not replace a primary that leads", func(t *testing.T) {
		w := three(t)
		w.fakes["pg2"].Set(leads(9).WithField("database_system_identifier", "6666"))
		w.fakes["pg3"].Set(follows(9).WithField("database_system_identifier", "6666"))
		if got := w.primaries(10 * time.Second); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("primaries %q", got)
		}
	})
	inBubble(t, "the incumbent is replaced by a node of another scope", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(leads(1).WithField("database_system_identifier", "6666").WithField("patroni", patroni("test", "pg1")))
		w.until(300*time.Millisecond, "pg1 is out", func() bool { return w.primary() == "" })
		if got := w.primaries(time.Minute); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q", got)
		}
	})
}

// with is the script with a system identifier.
func with(id string, s clustertest.Script) clustertest.Script {
	return s.WithField("database_system_identifier", id)
}

func codes(h Health) (codes []string) {
	for _, r := range h.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

func TestIdentityChanges(t *testing.T) {
	creating := clustertest.Says(503, `{"state":"creating replica","role":"replica","patroni":{"version":"4.1.4","scope":"main"}}`)
	scoped := func(c *Config) { c.Clusters[0].Scope = "main" }
	upgraded := func(w *world, pg2, pg3 clustertest.Script) {
		w.t.Helper()
		for _, f := range w.fakes {
			f.Set(refuses)
		}
		time.Sleep(10 * time.Second)
		w.fakes["pg2"].Set(pg2)
		w.fakes["pg3"].Set(pg3)
		w.fakes["pg1"].Set(with("8888", leads(1)))
		w.until(time.Second, "pg1 leads again", func() bool { return w.primary() == "pg1" })
	}
	for name, others := range map[string][2]clustertest.Script{
		"replicas are rebuilt":        {creating, refuses},
		"replicas run on, in a pause": {follows(1), follows(1)},
		"nobody else answers":         {hangs, refuses},
	} {
		inBubble(t, "pg_upgrade: "+name, func(t *testing.T) {
			w := three(t, scoped)
			upgraded(w, others[0], others[1])
			if got, want := ofKind(w.drain(), KindIdentityChanged), []string{": 7001 -> 8888"}; !slices.Equal(got, want) {
				t.Errorf("history %q, want %q", got, want)
			}
			if got := w.primaries(time.Minute); !slices.Equal(got, []string{"pg1"}) {
				t.Errorf("primaries %q", got)
			}
			const text = "the system identifier changed from 7001 to 8888: pg1 leads with it, since 2000-01-01 00:00:"
			h := w.view().Health(time.Now())
			if i := slices.IndexFunc(h.Reasons, func(r Reason) bool { return r.Code == CodeIdentityChanged }); i < 0 || h.Level != Warning ||
				!strings.HasPrefix(h.Reasons[i].Text, text) || !strings.HasSuffix(h.Reasons[i].Text, "; not followed by pg2, pg3 yet: reload the configuration to acknowledge it") {
				t.Errorf("%+v", h)
			}
			w.fakes["pg2"].Set(with("8888", follows(1)))
			time.Sleep(15 * time.Second)
			if h := w.view().Health(time.Now()); !slices.Contains(codes(h), CodeIdentityChanged) {
				t.Errorf("one has followed: %+v", h)
			}
			w.fakes["pg3"].Set(with("8888", follows(1)))
			time.Sleep(15 * time.Second)
			if h := w.view().Health(time.Now()); h.Level != OK || !slices.Equal(w.passing("replica"), []string{"pg2", "pg3"}) {
				t.Errorf("all have followed: %+v", h)
			}
		})
	}
	inBubble(t, "a reload acknowledges", func(t *testing.T) {
		w := three(t, scoped)
		upgraded(w, follows(1), refuses)
		w.sup.Acknowledge()
		if h := w.view().Health(time.Now()); slices.Contains(codes(h), CodeIdentityChanged) || w.primary() != "pg1" {
			t.Errorf("%+v", h)
		}
	})
	inBubble(t, "an upgrade that is taken back", func(t *testing.T) {
		w := three(t, scoped)
		upgraded(w, follows(1), follows(1))
		time.Sleep(time.Minute)
		w.fakes["pg1"].Set(refuses)
		w.until(time.Second, "pg1 is out", func() bool { return w.primary() == "" })
		w.fakes["pg2"].Set(leads(2))
		w.until(time.Second, "pg2 leads, as before the upgrade", func() bool { return w.primary() == "pg2" })
	})
	inBubble(t, "one node alone", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", leads(3))))
		w.settle()
		w.fakes["pg1"].Set(with("8888", leads(1)))
		if got := w.primaries(10 * time.Second); !slices.Equal(got, []string{"pg1"}) {
			t.Errorf("primaries %q", got)
		}
		if got := ofKind(w.drain(), KindIdentityChanged); len(got) != 1 {
			t.Errorf("history %q", got)
		}
		if h := w.view().Health(time.Now()); h.Level != OK {
			t.Errorf("%+v", h)
		}
	})
	inBubble(t, "two nodes, of which the clone answers first", func(t *testing.T) {
		w := begin(t, config(clustertest.New(t, "pg1", with("8888", leads(1)).WithDelay(time.Second)), clustertest.New(t, "pg2", follows(1))))
		w.until(1100*time.Millisecond, "pg1 leads", func() bool { return w.primary() == "pg1" })
		if got := ofKind(w.drain(), KindIdentityChanged); len(got) != 0 {
			t.Errorf("history %q: nothing led before", got)
		}
	})
	inBubble(t, "rebuilt under other names, while the old ones are still unlisted", func(t *testing.T) {
		fakes := []*clustertest.Poller{clustertest.New(t, "old1", leads(7)), clustertest.New(t, "old2", follows(7)), clustertest.New(t, "old3", follows(7))}
		cfg := config(fakes...)
		scoped(&cfg)
		w := begin(t, cfg)
		w.settle()
		next := config(append(fakes, clustertest.New(t, "new1", with("8888", leads(1))), clustertest.New(t, "new2", creating))...)
		scoped(&next)
		for i := range fakes {
			next.Clusters[0].Nodes[i].Unlisted = time.Now()
		}
		w.apply(next)
		w.until(time.Second, "new1 leads", func() bool { return w.primary() == "new1" })
		if got := w.primaries(10 * time.Second); !slices.Equal(got, []string{"new1"}) {
			t.Errorf("primaries %q", got)
		}
	})
	inBubble(t, "bootstrapped again on another node", func(t *testing.T) {
		w := three(t)
		for _, f := range w.fakes {
			f.Set(refuses)
		}
		time.Sleep(10 * time.Second)
		w.fakes["pg3"].Set(with("8888", leads(1)))
		w.until(time.Second, "pg3 leads", func() bool { return w.primary() == "pg3" })
	})
}

// A stranger is another cluster's node that bears the configured scope and name.
func TestStranger(t *testing.T) {
	for name, stranger := range map[string]clustertest.Script{
		"a primary": with("6666", leads(9)),
		"a replica": with("6666", follows(9)),
	} {
		inBubble(t, name+" that was seen while the cluster's own primary led never passes", func(t *testing.T) {
			w := three(t)
			w.fakes["pg3"].Set(stranger)
			time.Sleep(10 * time.Second)
			w.fakes["pg1"].Set(refuses)
			w.fakes["pg3"].Set(with("6666", leads(9)))
			if got := w.primaries(time.Minute); !slices.Equal(got, []string{"pg1", ""}) {
				t.Errorf("primaries %q", got)
			}
			const why = "pg3 claims with system identifier 6666, which was seen while 7001 led: reload the configuration to accept it"
			if h := w.view().Health(time.Now()); h.Reasons[0].Code != CodeNoPrimary || h.Reasons[0].Text != why {
				t.Errorf("%+v, want %q", h, why)
			}
			w.fakes["pg2"].Set(leads(2))
			w.until(time.Second, "pg2 is promoted", func() bool { return w.primary() == "pg2" })
			w.sup.Acknowledge()
			if got := w.primaries(time.Second); !slices.Equal(got, []string{"pg2"}) {
				t.Errorf("after a reload: %q", got)
			}
			w.fakes["pg2"].Set(refuses)
			w.until(time.Second, "pg2 is out", func() bool { return w.primary() == "" })
			w.sup.Acknowledge()
			w.until(time.Second, "pg3 leads, as the operator wants", func() bool { return w.primary() == "pg3" })
		})
	}
	inBubble(t, "with another scope, where none is configured", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(refuses)
		w.until(time.Second, "pg1 is out", func() bool { return w.primary() == "" })
		w.fakes["pg3"].Set(with("6666", leads(9)).WithField("patroni", map[string]any{"version": "4.1.4", "scope": "other", "name": "pg3"}))
		if got := w.primaries(time.Minute); !slices.Equal(got, []string{""}) {
			t.Errorf("primaries %q", got)
		}
		const why = `pg3 claims with system identifier 6666, and scope "other", where "main" led: reload the configuration to accept it`
		if h := w.view().Health(time.Now()); h.Reasons[0].Text != why {
			t.Errorf("%+v, want %q", h, why)
		}
	})
	inBubble(t, "with another scope than configured does not even refuse the cluster's own nodes", func(t *testing.T) {
		w := three(t, func(c *Config) { c.Clusters[0].Scope = "main" })
		w.fakes["pg1"].Set(refuses)
		w.until(time.Second, "pg1 is out", func() bool { return w.primary() == "" })
		w.fakes["pg3"].Set(with("6666", leads(9)).WithField("patroni", map[string]any{"version": "4.1.4", "scope": "other", "name": "pg3"}))
		w.settle()
		if got := w.passing("replica"); !slices.Equal(got, []string{"pg2"}) || w.view().SystemID != "7001" {
			t.Errorf("replicas %q, identifier %s", got, w.view().SystemID)
		}
	})
	inBubble(t, "two of which claim at once", func(t *testing.T) {
		w := three(t)
		w.fakes["pg1"].Set(hangs)
		w.until(10*time.Second, "pg1 is out", func() bool { return w.primary() == "" })
		w.fakes["pg2"].Set(with("6666", leads(1)))
		w.fakes["pg3"].Set(with("8888", leads(1)))
		if got := w.primaries(time.Minute); len(got) > 2 {
			t.Errorf("primaries %q", got)
		}
	})
	inBubble(t, "that invents identifiers uses no memory", func(t *testing.T) {
		w := three(t)
		for i := range 100 {
			w.fakes["pg3"].Set(with(fmt.Sprint(i), follows(1)))
			time.Sleep(2 * time.Second)
		}
		g := w.sup.group()
		g.mu.Lock()
		defer g.mu.Unlock()
		if n := len(g.byName["pg3"].strange); n != maxIdentifiers {
			t.Errorf("%d identifiers are remembered", n)
		}
	})
}
