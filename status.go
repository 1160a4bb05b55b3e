package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
)

// statusReport is what status -json prints.
type statusReport struct {
	Health httpapi.Health      `json:"health"`
	Nodes  []httpapi.NodeState `json:"nodes"`
}

// statusUnknown is the exit code when the daemon does not answer.
const statusUnknown exitCode = 3

// status prints what the running daemon knows, as a table like patronictl's with
// verdicts and reasons. Its exit code is the worst level.
func status(ctx context.Context, args []string, configFlag string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("patroniglue status", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&configFlag, "config", configFlag, "configuration `FILE` that the daemon runs with")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, stdout); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usageErrorf("status takes no argument (got %q)", fs.Arg(0))
	}
	_, cfg, err := readConfig(configFlag)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	report, err := fetchStatus(ctx, cfg)
	if err != nil {
		fmt.Fprintln(stderr, "patroniglue: asking the running daemon:", err)
		return statusUnknown
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = printStatus(stdout, report)
	}
	if err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	if report.Health.Level == cluster.OK {
		return nil
	}
	return exitCode(report.Health.Level)
}

func fetchStatus(ctx context.Context, cfg *config) (statusReport, error) {
	client, base, err := statusClient(cfg)
	if err != nil {
		return statusReport{}, err
	}
	defer client.CloseIdleConnections()
	// Patroni answers every path with some JSON, and so may others.
	other := fmt.Errorf("%s: what answers there is no patroniglue with this configuration", base)
	var out statusReport
	if err := getJSON(ctx, client, base+"/health", &out.Health); err != nil {
		return statusReport{}, err
	}
	if len(out.Health.Clusters) == 0 {
		return statusReport{}, other
	}
	for _, n := range cfg.Nodes {
		var st httpapi.NodeState
		if err := getJSON(ctx, client, base+"/cluster/"+n.Cluster+"/node/"+n.Name, &st); err != nil {
			return statusReport{}, err
		}
		if st.Node != n.Name {
			return statusReport{}, other
		}
		out.Nodes = append(out.Nodes, st)
	}
	return out, nil
}

// statusClient reaches the daemon that runs with this configuration. It trusts
// the certificate that the configuration names.
func statusClient(cfg *config) (*http.Client, string, error) {
	host := cfg.Frontend.Host
	if ip := net.ParseIP(host); host == "" || host == "*" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	addr := net.JoinHostPort(host, strconv.Itoa(cfg.Frontend.Port))
	if cfg.Frontend.Certfile == "" {
		return &http.Client{Transport: &http.Transport{}}, "http://" + addr, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.Frontend.Certfile, cfg.Frontend.Keyfile)
	if err != nil {
		return nil, "", fmt.Errorf("reading the frontend's certificate: %w", err)
	}
	tlsConfig := &tls.Config{
		MinVersion: cfg.Frontend.TLSMinVersion, CipherSuites: cfg.Frontend.TLSCiphers,
		Certificates: []tls.Certificate{pair}, // where a client certificate is required this one may do
		// Only this very certificate will do, whatever names it has or lacks.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, pair.Certificate[0]) {
				return fmt.Errorf("the certificate there is not the one in %s", cfg.Frontend.Certfile)
			}
			return nil
		},
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig}}, "https://" + addr, nil
}

func getJSON(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s: status code %d, want 200 or 503: does another program answer there, or one with another configuration?", url, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: no JSON of a patroniglue: %w", url, err)
	}
	return nil
}

func printStatus(w io.Writer, r statusReport) error {
	for i, c := range r.Health.Clusters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Cluster %s: %s\n", c.Cluster, c.Level)
		for _, reason := range c.Reasons {
			subject := ""
			if reason.Node != "" {
				subject = reason.Node + ": "
			}
			fmt.Fprintf(w, "  %s  %s  %s%s\n", reason.Level, reason.Code, subject, reason.Text)
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "  NODE\tPOSTGRES\tROLE\tSTATE\tTL\tLAG\tAGE\tPRIMARY\tREPLICA\tWHY")
		for _, n := range r.Nodes {
			if n.Cluster == c.Cluster {
				printNode(tw, n)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func printNode(w io.Writer, n httpapi.NodeState) {
	role, state, timeline, lag, age := "unknown", "unknown", "unknown", "unknown", "never"
	if n.Role != nil {
		role, state, age = *n.Role, *n.State, fmt.Sprintf("%.1fs", *n.Age)
		if !n.Fresh {
			role, state = "was "+role, "was "+state
		}
	}
	if n.Leaving {
		state += ", leaving"
	}
	if n.Timeline != nil {
		timeline = strconv.FormatInt(*n.Timeline, 10)
	}
	switch {
	case n.Leader:
		role, lag = "Leader ("+role+")", "-"
	case n.Lag != nil:
		lag = node.FormatSize(*n.Lag)
	}
	why := n.Checks["primary"].Reason
	if !n.Leader {
		why = n.Checks["replica"].Reason
	}
	postgres := n.Postgres
	if postgres == "" {
		postgres = "-"
	}
	fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Node, postgres, role, state, timeline, lag, age,
		passWord(n.Checks["primary"]), passWord(n.Checks["replica"]), why)
}

func passWord(c httpapi.CheckVerdict) string {
	if c.Pass {
		return "yes"
	}
	return "no"
}
