package nodetest

// Requests lists requests with which a test compares a real member with a simulated one in the same State: status code, names of
// headers, keys and types of the JSON must be the same. None of them changes anything. GET /metrics is not simulated, so it is
// not in the list.
//
// A replica's lag= verdicts and GET /readiness depend on Optime, which no document shows: set it, or compare on an idle cluster,
// where it is the position that all have replayed. And no document of a release before 3.0.2 shows the verdict on /sync.
func Requests() []Request {
	checks := []string{
		"/", "/primary", "/master", "/read-write", "/leader", "/standby-leader", "/standby_leader",
		"/replica", "/read-only", "/sync", "/synchronous", "/async", "/asynchronous", "/quorum",
		"/read-only-sync", "/read-only-synchronous", "/read-only-quorum", "/health",

		// Routing: parts of names, suffixes, upper case, escapes, unknown paths.
		"/healthz", "/xreplicax", "/replica/", "/replica/x", "/Replica", "/%72eplica", "/sync/", "/async/", "/primary/replica",
		"/no-leader", "/replica-primary", "/read-only-x", "/nonexistent", "/favicon.ico", "//replica", "/x/liveness",

		// Parameters.
		"/replica?lag=0", "/replica?lag=1", "/replica?lag=-1", "/replica?lag=16kB", "/replica?lag=16KB", "/replica?lag=10MB",
		"/replica?lag=1.5MB", "/replica?lag=5%20MB", "/replica?lag=0x10", "/replica?lag=junk", "/replica?lag=", "/replica?lag",
		"/replica?lag=-1&lag=1GB", "/async?lag=-1", "/read-only?lag=-1", "/primary?lag=-1", "/health?lag=-1",
		"/replica?replication_state=streaming", "/replica?replication_state=x", "/replica?tag_clonefrom=true", "/replica?tag_clonefrom=True",
		"/replica?tag_nofailover=false", "/replica?tag_none=x", "/read-only?tag_none=x", "/health?tag_none=x", "/primary?tag_none=x",
		"/leader?tag_none=x", "/standby-leader?tag_none=x", "/async?tag_none=x", "/replica?unheard=of",
	}
	resources := []string{
		"/patroni", "/patroni/x", "/cluster", "/history", "/config", "/failsafe", "/liveness", "/liveness/x",
		"/readiness", "/readiness?lag=10MB", "/readiness?lag=10MB&mode=write", "/readiness?lag=junk",
	}

	var list []Request
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		for _, target := range checks {
			list = append(list, Request{method, target})
		}
		for _, target := range resources {
			list = append(list, Request{method, target})
		}
	}
	for _, method := range []string{"HEAD", "OPTIONS"} {
		list = append(list, Request{method, "/metrics"})
	}
	return append(list, Request{"TRACE", "/primary"}, Request{"POST", "/primary"}, Request{"PUT", "/"}, Request{"DELETE", "/primary"})
}
