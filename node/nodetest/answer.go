package nodetest

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Request is a method and a request target: a path with, perhaps, a query.
type Request struct{ Method, Target string }

func (r Request) String() string { return r.Method + " " + r.Target }

// Answer is a member's answer to one request.
type Answer struct {
	// Status 0 means that Patroni fails with an exception and closes the connection without an answer: /cluster, /config and
	// /history without a DCS, and every health check while a replica's replayed position is null and the leader's is known.
	Status int
	Reason string   // the text after the status; "" = the usual one
	Header []string // full lines, without Server and Date; nil = no header at all, not even these
	Body   []byte

	// oneLine ends the answer after its status line, as releases before 2.0.0 did (Consul complained).
	oneLine bool
}

// serverHeader is the Server header of Python's http.server.
const serverHeader = "BaseHTTP/0.6 Python/3.11.2"

// Bytes is the answer as it is sent: in HTTP/1.0, where the end of the connection is the end of the body.
func (a Answer) Bytes(now time.Time) []byte {
	if a.Status == 0 {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.0 %d %s\r\n", a.Status, cmp.Or(a.Reason, http.StatusText(a.Status)))
	if a.Header != nil {
		fmt.Fprintf(&b, "Server: %s\r\nDate: %s\r\n", serverHeader, now.UTC().Format(http.TimeFormat))
		for _, line := range a.Header {
			b.WriteString(line + "\r\n")
		}
	}
	if !a.oneLine {
		b.WriteString("\r\n")
	}
	b.Write(a.Body)
	return b.Bytes()
}

// Decide returns the answer to r of a member in state s, in a cluster whose DCS has the contents dcs. It implements
// Patroni's whole truth table; the rest of the package only serves its answers on a socket.
func Decide(s State, dcs DCS, r Request, now time.Time) Answer {
	v := parseRelease(s.Version)
	path, query := splitTarget(r.Target)

	switch r.Method {
	case "GET":
		if a, ok := s.resource(dcs, path, query, now); ok {
			return a
		}
	case "HEAD": // since 2.1.5 (#2360)
		if !v.since(2, 1, 5) {
			return errorPage(http.StatusNotImplemented, "Unsupported method ('HEAD')", false)
		}
	case "OPTIONS":
	default:
		return errorPage(http.StatusNotImplemented, fmt.Sprintf("Unsupported method ('%s')", r.Method), true)
	}

	status := s.health(path, query)
	switch {
	case status == 0:
		return Answer{}
	case r.Method == "GET":
		return jsonAnswer(status, s.document(now))
	}
	return Answer{Status: status, oneLine: !v.since(2, 0, 0)}
}

// resource answers GETs whose first path segment names something other than a health check; whatever follows the segment
// does not matter (parse_request, api.py:1313). The other verbs have no such routes: HEAD /liveness is a health check
// that no rule knows, hence 503 (#2035).
func (s State) resource(dcs DCS, path string, query params, now time.Time) (Answer, bool) {
	v := parseRelease(s.Version)
	segment, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	switch {
	case segment == "patroni":
		return jsonAnswer(http.StatusOK, s.document(now)), true
	case segment == "cluster" && v.since(1, 6, 1):
		return s.ifSeen(func() Answer { return jsonAnswer(http.StatusOK, dcs.cluster(s)) }), true
	case segment == "history" && v.since(1, 6, 1):
		return s.ifSeen(func() Answer { return jsonAnswer(http.StatusOK, dcs.history()) }), true
	case segment == "config":
		return s.ifSeen(func() Answer {
			if dcs.Config == nil && v.since(4, 0, 7) {
				return errorPage(http.StatusBadGateway, "", true)
			}
			return jsonAnswer(http.StatusOK, orEmpty(dcs.Config))
		}), true
	case segment == "failsafe" && v.since(3, 0, 0):
		if !dcs.Failsafe && !dcs.failsafeMode() {
			return errorPage(http.StatusBadGateway, "", true), true
		}
		return jsonAnswer(http.StatusOK, dcs.failsafe()), true
	case segment == "liveness" && v.since(2, 0, 0):
		return bare(s.live(dcs)), true
	case segment == "readiness" && v.since(2, 0, 0):
		ready, ok := s.ready(dcs, query)
		if !ok {
			return Answer{}, true
		}
		return bare(ready), true
	}
	return Answer{}, false
}

// ifSeen makes the answer if the member sees the DCS. Else Patroni fails: the three resources that use this ask the DCS
// when nothing is cached and do not catch its failure (api.py:546-586).
func (s State) ifSeen(answer func() Answer) Answer {
	if !s.DCS {
		return Answer{}
	}
	return answer()
}

// codes are the verdicts that do_GET computes before it looks at the path (api.py:341-361).
type codes struct{ leader, primary, standbyLeader, replica bool }

func (s State) codes(query params, replayed int64) codes {
	v := parseRelease(s.Version)
	c := codes{replica: s.Role == "replica" && s.shownState() == "running" && !truthy(s.Tags["noloadbalance"])}
	if v.since(2, 0, 0) {
		optime := s.leaderOptime()
		limit := lagLimit(query, math.MaxInt64)
		c.replica = c.replica && !(optime != 0 && optime-replayed > limit) // equal is still in time
	}
	if want := query["replication_state"]; want != "" && fullVersion(s.Version) == "master" {
		c.replica = c.replica && s.replicationState() == want
	}

	switch {
	case !s.DCS && s.Pause: // Patroni does not check the lock (#842)
		c.primary = s.Role == "primary"
		c.standbyLeader = s.Role == "standby_leader"
		c.leader = c.primary || c.standbyLeader
	case !s.Lock:
	case s.StandbyCluster && v.since(2, 0, 0):
		c.leader = true
		c.standbyLeader = s.Role == "replica" || s.Role == "standby_leader"
		c.replica = false
	default:
		// Neither the state nor the role matters: 200 while stopping, crashed and before the promotion has ended.
		c.leader, c.primary = true, true
	}
	switch {
	case !v.since(2, 0, 0): // 1.6 knows one lock, and /standby-leader only in a standby cluster
		c.leader = c.primary
		if c.standbyLeader = s.StandbyCluster && s.Lock; !s.StandbyCluster {
			c.standbyLeader = c.primary // the path contains "leader"
		}
	case !v.since(2, 1, 0):
		c.leader = c.primary // lock semantics came with #1917
	}
	return c
}

// health is do_GET's verdict for any path that is not a resource (api.py:322-418): 200 or 503, or 0 for no answer at all.
func (s State) health(path string, query params) int {
	v := parseRelease(s.Version)
	if path == "/" {
		path = "/primary"
	}
	var replayed int64
	if s.queried() && s.inRecovery() {
		if s.Replayed == nil && v.since(2, 0, 0) && s.leaderOptime() != 0 {
			return 0 // None + lag is a TypeError
		}
		replayed = orZero(s.Replayed)
	}
	c := s.codes(query, replayed)
	has := func(part string) bool { return strings.Contains(path, part) }
	is := func(paths ...string) bool { return slices.Contains(paths, path) }
	leads := c.primary || c.standbyLeader

	var pass, ignoreTags bool
	switch {
	case has("standby_leader") || has("standby-leader"):
		pass, ignoreTags = c.standbyLeader, true
	case has("leader"):
		pass, ignoreTags = c.leader, true
	case has("master") || has("primary") || has("read-write"):
		pass, ignoreTags = c.primary, true
	case has("replica"):
		pass = c.replica
	case has("read-only") && !(has("sync") && v.since(2, 1, 4)) && !(has("quorum") && v.since(4, 0, 0)):
		pass = leads || c.replica
	case has("health"):
		pass = s.shownState() == "running"
	case !s.DCS: // whether the member is synchronous is not known
	case is("/sync", "/synchronous"):
		pass = s.sync() && c.replica
	case is("/async", "/asynchronous"):
		pass = !s.sync() && !s.quorum() && c.replica
	case is("/read-only-sync", "/read-only-synchronous"):
		pass = leads || s.sync() && c.replica
	case is("/quorum"):
		pass = s.quorum() && c.replica
	case is("/read-only-quorum") && v.since(4, 0, 0):
		pass = leads || s.quorum() && c.replica
	}

	if pass && !ignoreTags && v.since(2, 1, 0) {
		pass = s.matches(query)
	}
	if pass {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable // also for unknown paths: Patroni never answers 404
}

// matches compares the query's tag_ parameters with the configured tags (api.py:402-418).
func (s State) matches(query params) bool {
	tags := s.tags()
	for key, want := range query {
		name, isTag := strings.CutPrefix(key, "tag_")
		if !isTag {
			continue
		}
		if value := tags[name]; value == nil || pythonStr(value) != want {
			return false
		}
	}
	return true
}

// live judges /liveness, which is about Patroni's HA loop, not about Postgres (api.py:441; 2.0 and early 2.1 always said 200).
func (s State) live(dcs DCS) bool {
	if !parseRelease(s.Version).since(2, 1, 5) || s.Pause {
		return true
	}
	threshold := dcs.seconds("ttl", 30)
	runs := slices.Contains([]string{"running", "starting", "restarting", "stopping"}, s.State)
	if s.Role != "primary" || !runs {
		threshold *= 2
	}
	return s.Overdue < threshold
}

// ready judges /readiness; ok is false when Patroni fails with an exception. Until 4.1.0 a running member that sees the DCS was
// ready (3.0.2 api.py:198); since then it has to stream and not to lag (api.py:468).
func (s State) ready(dcs DCS, query params) (ready, ok bool) {
	switch {
	case s.Lock:
		return true, true
	case s.State != "running":
		return false, true
	case !parseRelease(s.Version).since(4, 1, 0):
		return s.DCS, true
	case s.replicationState() != "streaming":
		return false, true
	case !s.DCS && s.LatestEnd == 0:
		return s.Failsafe, true
	}
	location := s.Replayed
	if query["mode"] == "write" {
		location = s.Received
	}
	if location == nil {
		return false, false
	}
	limit := lagLimit(query, dcs.integer("maximum_lag_on_failover", 1<<20))
	return s.leaderOptime()-*location <= limit, true
}

// leaderOptime is the position from which lag is measured: the one in the cached DCS view or, since 4.1.0, the one that the
// WAL receiver reports, if that is larger (api.py:330). 0 is "unknown", and then no replica lags.
func (s State) leaderOptime() int64 {
	var n int64
	if s.DCS {
		n = s.Optime
	}
	if s.queried() && s.inRecovery() && parseRelease(s.Version).since(4, 1, 0) {
		n = max(n, s.LatestEnd)
	}
	return n
}

func jsonAnswer(status int, body any) Answer {
	return Answer{Status: status, Header: []string{"Content-Type: application/json"}, Body: pythonJSON(body)}
}

// bare is the answer of GET /liveness and /readiness: a status line and nothing else (api.py:132).
func bare(pass bool) Answer {
	if pass {
		return Answer{Status: http.StatusOK}
	}
	return Answer{Status: http.StatusServiceUnavailable}
}

// errorPage is http.server's send_error: the one kind of answer that has a Content-Length.
func errorPage(status int, reason string, withBody bool) Answer {
	reason = cmp.Or(reason, http.StatusText(status))
	body := fmt.Appendf(nil, "<!DOCTYPE HTML>\n<html><head><title>Error response</title></head><body><p>%d: %s.</p></body></html>\n", status, reason)
	a := Answer{Status: status, Reason: reason, Header: []string{
		"Connection: close", "Content-Type: text/html;charset=utf-8", fmt.Sprintf("Content-Length: %d", len(body)),
	}}
	if withBody {
		a.Body = body
	}
	return a
}
