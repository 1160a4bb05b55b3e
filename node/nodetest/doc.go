// Package nodetest simulates Patroni's REST API: it is to a Patroni member what [net/http/httptest] is to a web server.
// Tests, benchmarks and the demo use it in place of real members.
//
//	c := nodetest.NewCluster("main", "pg1", "pg2", "pg3") // pg1 leads, the others stream
//	defer c.Close()
//	http.Get(c.Node("pg2").URL() + "/replica") // 200
//	c.Switchover("pg2")
//
// There are three layers, each usable without the next:
//
//   - [Decide] is a pure function: a member's [State] and a request give an [Answer], by the rules of the Patroni
//     release that the state names. The rules follow Patroni's api.py (do_GET, do_GET_readiness, get_postgresql_status)
//     and utils.py (parse_int, cluster_as_json); line numbers in comments are those of release 4.1.4.
//   - [Node] serves these answers with the HTTP/1.0 of Python's http.server, which net/http cannot produce: one request
//     per connection, no Content-Length, and for status-only answers not a single header. It can also misbehave: see [Fault].
//   - [Cluster] moves several nodes together: switchover, failover, a lost DCS, two leaders.
//
// For [testing/synctest] the whole can run over an in-memory [Net]; waiting is done with timers and channels only.
//
// Not simulated: /metrics (503, like any unknown path), every request that changes something (501), authentication, and the
// time that a real member takes (its SQL, its retries, its HA loop): [Node.SetDelay] sets a delay.
//
// As in httptest, errors that a correct test cannot have panic: an unknown member name, a port that cannot be opened.
package nodetest
