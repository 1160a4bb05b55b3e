package cli

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/internal/client"
)

// Bounds of what status -nagios prints, in bytes. Nagios 4 reads 8 KiB of a
// plugin's answer (MAX_PLUGIN_OUTPUT_LENGTH).
const (
	nagiosReason = 200
	nagiosText   = 1000
	nagiosAll    = 8000
)

func isNagiosFlag(arg string) bool { return arg == "-nagios" || arg == "--nagios" }

// nagiosUnknown prints an error where Nagios looks for it: on stdout, in one line, with
// exit code 3.
func nagiosUnknown(stdout io.Writer, err error) error {
	fmt.Fprintln(stdout, "PATRONIGLUE UNKNOWN - "+cut(nagiosPlain(err.Error()), nagiosText))
	return statusUnknown
}

// nagiosLine is a plugin's answer as the Monitoring Plugins Development
// Guidelines want it: a line of text, "|" and performance data. The worst comes first.
// Unknown values are left out of the performance data: they are not 0.
func nagiosLine(s client.Status) string {
	var texts, ofClusters, ofNodes []string
	clusters := worstFirst(s.Health.Clusters)
	for _, c := range clusters {
		text, perf, more := nagiosCluster(c, s.Nodes)
		texts, ofClusters, ofNodes = append(texts, text), append(ofClusters, perf...), append(ofNodes, more...)
	}
	for _, reason := range s.Health.Supervisor.Reasons {
		worse := 0
		for worse < len(clusters) && clusters[worse].Level > reason.Level {
			worse++
		}
		texts = slices.Insert(texts, worse, nagiosWhy(reason))
	}
	line := "PATRONIGLUE " + strings.ToUpper(s.Health.Level.String()) + " - " + cut(nagiosPlain(strings.Join(texts, "; ")), nagiosText) + " |"
	for _, value := range slices.Concat(ofClusters, ofNodes) {
		if len(line)+1+len(value) > nagiosAll {
			break
		}
		line += " " + value
	}
	return line
}

// nagiosCluster returns a cluster's text, its performance data and that of its nodes.
func nagiosCluster(c httpapi.ClusterHealth, nodes []httpapi.NodeState) (text string, perf, ofNodes []string) {
	leads, primary, up, replicas, all := "no primary", 0, 0, 0, 0
	for _, n := range nodes {
		if n.Cluster != c.Cluster {
			continue
		}
		all++
		label := nagiosLabel(c.Cluster) + "_" + nagiosLabel(n.Node)
		switch {
		case n.Checks["primary"].Pass:
			leads, primary = "primary "+n.Node, primary+1
		case n.Checks["standby_leader"].Pass:
			leads = "standby leader " + n.Node
		case n.Checks["replica"].Pass:
			replicas++
		}
		if n.Fresh {
			up++
		}
		if n.Age != nil {
			ofNodes = append(ofNodes, fmt.Sprintf("%s_age=%.3fs;%s;;0", label, *n.Age, strconv.FormatFloat(n.TTL, 'f', -1, 64)))
		}
		if n.Lag != nil && !n.Leader {
			ofNodes = append(ofNodes, fmt.Sprintf("%s_lag=%dB;;;0", label, *n.Lag))
		}
	}
	text = fmt.Sprintf("%s: %s, %s", c.Cluster, leads, count(replicas, "replica"))
	for _, reason := range c.Reasons {
		text += ", " + nagiosWhy(reason)
	}
	label := nagiosLabel(c.Cluster)
	return text, []string{
		fmt.Sprintf("%s_primary=%d;;;0;1", label, primary),
		fmt.Sprintf("%s_replicas=%d;;;0;%d", label, replicas, all),
		fmt.Sprintf("%s_nodes=%d;;;0;%d", label, up, all),
	}, ofNodes
}

// nagiosWhy is a reason, with the node that it is about.
func nagiosWhy(r cluster.Reason) string {
	subject := r.Code
	if r.Node != "" {
		subject += " " + r.Node
	}
	return cut(subject+": "+r.Text, nagiosReason)
}

// worstFirst sorts by level. Clusters of the same level keep their order.
func worstFirst(clusters []httpapi.ClusterHealth) []httpapi.ClusterHealth {
	return slices.SortedStableFunc(slices.Values(clusters), func(a, b httpapi.ClusterHealth) int { return int(b.Level) - int(a.Level) })
}

// nagiosPlain makes one line without the characters that have a meaning for Nagios, or
// for its pages, which may let HTML through.
func nagiosPlain(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	return printable(strings.NewReplacer("|", "/", `\`, "/", "<", "(", ">", ")").Replace(s))
}

// nagiosLabel makes a name that needs no quotes: letters, digits, ".", "_" and "-".
func nagiosLabel(name string) string { return notInNames.ReplaceAllString(name, "_") }

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]`)
