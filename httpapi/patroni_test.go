package httpapi_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"patroniglue/node/nodetest"
)

type clusterAnswer struct {
	Members []map[string]any `json:"members"`
	Scope   string           `json:"scope"`
	Pause   any              `json:"pause"`
}

// Clients of Patroni's GET /cluster can read ours.
func TestClusterIsThatOfPatroni(t *testing.T) {
	stories := []struct {
		name string
		tell func(*nodetest.Cluster)
	}{
		{"all is well", func(*nodetest.Cluster) {}},
		{"tags and pause", func(c *nodetest.Cluster) {
			c.SetPause(true)
			c.Node("pg2").Set(func(s *nodetest.State) { s.Tags = map[string]any{"nofailover": true, "zone": "a"} })
		}},
		{"a synchronous standby", func(c *nodetest.Cluster) { c.Node("pg2").Set(func(s *nodetest.State) { s.SyncStandby = true }) }},
		{"a quorum standby", func(c *nodetest.Cluster) { c.Node("pg2").Set(func(s *nodetest.State) { s.QuorumStandby = true }) }},
		{"a standby cluster", func(c *nodetest.Cluster) { c.SetStandbyCluster(true) }},
		{"before a promotion ends", func(c *nodetest.Cluster) {
			c.Node("pg1").Set(func(s *nodetest.State) {
				s.Role, s.ReplicationState, s.Received, s.Replayed = "replica", "streaming", new(s.Location), new(s.Location)
			})
		}},
		{"lag", func(c *nodetest.Cluster) {
			c.Write(1 << 20)
			c.Node("pg2").Set(func(s *nodetest.State) { s.Received, s.Replayed = new(*s.Received-5000), new(*s.Replayed-7000) })
		}},
		{"a replica starts", func(c *nodetest.Cluster) {
			c.Node("pg3").Set(func(s *nodetest.State) { s.State, s.SQL = "starting", false })
		}},
		{"a replica reads the archive", func(c *nodetest.Cluster) {
			c.Write(1 << 20)
			c.Node("pg3").Set(func(s *nodetest.State) {
				s.ReplicationState, s.Received = "in archive recovery", new(*s.Replayed-9000)
			})
		}},
	}
	for _, version := range []string{"3.0.2", "4.0.6", "4.1.4"} {
		for _, story := range stories {
			t.Run(version+"/"+story.name, func(t *testing.T) {
				if version == "3.0.2" && story.name == "a quorum standby" {
					t.Skip("not in this release")
				}
				bubble(t, func(t *testing.T, nw *nodetest.Net) {
					c := members(t, nw, version, "main", "pg1", "pg2", "pg3")
					story.tell(c)
					s := start(t, nw, nil, partOf(c, "prod"))
					settle()
					var theirs, ours, below clusterAnswer
					var states []nodetest.State
					for _, n := range c.Nodes() {
						states = append(states, n.State())
					}
					a := nodetest.Decide(states[0], nodetest.DCS{Leader: "pg1", Members: states}, nodetest.Request{Method: "GET", Target: "/cluster"}, time.Now())
					if err := json.Unmarshal(a.Body, &theirs); err != nil {
						t.Fatalf("%v in %s", err, a.Body)
					}
					s.decode("/cluster", &ours)
					s.decode("/node/pg3/cluster", &below)
					if !reflect.DeepEqual(ours, below) {
						t.Errorf("/cluster %v\n/node/pg3/cluster %v", ours, below)
					}
					if ours.Scope != "main" || !reflect.DeepEqual(ours.Pause, theirs.Pause) || len(ours.Members) != len(theirs.Members) {
						t.Errorf("got %v\nwant %v", ours, theirs)
					}
					for i, m := range theirs.Members {
						if states[0].Role == "replica" && i > 0 { // there is no primary yet to compare with
							for _, key := range []string{"lag", "receive_lag", "replay_lag"} {
								if ours.Members[i][key] != "unknown" {
									t.Errorf("%s is %v", key, ours.Members[i][key])
								}
								ours.Members[i][key] = m[key]
							}
						}
						compareMember(t, version, ours.Members[i], m)
					}
				})
			})
		}
	}
}

// newKeys are the keys that are new in Patroni 4.1. Clients of older versions ignore them.
var newKeys = []string{"lsn", "receive_lag", "receive_lsn", "replay_lag", "replay_lsn", "tags"}

func compareMember(t *testing.T, version string, ours, theirs map[string]any) {
	t.Helper()
	for key, want := range theirs {
		switch {
		case key == "host" || key == "port": // of the configuration
			if reflect.TypeOf(ours[key]) != reflect.TypeOf(want) {
				t.Errorf("%s: %s is %#v, Patroni's %#v", theirs["name"], key, ours[key], want)
			}
		case !reflect.DeepEqual(ours[key], want):
			t.Errorf("%s: %s is %#v, Patroni %s says %#v", theirs["name"], key, ours[key], version, want)
		}
	}
	for key, value := range ours {
		if _, ok := theirs[key]; !ok && key == "tags" && reflect.DeepEqual(value, map[string]any{}) {
			continue // ours are always there, those of Patroni up to 4.1 only when it has some
		}
		if _, ok := theirs[key]; !ok && (version == "4.1.4" || !slices.Contains(newKeys, key)) {
			t.Errorf("%s: %s is no key of Patroni's", theirs["name"], key)
		}
	}
}

func TestClusterLeavesOutTheStale(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1", "pg2", "pg3")
		c.Node("pg3").Set(func(s *nodetest.State) {
			s.Extra = map[string]any{
				"pending_restart": true, "pending_restart_reason": map[string]any{"max_connections": map[string]any{"old_value": "100", "new_value": "200"}},
				"scheduled_restart": map[string]any{"schedule": "2026-12-01T03:00:00+00:00", "role": "replica"},
			}
		})
		const restart = `"pending_restart":true,"pending_restart_reason":{"max_connections":{"new_value":"200","old_value":"100"}},` +
			`"scheduled_restart":{"role":"replica","schedule":"2026-12-01T03:00:00+00:00"}`
		s := start(t, nw, nil, partOf(c, "prod"))
		settle()
		c.Node("pg2").Freeze()
		c.Kill("pg1")
		settle()
		s.want("/cluster/prod", 200, `{"members":[{"name":"pg3","role":"replica","state":"running","api_url":"http://main-pg3:8008/patroni",`+
			`"host":"10.0.0.1","port":5432,"timeline":1,`+restart+`,"tags":{},`+
			`"receive_lag":0,"receive_lsn":"0/3000060","replay_lag":0,"replay_lsn":"0/3000060","lag":0,"lsn":"0/3000060"}],"scope":"main"}`)
		c.Node("pg3").Set(func(s *nodetest.State) { s.State, s.SQL = "starting", false })
		settle()
		s.want("/cluster/prod", 200, `{"members":[{"name":"pg3","role":"replica","state":"starting","api_url":"http://main-pg3:8008/patroni",`+
			`"host":"10.0.0.1","port":5432,`+restart+`,"tags":{},`+
			`"receive_lag":"unknown","receive_lsn":"unknown","replay_lag":"unknown","replay_lsn":"unknown","lag":"unknown","lsn":"unknown"}],"scope":"main"}`)
		c.Node("pg3").Freeze()
		settle()
		s.want("/cluster/prod", 200, `{"members":[],"scope":"main"}`)
	})
}

// A client with one base address for a cluster finds below it what it finds in Patroni:
// check_patroni -e http://host:8009 or http://host:8009/cluster/main.
func TestBasesOfPatroniClients(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg3", "pg2", "pg1")
		s := start(t, nw, nil, partOf(c, "prod"))
		if a := s.get("/patroni"); a.status != 503 || a.body != `{"error":"no node of cluster \"prod\" is believed"}`+"\n" {
			t.Errorf("before the first poll: /patroni = %d %s", a.status, a.body)
		}
		settle()
		for _, base := range []string{"", "/cluster/prod", "/node/pg3", "/cluster/prod/node/pg3"} { // pg3 leads
			var document struct {
				Patroni struct{ Name, Version string }
			}
			if status := s.decode(base+"/patroni", &document); status != 200 || document.Patroni.Name != "pg3" || document.Patroni.Version != "4.1.4" {
				t.Errorf("%s/patroni = %d %+v", base, status, document)
			}
			var list clusterAnswer
			if status := s.decode(base+"/cluster", &list); status != 200 || len(list.Members) != 3 || list.Members[0]["name"] != "pg1" {
				t.Errorf("%s/cluster = %d %v, want three members, by name", base, status, list)
			}
			if a := s.get(base + "/leader"); a.status != 200 {
				t.Errorf("%s/leader = %d %s", base, a.status, a.body)
			}
		}
		s.want("/node/pg3/patroni", 200, s.get("/patroni").body)

		// A node that does not answer takes nothing else with it.
		c.Kill("pg3")
		settle()
		if a := s.get("/node/pg3/patroni"); a.status != 503 {
			t.Errorf("/node/pg3/patroni of a dead node = %d", a.status)
		}
		s.want("/cluster/prod/patroni", 200, s.get("/node/pg1/patroni").body)
	})
}

// A route that only Patroni has is no health check: the answer says where it is.
func TestOnlyPatroni(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		c := members(t, nw, "", "main", "pg1")
		s := start(t, nw, nil, partOf(c, "prod"))
		settle()
		for _, what := range []string{"config", "failsafe", "history", "metrics"} {
			want := `{"error":"only Patroni itself has its ` + what + `: http://main-pg1:8008/` + what + `"}`
			s.want("/node/pg1/"+what, 404, want)
			s.want("/cluster/prod/node/pg1/"+what, 404, want)
		}
		s.want("/node/pgX/config", 404, `{"error":"unknown node \"pgX\", want one of pg1"}`)
	})
}
