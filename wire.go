package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
)

// newDaemon gives each package what it needs of the configuration. It opens no
// port and contacts nobody.
func newDaemon(cfg *config, log zerolog.Logger) (*daemon, error) {
	transports := make(map[backendTLS]*http.Transport)
	clusters, err := clustersOf(cfg, transports)
	if err != nil {
		return nil, err
	}
	frontTLS, err := frontendTLS(&cfg.Frontend)
	if err != nil {
		return nil, err
	}
	certificates := func() []httpapi.Certificate { return certificatesOf(cfg, frontTLS, transports) }
	m := newMetrics(clusters, certificates)
	sup := cluster.New(cluster.Config{
		TTL: cfg.Cache.TTL,
		Rules: cluster.Rules{
			Lock: cfg.Checks.Primary == "lock", MaxLag: cfg.Checks.MaxLag, LagHold: cfg.Checks.LagHold,
			SameTimeline: cfg.Checks.SameTimeline, Streaming: cfg.Checks.Streaming,
			MinReplicas: cfg.Checks.MinReplicas, Fallback: cfg.Checks.Fallback == "primary",
		},
		Clusters: clusters,
		History:  cfg.History.Size,
	})
	var history *historyFile
	if cfg.History.File != "" {
		history = newHistoryFile(cfg.History.File, cfg.History.Size, log)
	}
	return m.of(&daemon{
		sup: sup,
		http: httpapi.New(httpapi.Config{
			Supervisor: sup, Address: net.JoinHostPort(cfg.Frontend.Host, strconv.Itoa(cfg.Frontend.Port)),
			TLS: frontTLS, Allow: cfg.Frontend.Allow, Token: cfg.Frontend.Token, Version: version, Metrics: m.handler(log), Log: log,
			Certificates: certificates, AgentLine: agentapi.AppendLine,
		}),
		agents: agentapi.New(agentapi.Config{
			Asker: sup, Listeners: agentListeners(cfg), Allow: cfg.Frontend.Allow, AskTimeout: longestPoll(cfg) + time.Second, Log: log,
		}),
		history: history,
		log:     log,
	}), nil
}

// longestPoll bounds how long a node's first poll can take.
func longestPoll(cfg *config) time.Duration {
	var longest time.Duration
	for i := range cfg.Nodes {
		longest = max(longest, cfg.Nodes[i].Timeout)
	}
	return longest
}

// clustersOf sorts nodes into their clusters, in the order of the file. It adds to
// transports what they need.
func clustersOf(cfg *config, transports map[backendTLS]*http.Transport) ([]cluster.ClusterConfig, error) {
	var clusters []cluster.ClusterConfig
	index := make(map[string]int)
	for i := range cfg.Nodes {
		n := &cfg.Nodes[i]
		transport, err := transportOf(n, transports)
		if err != nil {
			return nil, fmt.Errorf("node %q: %w", n.Name, err)
		}
		at, ok := index[n.Cluster]
		if !ok {
			at = len(clusters)
			index[n.Cluster] = at
			clusters = append(clusters, cluster.ClusterConfig{Name: n.Cluster, Scope: n.Scope})
		}
		clusters[at].Nodes = append(clusters[at].Nodes, cluster.NodeConfig{
			Name: n.Name, Member: n.Member, Postgres: n.Postgres,
			Client:   node.NewClient(node.Options{URL: n.URL, Timeout: n.Timeout, Transport: transport}),
			Interval: n.Interval, PrimaryInterval: n.PrimaryInterval, FastInterval: n.FastInterval, Fall: n.Fall,
		})
	}
	return clusters, nil
}

// backendTLS is all that makes one node's transport differ from another's.
type backendTLS struct {
	cafile, certfile, keyfile string
	insecure                  bool
}

func transportOf(n *nodeConfig, known map[backendTLS]*http.Transport) (*http.Transport, error) {
	key := backendTLS{n.CAfile, n.Certfile, n.Keyfile, n.Insecure}
	if t := known[key]; t != nil {
		return t, nil
	}
	t := node.NewTransport()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: n.Insecure}
	if n.CAfile != "" {
		pool, err := readCAs(n.CAfile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if n.Certfile != "" {
		pair, err := tls.LoadX509KeyPair(n.Certfile, n.Keyfile)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	known[key] = t
	return t, nil
}

// frontendTLS is nil where no certificate is configured.
func frontendTLS(f *frontendConfig) (*tls.Config, error) {
	if f.Certfile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.Certfile, f.Keyfile)
	if err != nil {
		return nil, fmt.Errorf("reading the frontend's certificate: %w", err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: f.TLSMinVersion, CipherSuites: f.TLSCiphers,
		NextProtos: []string{"http/1.1"},
	}
	if f.ClientCAfile != "" {
		if c.ClientCAs, err = readCAs(f.ClientCAfile); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// certificatesOf are those that we show to others, as they are in use.
func certificatesOf(cfg *config, frontend *tls.Config, transports map[backendTLS]*http.Transport) []httpapi.Certificate {
	var out []httpapi.Certificate
	add := func(use, file string, c *tls.Config) {
		out = append(out, httpapi.Certificate{Use: use, File: file, Ends: c.Certificates[0].Leaf.NotAfter})
	}
	if frontend != nil {
		add("frontend", cfg.Frontend.Certfile, frontend)
	}
	clients := make(map[string]*tls.Config)
	for key, t := range transports {
		if key.certfile != "" {
			clients[key.certfile] = t.TLSClientConfig
		}
	}
	for _, file := range slices.Sorted(maps.Keys(clients)) {
		add("client", file, clients[file])
	}
	return out
}

func readCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading CA certificates: no PEM certificate in %s", path)
	}
	return pool, nil
}

// agentListeners are the shared port and every dedicated one.
func agentListeners(cfg *config) []agentapi.Listener {
	var out []agentapi.Listener
	if cfg.Agent.Listen != "" {
		out = append(out, agentapi.Listener{Addr: cfg.Agent.Listen})
	}
	for _, n := range cfg.Nodes {
		for _, check := range slices.Sorted(maps.Keys(n.Agent)) {
			out = append(out, agentapi.Listener{
				Addr: n.Agent[check], Question: &cluster.Question{Cluster: n.Cluster, Node: n.Name, Check: check},
			})
		}
	}
	return out
}
