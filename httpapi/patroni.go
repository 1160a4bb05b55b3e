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

// A client of Patroni's API finds /patroni and /cluster, as in Patroni, below
// /node/{node}, below /cluster/{cluster} and, where only one cluster is watched, at the
// top.

// nodeDocument answers with the node's last document, unchanged.
func (s *Server) nodeDocument(w http.ResponseWriter, r *http.Request) {
	_, m, err := s.sup.Find(r.Context(), r.PathValue("cluster"), r.PathValue("node"))
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	writeDocument(w, r, m, time.Now())
}

// clusterDocument answers with the document of the leader or, without one, of the first
// node that is believed: check_patroni reads Patroni's version from any member before it
// reads /cluster (2.0.0, types.py has_detailed_states).
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

// onlyPatroni answers routes whose content polls do not bring, with their URL in Patroni.
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
// utils.py:913 cluster_as_json). It has all fields of older forms, with the same types.
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
	Tags      map[string]any `json:"tags"` // {} when there are none, where Patroni up to 4.1 leaves them out
	*patroniLag
}

// patroniLag is in the rows of members that do not lead: bytes, positions such as
// "0/3000060", or "unknown". All of it but Lag is new in 4.1.0.
type patroniLag struct {
	ReceiveLag any    `json:"receive_lag"`
	ReceiveLSN string `json:"receive_lsn"`
	ReplayLag  any    `json:"replay_lag"`
	ReplayLSN  string `json:"replay_lsn"`
	Lag        any    `json:"lag"` // of the later position, received or replayed
	LSN        string `json:"lsn"`
}

// members answers in the format of Patroni's GET /cluster. Nodes that are not believed
// are left out, as Patroni leaves out members whose key expired. "scheduled_switchover"
// is left out too: only the DCS has it.
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

// viewOf returns the view of the cluster that the path names, or to which the node in the
// path belongs, or of the only one. Where it returns false, it has answered the request.
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

// believed returns the members that are believed, by name as Patroni sorts them.
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
		p.Port, _ = strconv.Atoi(port) // a valid one: the configuration was checked
	}
	var rare struct {
		Reason    map[string]any `json:"pending_restart_reason"`
		Scheduled map[string]any `json:"scheduled_restart"`
	}
	_ = json.Unmarshal(m.Entry.Value.Raw, &rare) // it was parsed before; values of other types are left out
	p.Reason, p.Scheduled = rare.Reason, rare.Scheduled
	leads := m.Name == v.Leader
	switch {
	case leads && d.Role == node.RoleStandbyLeader, m.Standing.Beside != "":
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
	if d.Received == nil || d.Replayed != nil && *d.Replayed > *d.Received { // it replays from the archive
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
