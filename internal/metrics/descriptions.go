package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	descs      []*prometheus.Desc // all that follow
	nodeLabels = []string{"cluster", "node"}

	nodeUp            = desc("node_up", "1 if the last answer of the node is believed, else 0.", nodeLabels...)
	nodeAnswering     = desc("node_answering", "1 if the last poll of the node brought an answer, else 0.", nodeLabels...)
	nodeFailing       = desc("node_failing", "1 while polls of the node bring no answer, by the reason of the last failure.", "cluster", "node", "kind")
	nodeElected       = desc("node_elected", "1 if the node is the elected leader of its cluster, else 0.", nodeLabels...)
	nodeRole          = desc("node_role", "1 for the role that the node reports; other roles have no sample.", "cluster", "node", "role")
	nodeState         = desc("node_state", "1 for the state of PostgreSQL that the node reports; other states have no sample.", "cluster", "node", "state")
	nodeTimeline      = desc("node_timeline", "Timeline of the node's PostgreSQL.", nodeLabels...)
	nodeLag           = desc("node_lag_bytes", "How far a replica's replay is behind the newest known position of the primary.", nodeLabels...)
	nodeAge           = desc("node_knowledge_age_seconds", "Time since the last poll began that brought an answer.", nodeLabels...)
	nodeIdentityWrong = desc("node_identity_wrong", "1 if the node is another member than configured, or belongs to another cluster, else 0.", nodeLabels...)
	nodeLeaving       = desc("node_leaving", "1 while an announced stop of the node holds, else 0.", nodeLabels...)
	nodeCertificate   = desc("node_certificate_expiry_timestamp_seconds", "When the certificate expires that the node's REST API showed last, in Unix time.", nodeLabels...)
	nodeUnlisted      = desc("node_unlisted", "1 while the DCS no longer lists the node; other nodes have no sample.", nodeLabels...)

	clusterHasPrimary     = desc("cluster_has_primary", "1 if a node passes the check of the leader (the primary, or in a standby cluster its leader), else 0.", "cluster")
	clusterChanges        = desc("cluster_primary_changes_total", "How often another node than before passed the check of the leader.", "cluster")
	clusterWithoutPrimary = desc("cluster_without_primary_seconds_total", "Time during which no node passed the check of the leader: the sum of the gaps in /history.", "cluster")
	clusterSplitBrains    = desc("cluster_split_brains_total", "How often several nodes that answered claimed to be primary.", "cluster")
	clusterTTL            = desc("cluster_ttl_seconds", "How long an answer of a node is believed.", "cluster")
	healthLevel           = desc("health_level", "Health of the cluster: 0 ok, 1 warning, 2 critical.", "cluster")
	healthReason          = desc("health_reason", "Present problems of the cluster: 1 warning, 2 critical; node is empty for a problem of the whole cluster.", "cluster", "node", "code")

	httpChecks      = desc("http_checks_total", "Checks answered over HTTP.", "check", "result")
	httpUnanswered  = desc("http_unanswered_total", "HTTP connections that ended without an answered request: silent, malformed, too large, too slow or given up.")
	httpPutOff      = desc("http_put_off_total", "Requests for the page, the history or metrics that got a 503 because too many came at once, or were not read.")
	httpRefused     = desc("http_connections_refused_total", "HTTP connections that were closed because of the allow list.")
	httpOverflowed  = desc("http_connections_overflowed_total", "HTTP connections that were closed in favour of newer ones, because too many were open.")
	httpConnections = desc("http_connections", "Open HTTP connections.")
	loginsFailed    = desc("operator_logins_failed_total", "Requests to the operator's listener that were refused: for a wrong name, password or token, or because too many passwords were being verified.", "why")

	agentAnswers     = desc("agent_answers_total", "Answers to agent checks, by their words.", "answer")
	agentUnanswered  = desc("agent_unanswered_total", "Agent checks that ended without an answer.")
	agentRefused     = desc("agent_connections_refused_total", "Connections to agent ports that were closed because of the allow list.")
	agentOverflowed  = desc("agent_connections_overflowed_total", "Connections to agent ports that were closed in favour of newer ones, because too many were open.")
	agentConnections = desc("agent_connections", "Open connections to agent ports.")
	agentPorts       = desc("agent_listeners", "Open agent ports.")

	eventStreams  = desc("event_streams", "Open streams of events: /events and live pages.")
	eventsSent    = desc("events_sent_total", "Events sent to streams, including those that only keep them alive.")
	eventsDropped = desc("event_streams_dropped_total", "Streams of events that were ended because their reader was too slow.")
	eventsRefused = desc("event_streams_refused_total", "Streams of events that were refused because too many were open.")

	discoveryUp       = desc("discovery_up", "1 if the watch of etcd works, else 0.")
	discoveryHeard    = desc("discovery_last_heard_timestamp_seconds", "When etcd last answered, in Unix time.")
	discoveryMembers  = desc("discovery_members", "Members known by discovery: listed by etcd, or unlisted.", "state")
	discoveryProblems = desc("discovery_problems", "Problems with what etcd lists, without those of nodes that are not polled.")
	discoveryRestarts = desc("discovery_restarts_total", "How often everything was read again from etcd.")

	certificateExpiry = desc("certificate_expiry_timestamp_seconds", "When a certificate of the supervisor expires, in Unix time: of the frontend, of the operator's listener, or shown as a client to nodes or to etcd.", "use", "file")
	reloadSuccessful  = desc("config_last_reload_successful", "1 if the last reload of the configuration and of the files that it names succeeded, else 0.")
	reloadedAt        = desc("config_last_reload_success_timestamp_seconds", "When the configuration was last loaded successfully, in Unix time.")
	reloadsTotal      = desc("reloads_total", "Reloads of the configuration, by SIGHUP or because files that it names changed.", "result")
	buildInfo         = desc("build_info", "1, with the version of patroniglue and of the Go that built it.", "version", "goversion")
)

// desc makes a description of one of our metrics, without its prefix.
func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("patroniglue_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}
