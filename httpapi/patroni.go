package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// Below /node/{node}, below /cluster/{cluster} and, where one cluster is
// watched, at the top, a client of Patroni's API finds /patroni and /cluster as
// at a Patroni.

// nodeDocument gives the last document as Patroni gave it.
func (s *Server) nodeDocument(w http.ResponseWriter, r *http.Request) {
	_, m, err := s.sup.Find(r.Context(), r.PathValue("cluster"), r.PathValue("node"))
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	writeDocument(w, r, m, time.Now())
}

// clusterDocument gives that of the leader or, without one, of the first node
// that is believed: check_patroni asks any member for Patroni's version before
// it reads /cluster (2.0.0, types.py has_detailed_states).
func (s *Server) clusterDocument(w http.ResponseWriter, r *http.Request) {
	v, ok := s.viewOf(w, r)
	if !ok {
		return
	}
	now := time.Now()
	members := believed(v, now)
	if len(members) == 0 {
		writeError(w, r, http.StatusServiceUnavailable, "no node of cluster "+quote(v.Cluster)+" is believed")
		return
	}
	m := members[0]
	if i := slices.IndexFunc(members, func(m *cluster.Member) bool { return m.Name == v.Leader }); i >= 0 {
		m = members[i]
	}
	writeDocument(w, r, m, now)
}

func writeDocument(w http.ResponseWriter, r *http.Request, m *cluster.Member, now time.Time) {
	status := http.StatusOK
	if !m.Entry.Fresh(now) {
		status = http.StatusServiceUnavailable
	}
	if !m.Entry.Known {
		liveness := node.PlainCheck(node.AskLiveness)
		writeError(w, r, status, m.Verdict(&liveness, now).Reason)
		return
	}
	write(w, r, status, m.Entry.Value.Raw)
}

// onlyPatroni refuses what no poll brings, and says where it is.
func (s *Server) onlyPatroni(w http.ResponseWriter, r *http.Request) {
	_, m, err := s.sup.Find(r.Context(), r.PathValue("cluster"), r.PathValue("node"))
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	what := path.Base(r.URL.Path)
	writeError(w, r, http.StatusNotFound, "only Patroni itself has its "+what+": "+strings.TrimSuffix(m.URL, "/")+"/"+what)
}

// memberList is Patroni's GET /cluster.
type memberList struct {
	Members []patroniMember `json:"members"`
	Scope   string          `json:"scope"`
	Pause   bool            `json:"pause,omitzero"`
}

// patroniMember is a row of Patroni's GET /cluster, in its newest form (4.1.4,
// utils.py:913 cluster_as_json): what clients of older ones read is in it, of the
// same type.
type patroniMember struct {
	Name      string         `json:"name"`
	Role      string         `json:"role"`
	State     string         `json:"state"`
	APIURL    string         `json:"api_url"`
	Host      string         `json:"host,omitzero"`
	Port      int            `json:"port,omitzero"`
	Timeline  int64          `json:"timeline,omitzero"`
	Pending   bool           `json:"pending_restart,omitzero"`
	Reason    map[string]any `json:"pending_restart_reason,omitzero"` // since 3.3.0
	Scheduled map[string]any `json:"scheduled_restart,omitzero"`
	Tags      map[string]any `json:"tags"` // {} when there are none, as since 4.0
	*patroniLag
}

// patroniLag is in the rows of those who do not lead: bytes, positions such as
// "0/3000060", or "unknown". Only Lag is older than 4.1.0.
type patroniLag struct {
	ReceiveLag any    `json:"receive_lag"`
	ReceiveLSN string `json:"receive_lsn"`
	ReplayLag  any    `json:"replay_lag"`
	ReplayLSN  string `json:"replay_lsn"`
	Lag        any    `json:"lag"` // of the position that is further, received or replayed
	LSN        string `json:"lsn"`
}

// members answers in the format of Patroni's GET /cluster. A node that is not
// believed is missing, as a member whose key expired is missing there. So is
// "scheduled_switchover": only the DCS has it.
func (s *Server) members(w http.ResponseWriter, r *http.Request) {
	v, ok := s.viewOf(w, r)
	if !ok {
		return
	}
	out := memberList{Members: []patroniMember{}, Scope: cmp.Or(v.Scope, v.Cluster)}
	for _, m := range believed(v, time.Now()) {
		out.Members = append(out.Members, memberOf(v, m))
		out.Pause = out.Pause || m.Entry.Value.Document.Pause
	}
	writeJSON(w, r, http.StatusOK, out)
}

// viewOf finds the cluster that the path names, itself or by one of its nodes, or
// the only one.
func (s *Server) viewOf(w http.ResponseWriter, r *http.Request) (*cluster.View, bool) {
	var v *cluster.View
	var err error
	if name := r.PathValue("node"); name != "" {
		v, _, err = s.sup.Find(r.Context(), r.PathValue("cluster"), name)
	} else {
		name, ok := s.clusterName(w, r)
		if !ok {
			return nil, false
		}
		v, err = s.sup.View(name)
	}
	if err != nil {
		s.writeQuestionError(w, r, err)
		return nil, false
	}
	return v, true
}

// believed are the members that are believed, by name as Patroni sorts them.
func believed(v *cluster.View, now time.Time) []*cluster.Member {
	members := slices.DeleteFunc(slices.Clone(v.Members), func(m *cluster.Member) bool { return !m.Entry.Fresh(now) || m.Refused != "" })
	slices.SortFunc(members, func(a, b *cluster.Member) int { return strings.Compare(a.Name, b.Name) })
	return members
}

func memberOf(v *cluster.View, m *cluster.Member) patroniMember {
	d := &m.Entry.Value.Document
	p := patroniMember{
		Name: m.Name, Role: "replica", State: string(d.State), APIURL: strings.TrimSuffix(m.URL, "/") + "/patroni",
		Timeline: d.Timeline, Pending: d.PendingRestart, Tags: d.Tags,
	}
	if p.Tags == nil {
		p.Tags = map[string]any{}
	}
	if host, port, err := net.SplitHostPort(m.Postgres); err == nil {
		p.Host = host
		p.Port, _ = strconv.Atoi(port) // checked with the configuration
	}
	var rare struct {
		Reason    map[string]any `json:"pending_restart_reason"`
		Scheduled map[string]any `json:"scheduled_restart"`
	}
	_ = json.Unmarshal(m.Entry.Value.Raw, &rare) // it was read once already; of another type they are left out
	p.Reason, p.Scheduled = rare.Reason, rare.Scheduled
	leads := m.Name == v.Leader
	switch {
	case leads && d.Role == node.RoleStandbyLeader:
		p.Role = "standby_leader"
	case leads:
		p.Role = "leader"
	case d.SyncStandby:
		p.Role = "sync_standby"
	case d.QuorumStandby:
		p.Role = "quorum_standby"
	}
	if p.Role != "leader" && d.Running() && d.ReplicationState != "" {
		p.State = d.ReplicationState
	}
	if !leads {
		p.patroniLag = lagOf(m)
	}
	return p
}

func lagOf(m *cluster.Member) *patroniLag {
	d, s := &m.Entry.Value.Document, &m.Standing
	l := patroniLag{
		ReceiveLag: lagValue(s.ReceiveLag), ReceiveLSN: lsn(d.Received),
		ReplayLag: lagValue(s.Lag), ReplayLSN: lsn(d.Replayed),
	}
	l.Lag, l.LSN = l.ReceiveLag, l.ReceiveLSN
	if d.Received == nil || d.Replayed != nil && *d.Replayed > *d.Received { // from the archive
		l.Lag, l.LSN = l.ReplayLag, l.ReplayLSN
	}
	return &l
}

func lagValue(bytes int64) any {
	if bytes < 0 {
		return "unknown"
	}
	return bytes
}

// lsn writes a position as PostgreSQL does.
func lsn(position *int64) string {
	if position == nil || *position == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%X/%X", *position>>32, *position&0xFFFFFFFF)
}
