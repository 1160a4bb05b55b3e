package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

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

// statusTimeout is for all answers together: less than the 10 s after which check_nrpe
// gives up, which Nagios shows as critical.
const statusTimeout = 8 * time.Second

// statusOptions are the flags of status.
type statusOptions struct {
	json, nagios, watch bool
	every               time.Duration
	cluster             string // "" = all
}

// status prints what the running daemon knows, as a table like patronictl's with
// verdicts and reasons. Its exit code is the worst level.
func status(ctx context.Context, args []string, configFlag string, stdout, stderr io.Writer) error {
	var o statusOptions
	fs := flag.NewFlagSet("patroniglue status", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&configFlag, "config", configFlag, "configuration `FILE` that the daemon runs with")
	fs.StringVar(&o.cluster, "cluster", "", "only the cluster of this `NAME`")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	fs.BoolVar(&o.nagios, "nagios", false, "print one line for Nagios, Icinga and others, with performance data; exit code 3 (UNKNOWN) after any error")
	fs.BoolVar(&o.watch, "watch", false, "show it again and again, on a terminal in place, until Ctrl-C")
	fs.DurationVar(&o.every, "every", time.Second, "how often -watch asks, at least "+minEvery.String())
	err := parse(fs, args, stdout)
	if err == exitCode(2) && slices.ContainsFunc(args, isNagiosFlag) {
		return nagiosUnknown(stdout, errors.New("wrong command line: see patroniglue status -help"))
	}
	if err != nil {
		return err
	}
	err = showStatus(ctx, fs, o, configFlag, stdout)
	_, said := errors.AsType[exitCode](err)
	unanswered, isUnanswered := errors.AsType[*unansweredError](err)
	switch {
	case err != nil && !said && o.nagios:
		return nagiosUnknown(stdout, err)
	case isUnanswered:
		fmt.Fprintln(stderr, "patroniglue:", printable(unanswered.Error()))
		return statusUnknown
	}
	return err
}

// unansweredError is why the daemon gave no answer.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return "asking the running daemon: " + e.err.Error() }
func (e *unansweredError) Unwrap() error { return e.err }

func showStatus(ctx context.Context, fs *flag.FlagSet, o statusOptions, configFlag string, stdout io.Writer) error {
	switch {
	case fs.NArg() > 0:
		return usageErrorf("status takes no argument (got %q)", fs.Arg(0))
	case o.json && o.nagios, o.json && o.watch, o.nagios && o.watch:
		return usageErrorf("want one of -json, -nagios and -watch")
	case o.every < minEvery:
		return usageErrorf("-every: want at least %s (got %s)", minEvery, o.every)
	case o.every != time.Second && !o.watch:
		return usageErrorf("-every is for -watch")
	}
	_, cfg, err := readConfig(configFlag)
	if err != nil {
		return err
	}
	if names := clusterNames(cfg); o.cluster != "" && !slices.Contains(names, o.cluster) && !cfg.Discovery.on() {
		return fmt.Errorf("-cluster: want %s (got %q)", strings.Join(names, " or "), o.cluster)
	}
	if o.watch {
		return watchStatus(ctx, cfg, o, stdout)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	report, err := fetchStatus(ctx, cfg, o.cluster)
	if err != nil {
		return &unansweredError{err: err}
	}
	switch {
	case o.json:
		err = printJSON(stdout, report)
	case o.nagios:
		_, err = fmt.Fprintln(stdout, nagiosLine(report))
	default:
		err = printStatus(stdout, report, look{colour: takesColour(stdout)})
	}
	if err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	if report.Health.Level == cluster.OK {
		return nil
	}
	return exitCode(report.Health.Level)
}

// fetchStatus asks for all clusters, or for one.
func fetchStatus(ctx context.Context, cfg *config, only string) (statusReport, error) {
	client, base, err := statusClient(cfg)
	if err != nil {
		return statusReport{}, err
	}
	defer client.CloseIdleConnections()
	// Patroni answers every path with some JSON, and so may others.
	other := fmt.Errorf("%s: what answers there is no patroniglue with this configuration", base)
	var out statusReport
	health := base + "/health"
	if only != "" {
		health += "?cluster=" + url.QueryEscape(only)
	}
	if err := getJSON(ctx, client, health, &out.Health); err != nil {
		return statusReport{}, err
	}
	if len(out.Health.Clusters) == 0 && !cfg.Discovery.on() {
		return statusReport{}, other
	}
	nodes, err := statusNodes(ctx, cfg, client, base, out.Health.Clusters)
	if err != nil {
		return statusReport{}, err
	}
	for _, n := range nodes {
		if only != "" && n.cluster != only {
			continue
		}
		var st httpapi.NodeState
		if err := getJSON(ctx, client, base+"/cluster/"+n.cluster+"/node/"+n.node, &st); err != nil {
			return statusReport{}, err
		}
		if st.Node != n.node {
			return statusReport{}, other
		}
		out.Nodes = append(out.Nodes, st)
	}
	return out, nil
}

// nodeOf names a node within its cluster.
type nodeOf struct{ cluster, node string }

// statusNodes are those of the configuration and, in clusters where others may be
// discovered, all that the daemon knows.
func statusNodes(ctx context.Context, cfg *config, client *http.Client, base string, clusters []httpapi.ClusterHealth) ([]nodeOf, error) {
	var nodes []nodeOf
	for _, n := range cfg.Nodes {
		nodes = append(nodes, nodeOf{n.Cluster, n.Name})
	}
	if !cfg.Discovery.on() {
		return nodes, nil
	}
	configured := nodes
	for _, c := range clusters {
		var out struct {
			Reasons map[string]string `json:"reasons"` // by node
		}
		if !nodeName.MatchString(c.Cluster) {
			continue // no patroniglue of ours
		}
		if err := getJSON(ctx, client, base+"/cluster/"+c.Cluster+"/liveness", &out); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(out.Reasons)) {
			if n := (nodeOf{c.Cluster, name}); nodeName.MatchString(name) && !slices.Contains(configured, n) {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes, nil
}

// statusClient reaches the daemon that runs with this configuration, on the
// operator's listener where there is one. It trusts the certificate that the
// configuration names. Of passwords that has hashes only: the token opens, too.
func statusClient(cfg *config) (*http.Client, string, error) {
	host, port := cfg.Frontend.Host, cfg.Frontend.Port
	certfile, keyfile := cfg.Frontend.Certfile, cfg.Frontend.Keyfile
	var token string
	if o := &cfg.Operator; o.Listen != "" {
		host, port, _ = splitAddress(o.Listen) // checked with the configuration
		certfile, keyfile = o.Certfile, o.Keyfile
		if token = cfg.Frontend.Token; o.Users != nil && token == "" {
			return nil, "", errors.New("[operator] wants a password, and the configuration has its hash only: want token-file in [frontend]")
		}
	}
	if ip := net.ParseIP(host); host == "" || host == "*" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	if certfile == "" {
		return bearerClient(new(http.Transport), token), "http://" + addr, nil
	}
	pair, err := tls.LoadX509KeyPair(certfile, keyfile)
	if err != nil {
		return nil, "", fmt.Errorf("reading the certificate of %s: %w", addr, err)
	}
	tlsConfig := &tls.Config{
		MinVersion: cfg.Frontend.TLSMinVersion, CipherSuites: cfg.Frontend.TLSCiphers,
		Certificates: []tls.Certificate{pair}, // where a client certificate is required this one may do
		// Only this very certificate will do, whatever names it has or lacks.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, pair.Certificate[0]) {
				return fmt.Errorf("the certificate there is not the one in %s", certfile)
			}
			return nil
		},
	}
	return bearerClient(&http.Transport{TLSClientConfig: tlsConfig}, token), "https://" + addr, nil
}

// bearerClient shows a token, if there is one. It follows no redirect, which might
// lead the token elsewhere.
func bearerClient(t *http.Transport, token string) *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: &bearer{t, token}, CheckRedirect: stay}
}

type bearer struct {
	*http.Transport
	token string
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context()) // as http.RoundTripper wants
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.Transport.RoundTrip(r)
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

// printJSON prints an answer of the daemon, or of whoever is in its place.
func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = w.Write(append(httpapi.Printable(text), '\n'))
	}
	return err
}

// look is how a status is shown. The zero look is for a file.
type look struct {
	colour  bool
	stale   bool // it is what the daemon said before it fell silent
	columns int  // of the terminal; 0 = as many as it takes
}

// level is the level's word, whatever its colour; what is not known any more
// has none.
func (l look) level(v cluster.Level) string {
	if l.stale {
		return "was " + v.String()
	}
	return l.paint(v, v.String())
}

func (l look) passes(c httpapi.CheckVerdict) string {
	word := "no"
	if c.Pass {
		word = "yes"
	}
	if l.stale {
		word = "was " + word
	}
	return word
}

func (l look) paint(v cluster.Level, text string) string {
	if !l.colour {
		return text
	}
	return [...]string{cluster.OK: "\x1b[32m", cluster.Warning: "\x1b[33m", cluster.Critical: "\x1b[1;31m"}[v] + text + "\x1b[m"
}

// printable makes one line of text from elsewhere, which may not steer a
// terminal: what answers need not be a patroniglue.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

func printStatus(w io.Writer, r statusReport, l look) error {
	if len(r.Health.Supervisor.Reasons) > 0 {
		fmt.Fprintf(w, "This supervisor: %s\n", l.level(r.Health.Supervisor.Level))
		printReasons(w, l, r.Health.Supervisor.Reasons)
		fmt.Fprintln(w)
	}
	for i, c := range r.Health.Clusters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Cluster %s: %s\n", printable(c.Cluster), l.level(c.Level))
		printReasons(w, l, c.Reasons)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		printRow(tw, l, "NODE", "POSTGRES", "ROLE", "STATE", "TL", "LAG", "AGE", "PRIMARY", "REPLICA", "WHY")
		for _, n := range r.Nodes {
			if n.Cluster == c.Cluster {
				printNode(tw, l, n)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func printReasons(w io.Writer, l look, reasons []cluster.Reason) {
	for _, reason := range reasons {
		subject := ""
		if reason.Node != "" {
			subject = reason.Node + ": "
		}
		fmt.Fprintf(w, "  %s  %s\n", l.level(reason.Level), printable(reason.Code+"  "+subject+reason.Text))
	}
}

func printNode(w io.Writer, l look, n httpapi.NodeState) {
	role, state, timeline, lag, age := "unknown", "unknown", "unknown", "unknown", "never"
	if n.Role != nil && n.State != nil && n.Age != nil {
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
	printRow(w, l, n.Node, cmp.Or(n.Postgres, "-"), role, state, timeline, lag, age, l.passes(n.Checks["primary"]), l.passes(n.Checks["replica"]), why)
}

// printRow prints cells, of which the second is the address, and those from the
// fifth to the seventh are figures. On a narrow terminal reasons and verdicts
// would be cut: they matter more.
func printRow(w io.Writer, l look, cells ...string) {
	if 0 < l.columns && l.columns < figureColumns {
		cells = slices.Delete(cells, 4, 7)
	}
	if 0 < l.columns && l.columns < addressColumns {
		cells = slices.Delete(cells, 1, 2)
	}
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	fmt.Fprintln(w, "  "+strings.Join(cells, "\t"))
}
