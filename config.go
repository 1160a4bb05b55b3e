package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/crypto/bcrypt"

	"patroniglue/cluster"
	"patroniglue/internal/listen"
	"patroniglue/node"
)

// config is a configuration file after every default, rule and merge: what
// stands here is valid and needs no more interpretation. It is not changed
// after loadConfig; a reload makes a new one.
//
// In the TOML file a duration is a string ("250ms") or a number of seconds, and
// a size is a string ("100MB") or a number of bytes. Paths are as the process
// sees them: relative ones start at its working directory.
type config struct {
	Frontend  frontendConfig  // [frontend]
	Operator  operatorConfig  // [operator]
	Backend   backendConfig   // [backend]: what nodes start from; a node's own values are in Nodes
	Cache     cacheConfig     // [cache]
	Checks    checksConfig    // [checks]
	Agent     agentConfig     // [agent]
	History   historyConfig   // [history]
	Limits    limitsConfig    // [limits]
	Discovery discoveryConfig // [discovery]
	Nodes     []nodeConfig    // every [[node]], at least one without discovery, in the file's order

	// Legacy says that the file was the YAML of patroniglue 1.x.
	Legacy bool

	// Notes are remarks about the file that are no errors, such as a key that has
	// no effect any more: for the log, at start and after a reload.
	Notes []string

	// Text is the file as it was read, and Files is what the files had that it names:
	// certificates and secrets are used as they were checked.
	Text  []byte
	Files map[string][]byte
}

// frontendConfig is the HTTP(S) side: checks and, without an operator's listener,
// the status page and all else.
type frontendConfig struct {
	// Host ("host") is the name or IP address to listen on; empty means all
	// addresses. Default "localhost".
	Host string

	// Port ("port") is the TCP port to listen on; 0 lets the system choose.
	// Default 8009.
	Port int

	// Certfile and Keyfile ("certfile", "keyfile") are PEM files; with both, and
	// never with one alone, the frontend speaks HTTPS. Default "": HTTP.
	Certfile, Keyfile string

	// TLSMinVersion ("tls-min-version") is the lowest TLS version, TLSv1.0 to
	// TLSv1.3, as a constant of crypto/tls. Default TLSv1.2.
	TLSMinVersion uint16

	// TLSCiphers ("tls-ciphers") are the cipher suites up to TLS 1.2, by the names
	// of crypto/tls. TLS 1.3 suites are accepted and left out: Go always has all
	// of them. Default empty: Go's choice.
	TLSCiphers []uint16

	// ClientCAfile ("client-cafile") is a PEM file of authorities; with it every
	// client has to show a certificate that one of them signed. Default "".
	ClientCAfile string

	// TokenFile ("token-file") holds a bearer token for /node/{node}/leaving, and
	// Token is what it holds, read once. Default "": that route is off.
	TokenFile, Token string

	// Allow ("allow") lists the networks that may connect, to HTTP and to agents,
	// as CIDRs or IP addresses. Default empty: everybody.
	Allow []netip.Prefix

	// FastChecks ("fast-checks") answers checks of the plainest form, over HTTP and
	// of agents, by a short way that costs less than half; the answers are the same.
	// Default true.
	FastChecks bool
}

// operatorConfig is a listener of its own for all that is not for load balancers.
// TLS versions and cipher suites are those of [frontend].
type operatorConfig struct {
	// Listen ("listen") is a host:port or :port. Default "": the frontend answers all.
	Listen string

	// Certfile and Keyfile ("certfile", "keyfile") are PEM files. Default "": those
	// of [frontend].
	Certfile, Keyfile string

	// ClientCAfile ("client-cafile") is as in [frontend], whose own is not used here.
	// Default "".
	ClientCAfile string

	// PasswordFile ("password-file") has a line of user:hash for everybody who may
	// ask, as "htpasswd -B" of Apache writes it. Default "": who may connect may ask.
	PasswordFile string

	// Users are the bcrypt hashes of PasswordFile, by name; nil without it.
	Users map[string]string

	// Allow ("allow") is as in [frontend]. Default empty: as there.
	Allow []netip.Prefix
}

// backendConfig says how a node is polled. Every key of [backend] can stand in
// a [[node]] too, for that node.
type backendConfig struct {
	// Scheme ("scheme") is http or https, for nodes that give host and port
	// instead of url. Default "http".
	Scheme string

	// CAfile ("cafile") is a PEM file of the authorities that sign the nodes'
	// certificates. Default "": those of the system.
	CAfile string

	// Certfile and Keyfile ("certfile", "keyfile") are our client certificate, for
	// Patroni's verify_client: required; both or neither. Default "".
	Certfile, Keyfile string

	// Insecure ("insecure") accepts any certificate of a node. Default false.
	Insecure bool

	// Interval ("interval") is the time between two polls of a node. Default 1s.
	Interval time.Duration

	// PrimaryInterval ("primary-interval") is the same for the elected primary. At
	// most Interval; not given, it is lowered to it. Default 250ms.
	PrimaryInterval time.Duration

	// FastInterval ("fast-interval") is the same for all nodes of a cluster while
	// something is unsettled. At most PrimaryInterval; not given, it is lowered to
	// it. Default 100ms.
	FastInterval time.Duration

	// Timeout ("timeout") bounds a whole poll. Default 3s.
	Timeout time.Duration

	// Fall ("fall") is how many polls in a row have to say so until a primary
	// without its lock, or a node where nothing listens, is believed; at least 1.
	// Default 3.
	Fall int
}

// cacheConfig says how long an answer is believed.
type cacheConfig struct {
	// TTL ("ttl") is the time from the start of a node's last good poll until it
	// counts as stale. Above every interval. Default 5s.
	TTL time.Duration
}

// checksConfig changes what passes a check.
type checksConfig struct {
	// Primary ("primary") is "writable" (the lock, and running as primary) or
	// "lock" (Patroni's exact answer). Default "writable".
	Primary string

	// MaxLag ("max-lag") is the lag in bytes that excludes a replica: B, kB, MB,
	// GB or TB. 0 means no limit. Default 0.
	MaxLag int64

	// LagHold ("lag-hold") is how long a replica has to be over MaxLag to be
	// excluded, and under it to come back. Default 10s.
	LagHold time.Duration

	// SameTimeline ("same-timeline") excludes replicas whose timeline is behind
	// the primary's for long. Default true.
	SameTimeline bool

	// Streaming ("streaming") excludes replicas that do not stream. Default false.
	Streaming bool

	// MinReplicas ("min-replicas") is how many replicas stay, the best ones,
	// however much they lag. Default 0.
	MinReplicas int

	// Fallback ("fallback") is "primary" to let the primary pass replica when no
	// replica does, or "". Default "".
	Fallback string
}

// agentConfig is the shared port of the agent protocol.
type agentConfig struct {
	// Listen ("listen") is a host:port or :port. Default "": no shared port.
	Listen string
}

// historyConfig says how what changed is kept.
type historyConfig struct {
	// Size ("size") is how many changes are kept in memory. Default 10000.
	Size int

	// File ("file") takes every change as a line of JSON, and is read back at start.
	// SIGHUP opens it anew. Default "": they are kept in memory only.
	File string
}

// limitsConfig bounds what clients may cost. What else does is the same for all.
type limitsConfig struct {
	// HTTPConnections ("http-connections") is how many HTTP connections may be
	// open at once; for one more the one gives way that was neither opened nor
	// answered for longest. Default 4096.
	HTTPConnections int

	// AgentConnections ("agent-connections") is the same of all agent ports
	// together. Default 4096.
	AgentConnections int

	// EventStreams ("event-streams") is how many of the HTTP connections may be
	// streams of events, such as open status pages; one more gets a 503. Default 256.
	EventStreams int
}

// discoveryConfig says where to read which members there are. They are polled as
// [backend] says.
type discoveryConfig struct {
	// Etcd ("etcd") are URLs of the members of one etcd, http or https, with a port.
	// Default empty: nothing is discovered.
	Etcd []string

	// Namespaces ("namespace", a string or a list of them) are Patroni's, with one
	// slash at both ends. Default "/service/", as Patroni's.
	Namespaces []string

	// Scopes ("scopes") are the clusters of interest. Default empty: all.
	Scopes []string

	// Username ("username") and PasswordFile ("password-file"), a file with nothing
	// but the password, are for an etcd with authentication; both or neither.
	// Default "". Password is what the file holds.
	Username, PasswordFile, Password string

	// CAfile ("cafile") is a PEM file of the authorities that sign etcd's
	// certificates. Default "": those of the system.
	CAfile string

	// Certfile and Keyfile ("certfile", "keyfile") are our client certificate, for
	// etcd's client-cert-auth; both or neither. Default "".
	Certfile, Keyfile string

	// Allow ("allow") lists the networks of the members that may be polled, as CIDRs
	// or IP addresses. Default empty: all.
	Allow []netip.Prefix

	// APIPort ("api-port") is asked instead of the port that a member announces for
	// its REST API. Default 0: the announced one.
	APIPort int

	// File ("file") keeps the members that are known, for a start while etcd is out of
	// reach. Default "": none is known then.
	File string

	// Rewrite ("rewrite") maps an announced host:port to the host:port to ask
	// instead, or a host to a host; before APIPort. Default empty.
	Rewrite map[string]string
}

// on reports whether anything is discovered.
func (d *discoveryConfig) on() bool { return len(d.Etcd) > 0 }

// nodeConfig is one [[node]]: one Patroni member.
type nodeConfig struct {
	// Name ("name") has letters, digits, ".", "_" and "-", and is unique in its
	// cluster. Required.
	Name string

	// Cluster is the cluster's name: the key "cluster", or "default" without it.
	Cluster string

	// Scope is the Patroni scope that the node has to report: the key "cluster".
	// Empty means that it is not checked.
	Scope string

	// Member is the Patroni name that the node has to report: Name. Empty, as in a
	// legacy file, means that it is not checked.
	Member string

	// URL is where Patroni's REST API is, without a trailing slash: the key "url",
	// or "host" with "port" (default 8008) and the scheme. Required. It may have a
	// path: http://host:8009/node/pg1 is a node seen through another patroniglue.
	URL *url.URL

	// Postgres ("postgres") is the database's host:port, for the generated
	// haproxy.cfg and for /cluster. Default "".
	Postgres string

	// Agent ("agent") maps checks to the addresses of their dedicated ports.
	// Default empty. Range over it in sorted order.
	Agent map[string]string

	// How this node is polled: [backend] with the node's own keys over it.
	backendConfig
}

// defaultConfig is a file that gives nothing; only its lack of nodes is wrong.
func defaultConfig() *config {
	return &config{
		Frontend: frontendConfig{Host: "localhost", Port: 8009, TLSMinVersion: tls.VersionTLS12, FastChecks: true},
		Backend: backendConfig{
			Scheme:          "http",
			Interval:        time.Second,
			PrimaryInterval: 250 * time.Millisecond,
			FastInterval:    100 * time.Millisecond,
			Timeout:         3 * time.Second,
			Fall:            3,
		},
		Cache:     cacheConfig{TTL: 5 * time.Second},
		Checks:    checksConfig{Primary: "writable", LagHold: 10 * time.Second, SameTimeline: true},
		History:   historyConfig{Size: cluster.DefaultHistory},
		Limits:    limitsConfig{HTTPConnections: 4096, AgentConnections: 4096, EventStreams: 256},
		Discovery: discoveryConfig{Namespaces: []string{"/service/"}},
	}
}

// validChecks are the checks that can have a dedicated agent port.
func validChecks() []string { return node.CheckNames() }

// findConfig says which file to load: the one of the -config flag, else the
// first of the usual places that exists.
func findConfig(flag, home string, exists func(string) bool) (string, error) {
	if flag != "" {
		return flag, nil
	}
	old := filepath.Join(cmp.Or(home, "$HOME"), ".patroniglue.yml") // first, as 1.x had no other place
	if home != "" && exists(old) {
		return old, nil
	}
	const system = "/etc/patroniglue/patroniglue.toml"
	if exists(system) {
		return system, nil
	}
	return "", fmt.Errorf("finding a configuration: neither %q nor %q exists, name one with -config FILE", old, system)
}

// loadConfig reads a file: the YAML of patroniglue 1.x when it is called .yml
// or .yaml, else TOML. The error tells all mistakes, one a line, and leaves it
// to the caller to name the file.
func loadConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseFile(path, text, os.ReadFile)
}

// parseFile is loadConfig for a file that was read already.
func parseFile(path string, text []byte, readFile func(string) ([]byte, error)) (c *config, err error) {
	files := make(map[string][]byte)
	keep := func(name string) ([]byte, error) {
		content, err := readFile(name)
		if err == nil {
			files[name] = content
		}
		return content, err
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yml", ".yaml":
		c, err = parseLegacy(text, keep)
	default:
		c, err = parseConfig(text, keep)
	}
	if err != nil {
		return nil, err
	}
	c.Text, c.Files = text, files
	return c, nil
}

// parseConfig reads TOML. Files that it names are read with readFile.
func parseConfig(data []byte, readFile func(string) ([]byte, error)) (*config, error) {
	// Not into the struct: the decoder stops at the first wrong type, and it would
	// take a plain 5 as 5 ns.
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, syntaxError(err, string(data))
	}

	r := &reading{readFile: readFile}
	top := &table{reading: r, values: values}
	c := defaultConfig()
	c.Frontend.read(top.table("frontend"))
	operator := top.table("operator")
	c.Operator.read(operator)
	c.Operator.complete(operator, &c.Frontend)
	backend := top.table("backend")
	c.Backend.read(backend)
	cache := top.table("cache")
	c.Cache.read(cache)
	c.Checks.read(top.table("checks"))
	c.Agent.read(top.table("agent"))
	c.History.read(top.table("history"))
	c.Limits.read(top.table("limits"))
	c.Discovery.read(top.table("discovery"))
	c.outlive(cache, backend)

	for _, t := range top.tables("node") {
		n := nodeConfig{backendConfig: c.Backend}
		n.read(t)
		if t.valid("interval") && t.given("interval") && cache.valid("ttl") && n.Interval >= c.Cache.TTL {
			t.wrong("interval", "want less than cache.ttl, "+c.Cache.TTL.String())
		}
		c.Nodes = append(c.Nodes, n)
	}
	top.done()
	c.distinct(r)
	if len(c.Nodes) == 0 && top.valid("node") && !c.Discovery.on() && !slices.ContainsFunc(r.mistakes, func(m mistake) bool { return strings.HasPrefix(m.path, "discovery") }) {
		r.add("node", "want at least one [[node]], or [discovery] (got nothing)")
	}
	c.Notes = r.notes
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// syntaxError shows the line that cannot be read. ParseError.ErrorWithPosition
// would too, but toml 1.6 panics there when its lexer puts an error on line 0.
func syntaxError(err error, text string) error {
	at, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return err
	}
	lines := strings.Split(text, "\n")
	n := min(max(at.Position.Line, 1), len(lines))
	message := strings.TrimSuffix(strings.ReplaceAll(at.Message, "\n", " "), ".")
	return fmt.Errorf("line %d: %s (got %s)", n, message, show(strings.TrimSpace(lines[n-1])))
}

// outlive wants that a node does not get stale between two polls, and says so at
// the key that is given.
func (c *config) outlive(cache, backend *table) {
	if !cache.valid("ttl") || !backend.valid("interval") || c.Cache.TTL > c.Backend.Interval {
		return
	}
	if backend.given("interval") && !cache.given("ttl") {
		backend.wrong("interval", "want less than cache.ttl, "+c.Cache.TTL.String())
		return
	}
	cache.wrong("ttl", "want more than backend.interval, "+c.Backend.Interval.String()+", or nodes are stale between two polls")
}

// distinct wants names that are unique in their cluster and addresses that are
// listened on once.
func (c *config) distinct(r *reading) {
	type member struct{ cluster, name string }
	members := map[member]bool{}
	unnamed := slices.IndexFunc(c.Nodes, func(n nodeConfig) bool { return n.Scope == "" })
	for i, n := range c.Nodes {
		path := fmt.Sprintf("node[%d]", i+1)
		m := member{n.Cluster, n.Name}
		if n.Name != "" && members[m] {
			r.add(path+".name", "want unique names in a cluster, %q stands twice", n.Name)
		}
		members[m] = true
		// One cluster, half of it without its scope checked, would be a surprise.
		if n.Scope == defaultCluster && unnamed >= 0 {
			r.add(path+".cluster", "want another name, nodes without one are %q, such as node[%d] (got %q)", defaultCluster, unnamed+1, n.Scope)
		}
	}

	listeners := c.listeners()
	for i, l := range listeners {
		if first := slices.IndexFunc(listeners[:i], l.collides); first >= 0 {
			r.add(l.path, "want an address of its own, %s has %q too (got %q)", listeners[first].path, listeners[first].addr, l.addr)
		}
	}
}

// listener is an address to listen on, where the file gives it, and what is
// answered there. A dedicated agent port has a question.
type listener struct {
	path, addr string
	service    service
	question   *cluster.Question
	quick      bool // by the short way where there is one
}

type service int

const (
	agentChecks service = iota
	frontend            // HTTP: checks, and all else where operators have no listener
	operators           // HTTP: all
)

// listeners are all of them, the frontend first.
func (c *config) listeners() []listener {
	all := []listener{{path: "frontend.port", addr: net.JoinHostPort(c.Frontend.Host, strconv.Itoa(c.Frontend.Port)), service: frontend, quick: c.Frontend.FastChecks}}
	if c.Operator.Listen != "" {
		all = append(all, listener{path: "operator.listen", addr: c.Operator.Listen, service: operators})
	}
	if c.Agent.Listen != "" {
		all = append(all, listener{path: "agent.listen", addr: c.Agent.Listen, quick: c.Frontend.FastChecks})
	}
	for i, n := range c.Nodes {
		for _, check := range slices.Sorted(maps.Keys(n.Agent)) {
			all = append(all, listener{
				path: fmt.Sprintf("node[%d].agent.%s", i+1, check), addr: n.Agent[check],
				question: &cluster.Question{Cluster: n.Cluster, Node: n.Name, Check: check}, quick: c.Frontend.FastChecks,
			})
		}
	}
	return all
}

// files is how many the process may have open for it, without its connections.
func (l listener) files() int {
	if l.quick {
		return listen.FastFiles
	}
	return 1
}

// collides says that the system would refuse one of the two, as far as the text
// tells: names are not resolved.
func (l listener) collides(other listener) bool {
	host, port, err := splitAddress(l.addr)
	otherHost, otherPort, otherErr := splitAddress(other.addr)
	all := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return err == nil && otherErr == nil && port == otherPort && port != 0 &&
		(strings.EqualFold(host, otherHost) || all(host) || all(otherHost))
}

func (f *frontendConfig) read(t *table) {
	t.host("host", &f.Host)
	t.integer("port", &f.Port, 0, math.MaxUint16)
	t.keyPair(&f.Certfile, &f.Keyfile)
	t.tlsVersion("tls-min-version", &f.TLSMinVersion)
	t.tlsCiphers("tls-ciphers", &f.TLSCiphers)
	t.authorities("client-cafile", &f.ClientCAfile)
	if f.ClientCAfile != "" && f.Certfile == "" && t.valid("certfile") {
		t.wrong("client-cafile", "want certfile and keyfile with it, only TLS has client certificates")
	}
	t.text("token-file", &f.TokenFile)
	if content, ok := t.file("token-file", f.TokenFile); ok {
		f.Token = strings.TrimSpace(string(content))
		switch {
		case f.Token == "":
			t.wrong("token-file", "want a file with a token, it is empty")
		case strings.ContainsFunc(f.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
			t.wrong("token-file", "want a file with one token of printable ASCII without blanks, it has more")
		}
	}
	t.networks("allow", &f.Allow)
	t.boolean("fast-checks", &f.FastChecks)
	t.done()
}

func (o *operatorConfig) read(t *table) {
	t.address("listen", &o.Listen)
	t.keyPair(&o.Certfile, &o.Keyfile)
	t.authorities("client-cafile", &o.ClientCAfile)
	t.text("password-file", &o.PasswordFile)
	if content, ok := t.file("password-file", o.PasswordFile); ok {
		users, err := parsePasswords(string(content))
		if err != nil {
			t.wrong("password-file", err.Error())
		}
		o.Users = users
	}
	t.networks("allow", &o.Allow)
	t.done()
}

// complete takes from the frontend what is not given, and refuses what would leave
// the page more open than it looks.
func (o *operatorConfig) complete(t *table, f *frontendConfig) {
	given := o.Certfile != "" || o.ClientCAfile != "" || o.PasswordFile != "" || len(o.Allow) > 0
	if o.Listen == "" {
		if given && t.valid("listen") {
			t.wrong("listen", `want an address such as "localhost:8010": without one the rest of [operator] protects nothing`)
		}
		return
	}
	if o.Certfile == "" {
		o.Certfile, o.Keyfile = f.Certfile, f.Keyfile
	}
	if len(o.Allow) == 0 {
		o.Allow = f.Allow
	}
	switch {
	case o.ClientCAfile != "" && o.Certfile == "" && t.valid("certfile"):
		t.wrong("client-cafile", "want certfile and keyfile with it, only TLS has client certificates")
	case f.ClientCAfile != "" && o.ClientCAfile == "" && o.PasswordFile == "" && t.valid("client-cafile") && t.valid("password-file"):
		t.wrong("client-cafile", "want it, or password-file: [frontend] asks for client certificates, this would ask for nothing")
	}
	if host, _, _ := splitAddress(o.Listen); o.PasswordFile != "" && o.Certfile == "" && !isLoopback(host) {
		t.notes = append(t.notes, "operator.listen: passwords cross the network as plain text: want certfile and keyfile, or localhost behind a proxy with TLS")
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// maxCost bounds bcrypt: each step doubles the time, 14 takes about a second.
const maxCost = 14

// parsePasswords reads lines of user:hash, as "htpasswd -B" writes them. Its error
// tells in which line what is wanted, but nothing of what it says.
func parsePasswords(text string) (map[string]string, error) {
	users, n := make(map[string]string), 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case !ok || user == "":
			return nil, fmt.Errorf("want lines of user:hash as htpasswd -B writes them, line %d is another", n)
		case err != nil || len(hash) != 60:
			return nil, fmt.Errorf("want bcrypt hashes, $2y$..., as htpasswd -B writes them, line %d has another", n)
		case cost > maxCost:
			return nil, fmt.Errorf("want bcrypt hashes with a cost of at most %d, or each login takes seconds, line %d has %d", maxCost, n, cost)
		case users[user] != "":
			return nil, fmt.Errorf("want each user once, that of line %d has another line", n)
		}
		users[user] = hash
	}
	if len(users) == 0 {
		return nil, errors.New("want a file with lines of user:hash, it has none")
	}
	return users, nil
}

func (b *backendConfig) read(t *table) {
	b.readKeys(t)
	t.done()
}

// readKeys reads over b what is given, whether in [backend] or in a [[node]].
func (b *backendConfig) readKeys(t *table) {
	t.choice("scheme", &b.Scheme, "http", "https")
	t.authorities("cafile", &b.CAfile)
	t.keyPair(&b.Certfile, &b.Keyfile)
	t.boolean("insecure", &b.Insecure)
	t.duration("interval", &b.Interval, 1)
	t.duration("primary-interval", &b.PrimaryInterval, 1)
	t.duration("fast-interval", &b.FastInterval, 1)
	t.atMost("primary-interval", &b.PrimaryInterval, "interval", b.Interval)
	t.atMost("fast-interval", &b.FastInterval, "primary-interval", b.PrimaryInterval)
	t.duration("timeout", &b.Timeout, 1)
	t.integer("fall", &b.Fall, 1, math.MaxInt32)
}

func (c *cacheConfig) read(t *table) {
	t.duration("ttl", &c.TTL, 1)
	t.done()
}

func (c *checksConfig) read(t *table) {
	t.choice("primary", &c.Primary, "writable", "lock")
	t.size("max-lag", &c.MaxLag)
	t.duration("lag-hold", &c.LagHold, 0)
	t.boolean("same-timeline", &c.SameTimeline)
	t.boolean("streaming", &c.Streaming)
	t.integer("min-replicas", &c.MinReplicas, 0, math.MaxInt32)
	t.choice("fallback", &c.Fallback, "", "primary")
	t.done()
}

func (a *agentConfig) read(t *table) {
	t.address("listen", &a.Listen)
	t.done()
}

func (h *historyConfig) read(t *table) {
	t.integer("size", &h.Size, 1, 1_000_000)
	t.text("file", &h.File)
	t.done()
}

// fewestConnections leave room for the checks of one node by some load balancers.
const fewestConnections = 16

func (l *limitsConfig) read(t *table) {
	t.integer("http-connections", &l.HTTPConnections, fewestConnections, 1_000_000)
	t.integer("agent-connections", &l.AgentConnections, fewestConnections, 1_000_000)
	t.integer("event-streams", &l.EventStreams, 1, 1_000_000)
	t.done()
}

func (d *discoveryConfig) read(t *table) {
	t.texts("etcd", "URLs", func(path, s string) {
		switch u, err := parseNodeURL(s); {
		case err != nil || u.Path != "" || u.Port() == "":
			t.add(path, `want the URL of a member of etcd, such as "https://10.0.0.1:2379" (got %s)`, show(s))
		case slices.Contains(d.Etcd, u.String()):
			t.add(path, "want each member of etcd once (got %s twice)", show(s))
		default:
			d.Etcd = append(d.Etcd, u.String())
		}
	})
	t.namespaces("namespace", &d.Namespaces)
	t.texts("scopes", "scopes", func(path, s string) {
		if !nodeName.MatchString(s) || s == "." || s == ".." {
			t.add(path, `want a scope of letters, digits, ".", "_" and "-" only (got %s)`, show(s))
			return
		}
		d.Scopes = append(d.Scopes, s)
	})
	t.text("username", &d.Username)
	t.text("password-file", &d.PasswordFile)
	if content, ok := t.file("password-file", d.PasswordFile); ok {
		if d.Password = strings.TrimRight(string(content), "\r\n"); d.Password == "" || strings.ContainsAny(d.Password, "\r\n") {
			t.wrong("password-file", "want a file with one line, the password, it has another")
		}
	}
	if t.valid("username") && t.valid("password-file") && (d.Username == "") != (d.PasswordFile == "") {
		missing, alone := "password-file", "username"
		if d.Username == "" {
			missing, alone = alone, missing
		}
		t.add(t.at(missing), "want username and password-file or neither (got %s alone)", alone)
	}
	t.authorities("cafile", &d.CAfile)
	t.keyPair(&d.Certfile, &d.Keyfile)
	t.networks("allow", &d.Allow)
	t.integer("api-port", &d.APIPort, 0, math.MaxUint16)
	t.text("file", &d.File)
	rewrite := t.table("rewrite")
	for _, from := range slices.Sorted(maps.Keys(rewrite.values)) {
		var to string
		rewrite.text(from, &to)
		if !rewrite.valid(from) {
			continue
		}
		if !isAddressPair(from, to) {
			rewrite.wrong(from, `want a host:port for a host:port, such as "10.0.0.11:8008" = "192.0.2.1:18008", or a host for a host`)
			continue
		}
		if d.Rewrite == nil {
			d.Rewrite = make(map[string]string)
		}
		d.Rewrite[from] = to
	}
	secure := slices.ContainsFunc(d.Etcd, func(u string) bool { return strings.HasPrefix(u, "https:") })
	plain := slices.ContainsFunc(d.Etcd, func(u string) bool { return strings.HasPrefix(u, "http:") })
	switch {
	case d.on():
		if !secure && t.valid("etcd") {
			for _, key := range []string{"cafile", "certfile"} {
				if t.given(key) && t.valid(key) {
					t.wrong(key, "want etcd with https://, or nothing here: http has no certificates")
				}
			}
		}
		if plain && d.Password != "" {
			t.notes = append(t.notes, "discovery.etcd: the password crosses the network as plain text: want https://")
		}
	case !reflect.DeepEqual(*d, defaultConfig().Discovery) && t.valid("etcd") && !t.given("etcd"):
		t.wrong("etcd", `want URLs such as ["https://10.0.0.1:2379"]: without them the rest of [discovery] does nothing`)
	}
	t.done()
}

// isAddressPair: both have a port, or both have none.
func isAddressPair(from, to string) bool {
	port := func(s string) (host string, has, ok bool) {
		if ip, err := netip.ParseAddr(s); err == nil {
			return s, false, ip.Zone() == ""
		}
		if host, port, err := splitAddress(s); err == nil {
			return host, true, host != "" && port > 0
		}
		return s, false, s != "" && validHost(s) && !strings.Contains(s, ",")
	}
	_, a, fromOK := port(from)
	_, b, toOK := port(to)
	return fromOK && toOK && a == b
}

// namespaces reads one or a list, and writes them as Patroni makes them (AbstractDCS.__init__).
func (t *table) namespaces(key string, p *[]string) {
	if s, one := t.values[key].(string); one {
		t.values[key] = []any{s}
	}
	var all []string
	t.texts(key, "namespaces, or one", func(path, s string) {
		parts := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.add(path, `want Patroni's namespace, such as "/service/" (got %s)`, show(s))
			return
		}
		namespace := strings.TrimSuffix("/"+strings.Join(parts, "/"), "/") + "/"
		if slices.Contains(all, namespace) {
			t.add(path, "want each namespace once (got %s twice)", show(namespace))
			return
		}
		all = append(all, namespace)
	})
	if t.given(key) && t.valid(key) && len(all) > 0 {
		*p = all
	}
}

// defaultCluster is the cluster of the nodes that name none.
const defaultCluster = "default"

func (n *nodeConfig) read(t *table) {
	t.name("name", &n.Name)
	if !t.given("name") {
		t.wrong("name", "want a name, best that of the Patroni member")
	}
	n.Member = n.Name
	t.name("cluster", &n.Scope)
	n.Cluster = cmp.Or(n.Scope, defaultCluster)
	n.readKeys(t)
	n.readURL(t)
	t.address("postgres", &n.Postgres)
	if host, port, err := splitAddress(n.Postgres); err == nil && (host == "" || port == 0) {
		t.wrong("postgres", `want the host and the port of the database, such as "10.0.0.11:5432"`)
	}

	agent := t.table("agent")
	for _, check := range slices.Sorted(maps.Keys(agent.values)) {
		if !slices.Contains(validChecks(), check) {
			continue // done reports it
		}
		var addr string
		agent.address(check, &addr)
		if addr == "" {
			continue
		}
		if n.Agent == nil {
			n.Agent = map[string]string{}
		}
		n.Agent[check] = addr
	}
	agent.known, agent.noun = validChecks(), "check"
	agent.done()
	t.done()
}

// readURL takes either url, or host and port with the scheme.
func (n *nodeConfig) readURL(t *table) {
	host, port := "", 8008
	var err error
	var raw string
	t.text("url", &raw)
	t.host("host", &host)
	t.integer("port", &port, 1, math.MaxUint16)
	switch {
	case !t.valid("url") || !t.valid("host") || !t.valid("port"):
	case t.given("url"):
		for _, key := range []string{"host", "port", "scheme"} {
			if t.given(key) {
				t.wrong(key, "want either url or host, port and scheme")
			}
		}
		if n.URL, err = parseNodeURL(raw); err != nil {
			t.wrong("url", err.Error())
		}
	case host != "":
		n.URL = &url.URL{Scheme: n.Scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}
	default:
		t.wrong("url", `want the address of Patroni's REST API, such as "http://10.0.0.11:8008"`)
	}
}

// parseNodeURL tells in its error what is wanted.
func parseNodeURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !validHost(u.Hostname()) || u.Hostname() == "" {
		return nil, errors.New(`want http:// or https:// and a host, such as "http://10.0.0.11:8008"`)
	}
	if u.User != nil || strings.ContainsAny(raw, "?#") {
		return nil, errors.New("want neither user, nor query, nor fragment")
	}
	if _, port, err := splitAddress(u.Host); strings.Contains(u.Host[strings.LastIndexByte(u.Host, ']')+1:], ":") && (err != nil || port == 0) {
		return nil, errors.New("want a port from 1 to 65535")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// reading is what reading one file brings, beside its values.
type reading struct {
	readFile func(string) ([]byte, error)
	lines    map[string]int // where a path stands, when the parser tells
	mistakes []mistake
	notes    []string
}

// mistake is what is wrong at a path of the file.
type mistake struct{ path, text string }

func (r *reading) add(path, format string, args ...any) {
	r.mistakes = append(r.mistakes, mistake{path, fmt.Sprintf(format, args...)})
}

// err is all mistakes, one a line, or nil.
func (r *reading) err() error {
	slices.SortStableFunc(r.mistakes, func(a, b mistake) int { return cmp.Compare(r.line(a.path), r.line(b.path)) })
	var errs []error
	for _, m := range r.mistakes {
		text := m.path + ": " + m.text
		if line := r.line(m.path); line != 0 {
			text = fmt.Sprintf("line %d: %s", line, text)
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// line is where a path, or else the table that lacks it, stands; 0 when unknown.
func (r *reading) line(path string) int {
	for {
		if line, ok := r.lines[path]; ok {
			return line
		}
		dot := strings.LastIndexByte(path, '.')
		if dot < 0 {
			return 0
		}
		path = path[:dot]
	}
}

// table reads the keys of one table over preset values, which stay as they are
// when a key is not given or wrong.
type table struct {
	*reading
	path   string // "" for the top
	values map[string]any
	known  []string // the keys that were asked for
	noun   string   // what a key is called, "key" when empty
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (t *table) at(key string) string {
	if !bareKey.MatchString(key) {
		key = strconv.Quote(key)
	}
	if t.path == "" {
		return key
	}
	return t.path + "." + key
}

func (t *table) get(key string) (any, bool) {
	if !slices.Contains(t.known, key) {
		t.known = append(t.known, key)
	}
	return t.values[key], t.given(key)
}

// given: YAML has keys without a value, which give nothing.
func (t *table) given(key string) bool { return t.values[key] != nil }

// valid says that nothing wrong was found in the key so far.
func (t *table) valid(key string) bool {
	return !slices.ContainsFunc(t.mistakes, func(m mistake) bool { return m.path == t.at(key) })
}

func (t *table) wrong(key, want string) {
	t.add(t.at(key), "%s (got %s)", want, show(t.values[key]))
}

// userinfo may have a password. None is wanted in any URL, but who gives one reads
// about it in the log, and on the page after a reload.
var userinfo = regexp.MustCompile(`//\S*@`)

// show writes a value for people, on one line.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		const most = 100
		v = userinfo.ReplaceAllString(v, "//...@")
		if runes := []rune(v); len(runes) > most {
			return strconv.Quote(string(runes[:most])) + "..."
		}
		return strconv.Quote(v)
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v)
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "a list"
	default:
		return "a date or time"
	}
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if slices.Contains(t.known, key) {
			continue
		}
		noun := cmp.Or(t.noun, "key")
		if near, ok := nearest(key, t.known); ok {
			t.add(t.at(key), "unknown %s, did you mean %q?", noun, near)
		} else {
			t.add(t.at(key), "unknown %s, want one of %s", noun, strings.Join(t.known, ", "))
		}
	}
}

// table gives a table below, empty when there is none.
func (t *table) table(key string) *table {
	v, given := t.get(key)
	values, ok := v.(map[string]any)
	if given && !ok {
		t.wrong(key, "want a table")
	}
	return &table{reading: t.reading, path: t.at(key), values: values}
}

// tables gives the tables of a list, counted from 1.
func (t *table) tables(key string) []*table {
	v, given := t.get(key)
	var list []map[string]any
	switch v := v.(type) {
	case []map[string]any:
		list = v
	case []any: // an inline one
		for _, e := range v {
			values, ok := e.(map[string]any)
			if !ok {
				t.wrong(key, "want tables, each [["+key+"]]")
				return nil
			}
			list = append(list, values)
		}
	default:
		if given {
			t.wrong(key, "want a list of tables, each [["+key+"]]")
		}
	}
	var tables []*table
	for i, values := range list {
		tables = append(tables, &table{reading: t.reading, path: fmt.Sprintf("%s[%d]", t.at(key), i+1), values: values})
	}
	return tables
}

func (t *table) text(key string, p *string) {
	v, given := t.get(key)
	if !given {
		return
	}
	s, ok := v.(string)
	if !ok {
		t.wrong(key, "want a string")
		return
	}
	*p = s
}

// texts reads a list of strings and gives each to each, with its path.
func (t *table) texts(key, of string, each func(path, s string)) {
	v, given := t.get(key)
	if !given {
		return
	}
	list, ok := v.([]any)
	if !ok {
		t.wrong(key, "want a list of "+of)
		return
	}
	for i, e := range list {
		path := fmt.Sprintf("%s[%d]", t.at(key), i+1)
		if s, ok := e.(string); ok {
			each(path, s)
		} else {
			t.add(path, "want a string (got %s)", show(e))
		}
	}
}

func (t *table) choice(key string, p *string, choices ...string) {
	s := *p
	t.text(key, &s)
	if !t.valid(key) {
		return
	}
	if !slices.Contains(choices, s) {
		var quoted []string
		for _, c := range choices {
			quoted = append(quoted, strconv.Quote(c))
		}
		t.wrong(key, "want "+strings.Join(quoted, " or "))
		return
	}
	*p = s
}

func (t *table) boolean(key string, p *bool) {
	v, given := t.get(key)
	if !given {
		return
	}
	b, ok := v.(bool)
	if !ok {
		t.wrong(key, "want true or false")
		return
	}
	*p = b
}

func (t *table) integer(key string, p *int, low, high int) {
	v, given := t.get(key)
	if !given {
		return
	}
	n := int64(low) - 1
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	}
	if n < int64(low) || n > int64(high) {
		if high == math.MaxInt32 {
			t.wrong(key, fmt.Sprintf("want a whole number, at least %d", low))
		} else {
			t.wrong(key, fmt.Sprintf("want a whole number from %d to %d", low, high))
		}
		return
	}
	*p = int(n)
}

// duration reads "250ms" or a number of seconds.
func (t *table) duration(key string, p *time.Duration, low time.Duration) {
	v, given := t.get(key)
	if !given {
		return
	}
	d := low - 1
	seconds := math.NaN()
	switch v := v.(type) {
	case string:
		if parsed, err := time.ParseDuration(v); err == nil {
			d = parsed
		}
	case int:
		seconds = float64(v)
	case int64:
		seconds = float64(v)
	case uint64:
		seconds = float64(v)
	case float64:
		seconds = v
	}
	if math.Abs(seconds) < math.MaxInt64/float64(time.Second) { // false for NaN
		d = time.Duration(math.Round(seconds * float64(time.Second)))
	}
	switch {
	case d >= low:
		*p = d
	case low > 0:
		t.wrong(key, `want a duration above 0, such as "1s"`)
	default:
		t.wrong(key, `want a duration, 0 or more, such as "1s"`)
	}
}

// atMost lowers a duration that is not given to a limit, and refuses one that is.
func (t *table) atMost(key string, p *time.Duration, limitKey string, limit time.Duration) {
	if *p <= limit || !t.valid(key) || !t.valid(limitKey) {
		return
	}
	if t.given(key) {
		t.wrong(key, fmt.Sprintf("want at most %s, %s", limitKey, limit))
		return
	}
	*p = limit
}

// size reads "100MB" or a number of bytes; the empty string is 0.
func (t *table) size(key string, p *int64) {
	v, given := t.get(key)
	if !given {
		return
	}
	switch v := v.(type) {
	case string:
		if v == "" {
			*p = 0
			return
		}
		if n, err := node.ParseSize(v); err == nil {
			*p = n
			return
		}
	case int64:
		if v >= 0 {
			*p = v
			return
		}
	}
	t.wrong(key, `want a size in B, kB, MB, GB or TB, such as "100MB", or "" for none`)
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// name reads what stands in a path of our HTTP routes.
func (t *table) name(key string, p *string) {
	var s string
	t.text(key, &s)
	if !t.given(key) || !t.valid(key) {
		return
	}
	if s == "" && key == "cluster" {
		return // as good as not given
	}
	if !nodeName.MatchString(s) || s == "." || s == ".." {
		t.wrong(key, `want letters, digits, ".", "_" and "-" only, and not "." or ".."`)
		return
	}
	*p = s
}

// host reads a name or an IP address without brackets; "" is for the caller to judge.
func (t *table) host(key string, p *string) {
	s := *p
	t.text(key, &s)
	if !t.valid(key) {
		return
	}
	if !validHost(s) {
		t.wrong(key, "want a host name or an IP address, nothing more")
		return
	}
	*p = s
}

func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return !strings.ContainsAny(s, "*:/[]@?#%\\\"<>|^`{} \t\r\n\x00")
}

// address reads a host:port, or "".
func (t *table) address(key string, p *string) {
	s := *p
	t.text(key, &s)
	if !t.valid(key) {
		return
	}
	if s != "" {
		if _, _, err := splitAddress(s); err != nil {
			t.wrong(key, `want host:port or :port, such as ":5555"`)
			return
		}
	}
	*p = s
}

// splitAddress takes apart a host:port. The port may be a service's name.
func splitAddress(addr string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	if !validHost(host) {
		return "", 0, fmt.Errorf("host %q", host)
	}
	if n, err := strconv.ParseUint(service, 10, 16); err == nil {
		return host, int(n), nil
	}
	if !bareKey.MatchString(service) {
		return "", 0, fmt.Errorf("port %q", service)
	}
	port, err = net.LookupPort("tcp", service)
	return host, port, err
}

// networks reads CIDRs and IP addresses.
func (t *table) networks(key string, p *[]netip.Prefix) {
	t.texts(key, "CIDRs", func(path, s string) {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			addr = addr.Unmap()
			if addrErr == nil && addr.Zone() == "" {
				prefix, err = addr.Prefix(addr.BitLen())
			}
		}
		if err != nil {
			t.add(path, `want a CIDR or an IP address, such as "10.0.0.0/8" (got %s)`, show(s))
			return
		}
		if ip := prefix.Addr(); ip.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96) // as peers are compared
		}
		*p = append(*p, prefix.Masked())
	})
}

var tlsVersions = map[string]uint16{
	"TLSv1.0": tls.VersionTLS10,
	"TLSv1.1": tls.VersionTLS11,
	"TLSv1.2": tls.VersionTLS12,
	"TLSv1.3": tls.VersionTLS13,
}

func (t *table) tlsVersion(key string, p *uint16) {
	var s string
	t.text(key, &s)
	if s == "" || !t.valid(key) {
		return
	}
	if version, ok := tlsVersions[s]; ok {
		*p = version
		return
	}
	if strings.HasPrefix(strings.ToLower(s), "sslv3") {
		t.wrong(key, "Go has no SSLv3; the lowest is TLSv1.0")
		return
	}
	t.wrong(key, "want TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3")
}

// tlsCiphers reads the names of cipher suites. Those that cannot be chosen, of
// TLS 1.3 and the one that is only a signal, are noted and left out, because
// patroniglue 1.x had them in its list.
func (t *table) tlsCiphers(key string, p *[]uint16) {
	// Names that crypto/tls had before Go 1.14, when patroniglue 1.x was built.
	ids := map[string]uint16{
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	var names []string
	ignored := []string{"TLS_FALLBACK_SCSV"}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.Equal(suite.SupportedVersions, []uint16{tls.VersionTLS13}) {
			ignored = append(ignored, suite.Name)
			continue
		}
		ids[suite.Name] = suite.ID
		names = append(names, suite.Name)
	}

	t.texts(key, "cipher suites", func(path, s string) {
		id, ok := ids[s]
		switch {
		case ok:
			*p = append(*p, id)
		case slices.Contains(ignored, s):
			t.notes = append(t.notes, fmt.Sprintf("%s: %s has no effect, Go does not let it be chosen", path, s))
		default:
			t.add(path, "want one of %s (got %s)", strings.Join(names, ", "), show(s))
		}
	})
}

// keyPair reads certfile and keyfile, and looks whether they fit when one of
// them is given here.
func (t *table) keyPair(certFile, keyFile *string) {
	t.text("certfile", certFile)
	t.text("keyfile", keyFile)
	if !t.given("certfile") && !t.given("keyfile") || !t.valid("certfile") || !t.valid("keyfile") {
		return
	}
	if (*certFile == "") != (*keyFile == "") {
		missing, alone := "keyfile", "certfile"
		if *certFile == "" {
			missing, alone = alone, missing
		}
		t.add(t.at(missing), "want certfile and keyfile or neither (got %s alone)", alone)
		return
	}
	cert, ok := t.file("certfile", *certFile)
	key, okKey := t.file("keyfile", *keyFile)
	if !ok || !okKey {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.add(t.at("certfile"), "want a certificate and its key in PEM: %v (got %s and %s)", err, show(*certFile), show(*keyFile))
	}
}

// authorities reads a path of PEM certificates.
func (t *table) authorities(key string, p *string) {
	t.text(key, p)
	if !t.given(key) {
		return
	}
	if pem, ok := t.file(key, *p); ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		t.wrong(key, "want certificates in PEM")
	}
}

// file reads what a path of the configuration names; the answer is false without
// a path or when the key is wrong.
func (t *table) file(key, path string) ([]byte, bool) {
	if path == "" || !t.valid(key) {
		return nil, false
	}
	data, err := t.readFile(path)
	if err != nil {
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			err = at.Err // the message has the path already
		}
		t.add(t.at(key), "want a file that can be read: %v (got %s)", err, show(path))
		return nil, false
	}
	return data, true
}

// nearest finds the name that is meant by a mistyped one.
func nearest(got string, names []string) (string, bool) {
	most := max(2, len(got)/3) // two letters swapped count 2
	if len(got) <= 3 {
		most = 1 // or "ttl" would mean "url"
	}
	best, least := "", most+1
	for _, name := range names {
		if d := distance(strings.ToLower(got), name); d < least {
			best, least = name, d
		}
	}
	return best, best != ""
}

// distance counts the bytes to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
