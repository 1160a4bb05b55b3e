package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	descs      []*prometheus.Desc
	nodeLabels = []string{"cluster", "node"}

	nodeUp        = desc("node_up", "Whether what the node said last is believed.", nodeLabels...)
	nodeAnswering = desc("node_answering", "Whether the last poll brought an answer.", nodeLabels...)
	nodeFailing   = desc("node_failing", "1 while polls bring no answer, by why the last one did not.", "cluster", "node", "kind")
	nodeElected   = desc("node_elected", "Whether the node is the elected leader of its cluster.", nodeLabels...)
	nodeRole      = desc("node_role", "1 for the node's role as it says itself; no sample of any other role.", "cluster", "node", "role")
	nodeState     = desc("node_state", "1 for the state of the node's PostgreSQL; no sample of any other state.", "cluster", "node", "state")
	nodeTimeline  = desc("node_timeline", "Timeline of the node's PostgreSQL.", nodeLabels...)
	nodeLag       = desc("node_lag_bytes", "How far a replica's replay is behind the newest known position of the primary.", nodeLabels...)
	nodeAge       = desc("node_knowledge_age_seconds", "Time since the last poll began that brought an answer.", nodeLabels...)
	nodeWrong     = desc("node_identity_wrong", "Whether the node belongs to another cluster, or is another member, than configured.", nodeLabels...)
	nodeLeaving   = desc("node_leaving", "Whether an announced stop of the node holds.", nodeLabels...)
	nodeCert      = desc("node_certificate_expiry_timestamp_seconds", "When the certificate that the REST API of the node showed last expires, in Unix time.", nodeLabels...)

	clusterHas     = desc("cluster_has_primary", "Whether a node passes the check of the leader: the primary, or in a standby cluster its leader.", "cluster")
	clusterChanges = desc("cluster_primary_changes_total", "How often another node than the one before passed the check of the leader.", "cluster")
	clusterWithout = desc("cluster_without_primary_seconds_total", "Time during which no node passed the check of the leader: the sum of the gaps in /history.", "cluster")
	clusterSplits  = desc("cluster_split_brains_total", "How often several nodes claimed to be primary, and answered.", "cluster")
	clusterTTL     = desc("cluster_ttl_seconds", "How long an answer of a node is believed.", "cluster")
	healthLevel    = desc("health_level", "Health of the cluster: 0 ok, 1 warning, 2 critical.", "cluster")
	healthReason   = desc("health_reason", "What is wrong at the moment: 1 warning, 2 critical; node is empty where it is about the whole cluster.", "cluster", "node", "code")

	httpChecks    = desc("http_checks_total", "Checks answered by HTTP.", "check", "result")
	httpSilent    = desc("http_unanswered_total", "HTTP connections that ended without a request: silent, malformed, too large, too slow or given up.")
	httpPutOff    = desc("http_put_off_total", "Requests for the page, the history or metrics that got a 503, because too many were asked for or not read.")
	httpRefused   = desc("http_connections_refused_total", "HTTP connections that the allow list closed.")
	httpOverflow  = desc("http_connections_overflowed_total", "HTTP connections that gave way to newer ones, because too many were open.")
	httpConns     = desc("http_connections", "Open HTTP connections.")
	loginsFailed  = desc("operator_logins_failed_total", "Requests to the operator's listener that were not let in: with a wrong name, password or token, or while too many passwords were to be verified.", "why")
	agentAnswers  = desc("agent_answers_total", "Answers to agent checks, by their words.", "answer")
	agentSilent   = desc("agent_unanswered_total", "Agent checks that ended without an answer.")
	agentRefused  = desc("agent_connections_refused_total", "Connections to agent ports that the allow list closed.")
	agentOverflow = desc("agent_connections_overflowed_total", "Connections to agent ports that gave way to newer ones, because too many were open.")
	agentConns    = desc("agent_connections", "Open connections to agent ports.")
	agentPorts    = desc("agent_listeners", "Agent ports that are open.")
	eventStreams  = desc("event_streams", "Open streams of events: /events and live pages.")
	eventsSent    = desc("events_sent_total", "Events sent to streams, also those that only keep them alive.")
	eventsDropped = desc("event_streams_dropped_total", "Streams of events that ended because their reader was too slow.")
	eventsRefused = desc("event_streams_refused_total", "Streams of events that were refused because too many were open.")
	nodeUnlisted  = desc("node_unlisted", "1 while the DCS does not list the node any more; no sample of others.", nodeLabels...)
	discUp        = desc("discovery_up", "Whether the watch of etcd works.")
	discHeard     = desc("discovery_last_heard_timestamp_seconds", "When etcd was heard last, in Unix time.")
	discMembers   = desc("discovery_members", "Members that are known by discovery: listed, or unlisted.", "state")
	discProblems  = desc("discovery_problems", "Things that etcd lists and that cannot be used, but those that are of one node.")
	discRestarts  = desc("discovery_restarts_total", "How often everything was read anew from etcd.")
	certExpires   = desc("certificate_expiry_timestamp_seconds", "When a certificate of the supervisor itself expires, in Unix time: of the frontend, of the operator's listener, or shown to nodes as a client.", "use", "file")
	reloadFine    = desc("config_last_reload_successful", "Whether the configuration, and the files that it names, could be loaded when that was tried last.")
	reloadedAt    = desc("config_last_reload_success_timestamp_seconds", "When the configuration was loaded last, in Unix time.")
	reloadsTotal  = desc("reloads_total", "How often the configuration was to be loaded anew, by SIGHUP or because files that it names had changed.", "result")
	buildInfo     = desc("build_info", "1, with the version of patroniglue and of the Go that built it.", "version", "goversion")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("patroniglue_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}
