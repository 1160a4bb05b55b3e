package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/google/renameio/v2"
)

// haproxyOptions are the flags of the subcommand haproxy.
type haproxyOptions struct {
	writePort, readPort, statsPort int
	bind                           string // "" = all addresses
	cluster                        string // "" = all
	supervisor                     string // "" = as the configuration says
	socket, user                   string
	ca, crt                        string
	direct, dedicated              bool
	agentInter                     time.Duration // of the write side
	hold                           time.Duration // 0 = refuse at once
	lua                            string        // "" = in dir, or where Debian's HAProxy has its files
	dir                            string        // where to write, absolute; "" = standard output
}

// readInter is how often agents are asked about reads, at most: nobody waits for
// a replica as writers do for a primary.
const readInter = 200 * time.Millisecond

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// luaName is the name of the file that -hold needs.
const luaName = "patroniglue-hold.lua"

// haproxyCommand prints a haproxy.cfg for the configured nodes, or judges one
// that exists. The configuration is loaded here, not before, because -lint can do
// without.
func haproxyCommand(ctx context.Context, args []string, configFlag string, stdout, stderr io.Writer) error {
	var o haproxyOptions
	var lintFile string
	fs := flag.NewFlagSet("patroniglue haproxy", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.writePort, "write-port", 5000, "`PORT` that leads to the primary; the second cluster has PORT+2, and so on")
	fs.IntVar(&o.readPort, "read-port", 5001, "`PORT` that leads to the replicas; the second cluster has PORT+2, and so on")
	fs.IntVar(&o.statsPort, "stats-port", 7000, "`PORT` of HAProxy's own page, on 127.0.0.1; 0 = none")
	fs.StringVar(&o.bind, "bind", "", "`ADDRESS` where HAProxy takes connections to the nodes (default: all)")
	fs.StringVar(&o.cluster, "cluster", "", "only the cluster of this `NAME`")
	fs.StringVar(&o.supervisor, "supervisor", "", "`HOST` where HAProxy finds this patroniglue (default: frontend.host and agent.listen, 127.0.0.1 for all addresses)")
	fs.StringVar(&o.socket, "socket", "/run/haproxy/admin.sock", "`PATH` of HAProxy's stats socket")
	fs.StringVar(&o.user, "user", "haproxy", "`NAME` of the user and the group that HAProxy becomes; \"\" = it stays what it is")
	fs.StringVar(&o.ca, "ca", "", "PEM `FILE` of the authorities by which HAProxy verifies an https frontend, or with -direct each https Patroni")
	fs.StringVar(&o.crt, "crt", "", "PEM `FILE` with the certificate and the key that HAProxy's checks show, where a client certificate is required")
	fs.BoolVar(&o.direct, "direct", false, "HAProxy's own check asks each Patroni, not this patroniglue")
	fs.BoolVar(&o.dedicated, "dedicated", false, "agents on the ports of each node, not on the shared one")
	fs.DurationVar(&o.agentInter, "agent-inter", 50*time.Millisecond, "how often agents are asked who is primary, and how long connecting to one may take: a `DURATION`, 10ms to 1s; for reads at least 200ms")
	fs.DurationVar(&o.hold, "hold", 0, "keep new connections to the write side waiting for at most this `DURATION`, 1s to 60s, while there is no primary; 0 = refuse them")
	fs.StringVar(&o.lua, "lua", "", "`PATH` where HAProxy finds the Lua file of -hold (default /etc/haproxy/"+luaName+"; -o has its own)")
	fs.StringVar(&o.dir, "o", "", "write haproxy.cfg, and with -hold the Lua file that it loads, into this `DIR`")
	fs.StringVar(&lintFile, "lint", "", "judge this haproxy.cfg, `FILE`, and print none; exit 1 = there are warnings")
	if err := parse(fs, args, stdout); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usageErrorf("haproxy takes no argument (got %q)", fs.Arg(0))
	}
	path, cfg, err := readConfig(configFlag)
	if err != nil && lintFile != "" && configFlag == "" {
		return haproxyLint(lintFile, nil, stdout, stderr)
	}
	if err != nil {
		return err
	}
	if lintFile != "" {
		return haproxyLint(lintFile, cfg, stdout, stderr)
	}
	if o.dir != "" {
		if o.dir, err = filepath.Abs(o.dir); err != nil {
			return err
		}
	}
	if cfg.Discovery.on() {
		if err := discoverOnce(ctx, cfg, stderr); err != nil {
			return fmt.Errorf("making a haproxy.cfg for %s: %w", path, err)
		}
	}
	text, err := haproxyConfig(cfg, o)
	if err != nil {
		return fmt.Errorf("making a haproxy.cfg for %s:\n%w", path, err)
	}
	if o.dir != "" {
		return writeHAProxy(o.dir, text, o.hold > 0, stdout)
	}
	_, err = stdout.Write(text)
	return err
}

//go:embed haproxy.cfg.tmpl
var haproxyText string

//go:embed haproxy_hold.lua
var haproxyHold []byte

// writeHAProxy writes what HAProxy loads into dir, and says so.
func writeHAProxy(dir string, text []byte, hold bool, stdout io.Writer) error {
	path := filepath.Join(dir, "haproxy.cfg")
	ours, _, _ := bytes.Cut(text, []byte(". ")) // printed by "patroniglue haproxy"
	switch old, err := os.ReadFile(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("replacing a haproxy.cfg: %w", err)
	case !bytes.HasPrefix(old, ours):
		return fmt.Errorf("replacing %s: its first line does not say that this command has written it: move it away first", path)
	}
	var written []string
	if hold { // first: a reload in between finds all that it needs
		lua := filepath.Join(dir, luaName)
		if err := renameio.WriteFile(lua, haproxyHold, 0o644, renameio.IgnoreUmask()); err != nil {
			return fmt.Errorf("writing %s: %w", lua, err)
		}
		written = append(written, lua)
	}
	if err := renameio.WriteFile(path, text, 0o644, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	for _, file := range append(written, path) {
		fmt.Fprintln(stdout, "wrote", file)
	}
	_, err := fmt.Fprintln(stdout, "check it: haproxy -c -f", path)
	return err
}

var haproxyTemplate = template.Must(template.New("haproxy.cfg").Funcs(template.FuncMap{"word": haproxyWord}).Parse(haproxyText))

// haproxyFile is what the template shows. Options begin with a space each.
type haproxyFile struct {
	haproxyTLS
	Bind         string // "" = all addresses
	Socket, User string
	WriteInter   string // how often agents are asked
	ReadInter    string
	StatsPort    int
	Direct       bool
	Fallback     bool // checks.fallback is set
	Named        bool // an address is a name, not an IP address
	Hold         int  // seconds; 0 = refuse at once
	Lua          string
	Proxies      []haproxyProxy
}

// InspectDelay, in seconds, is when HAProxy lets the Lua action wait no more: half
// a second after its last sleep has ended, so that it can still decide.
func (f haproxyFile) InspectDelay() int { return f.Hold + 1 }

type haproxyProxy struct {
	Name         string
	Port         int
	Write        bool
	URI          string
	Check, Agent string // options of all servers
	Servers      []haproxyServer
}

type haproxyServer struct{ Name, Address, Options string }

// haproxyConfig makes the tested pattern for the nodes of cfg. The error tells
// all that is missing, one a line.
func haproxyConfig(cfg *config, o haproxyOptions) ([]byte, error) {
	clusters, err := haproxyClusters(cfg, o.cluster)
	if err != nil {
		return nil, err
	}
	f := haproxyFile{
		haproxyTLS: haproxyTLS{ca: o.ca, crt: o.crt},
		Bind:       o.bind, Socket: o.socket, User: o.user, StatsPort: o.statsPort, Direct: o.direct,
		WriteInter: milliseconds(o.agentInter), ReadInter: milliseconds(max(o.agentInter, readInter)),
		Fallback: cfg.Checks.Fallback != "",
		Hold:     int(o.hold / time.Second),
		Lua:      cmp.Or(o.lua, filepath.Join(cmp.Or(o.dir, "/etc/haproxy"), luaName)),
	}
	errs := []error{
		haproxyPorts(cfg, o, len(clusters)),
		haproxyFlags(o),
		haproxyNodes(clusters, o.dedicated),
	}

	// The supervisor routes by the node's name alone where that is unique.
	several, repeated := len(clusterNames(cfg)) > 1, cfg.Discovery.on() // who comes later may have the same name
	seen := make(map[string]bool)
	for _, n := range cfg.Nodes {
		repeated = repeated || seen[n.Name]
		seen[n.Name] = true
	}

	var check, agent string // where all servers of every cluster are asked
	if !o.dedicated {
		host, port, err := splitAddress(cfg.Agent.Listen)
		switch {
		case cfg.Agent.Listen == "":
			errs = append(errs, errors.New(`agent.listen: want the shared port, such as ":5555", or -dedicated for the ports of each node (got nothing)`))
		case err != nil || port == 0:
			errs = append(errs, fmt.Errorf("agent.listen: want a port from 1 to 65535, HAProxy has to know it (got %q)", cfg.Agent.Listen))
		}
		agent = fmt.Sprintf(" agent-addr %s agent-port %d", f.host(supervisorHost(host, o.supervisor)), port)
	}
	if !o.direct {
		host := supervisorHost(cfg.Frontend.Host, o.supervisor)
		if cfg.Frontend.Port == 0 {
			errs = append(errs, errors.New("frontend.port: want 1 to 65535, HAProxy has to know it (got 0)"))
		}
		check = fmt.Sprintf(" addr %s port %d", f.host(host), cfg.Frontend.Port)
		if cfg.Frontend.Certfile != "" {
			if cfg.Frontend.ClientCAfile != "" && o.crt == "" {
				errs = append(errs, errors.New("frontend.client-cafile: want -crt FILE, a client certificate for HAProxy's checks"))
			}
			check += f.checkSSL(host, o.ca, o.ca == "")
		}
	}

	for i, c := range clusters {
		prefix, route := "pg", "/node/%[srv_name]"
		if several {
			prefix = c.name
		}
		if repeated {
			route = "/cluster/" + c.name + route
		}
		if o.direct {
			route, err = directRoute(c.nodes)
			errs = append(errs, err)
		}
		for _, p := range []haproxyProxy{
			{Name: prefix + "_rw", Port: o.writePort + 2*i, Write: true},
			{Name: prefix + "_ro", Port: o.readPort + 2*i},
		} {
			question := "replica"
			if p.Write {
				question = "primary"
			}
			asked := question
			if !p.Write && !o.direct {
				asked = "health" // passes for a replica that the agent drains, so its open sessions may finish
			}
			p.URI = "uri " + route + "/" + asked
			if strings.Contains(route, "%") {
				p.URI = "uri-lf " + route + "/" + asked
			}
			p.Check, p.Agent = check, agent
			for _, n := range c.nodes {
				s := haproxyServer{Name: n.Name, Address: n.Postgres}
				if host, port, err := splitAddress(n.Postgres); err == nil {
					s.Address = f.host(host) + ":" + strconv.Itoa(port)
				}
				if o.direct {
					options, err := f.direct(n)
					s.Options += options
					if p.Write {
						errs = append(errs, err)
					}
				}
				switch {
				case o.dedicated:
					host, port, _ := splitAddress(n.Agent[question]) // haproxyNodes has looked
					s.Options += fmt.Sprintf(" agent-addr %s agent-port %d", f.host(supervisorHost(host, o.supervisor)), port)
				case repeated:
					s.Options += fmt.Sprintf(` agent-send "%s/%s/%s\n"`, c.name, n.Name, question)
				default:
					s.Options += fmt.Sprintf(` agent-send "%s/%s\n"`, n.Name, question)
				}
				p.Servers = append(p.Servers, s)
			}
			f.Proxies = append(f.Proxies, p)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := haproxyTemplate.Execute(&b, f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type haproxyCluster struct {
	name  string
	nodes []nodeConfig
}

// haproxyClusters are the clusters in the order of the file, or the one wanted.
func haproxyClusters(cfg *config, only string) ([]haproxyCluster, error) {
	var out []haproxyCluster
	for _, name := range clusterNames(cfg) {
		if only != "" && name != only {
			continue
		}
		c := haproxyCluster{name: name}
		for _, n := range cfg.Nodes {
			if n.Cluster == name {
				c.nodes = append(c.nodes, n)
			}
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-cluster: want %s (got %q)", strings.Join(clusterNames(cfg), " or "), only)
	}
	return out, nil
}

func clusterNames(cfg *config) []string {
	var names []string
	seen := make(map[string]bool)
	for _, n := range cfg.Nodes {
		if !seen[n.Cluster] {
			seen[n.Cluster] = true
			names = append(names, n.Cluster)
		}
	}
	return names
}

// haproxyNodes says which nodes lack what HAProxy has to be told.
func haproxyNodes(clusters []haproxyCluster, dedicated bool) error {
	var errs []error
	var silent []string
	for _, c := range clusters {
		for _, n := range c.nodes {
			if n.Postgres == "" {
				silent = append(silent, n.Name)
			}
			for _, question := range []string{"primary", "replica"} {
				if !dedicated {
					break
				}
				if _, port, err := splitAddress(n.Agent[question]); err != nil || port == 0 {
					errs = append(errs, fmt.Errorf("node %q: agent.%s: want its dedicated port, such as \":5551\" (got %q)", n.Name, question, n.Agent[question]))
				}
			}
		}
	}
	if len(silent) > 0 {
		errs = append([]error{fmt.Errorf(`postgres: want the host:port of the database of node %s (got nothing)`, strings.Join(silent, ", "))}, errs...)
	}
	return errors.Join(errs...)
}

// haproxyPorts looks for ports that HAProxy could not bind.
func haproxyPorts(cfg *config, o haproxyOptions, clusters int) error {
	var errs []error
	users := make(map[int]string)
	use := func(port int, who string) {
		switch {
		case port < 1 || port > 65535:
			errs = append(errs, fmt.Errorf("%s: want a port from 1 to 65535 (got %d)", who, port))
		case users[port] != "":
			errs = append(errs, fmt.Errorf("%s: want a port of its own, %s has it too (got %d)", who, users[port], port))
		default:
			users[port] = who
		}
	}
	// HAProxy beside the supervisor meets its ports too.
	if !isRemote(o.supervisor) {
		users[cfg.Frontend.Port] = "frontend.port"
		if _, port, err := splitAddress(cfg.Operator.Listen); err == nil {
			users[port] = "operator.listen"
		}
		if _, port, err := splitAddress(cfg.Agent.Listen); err == nil {
			users[port] = "agent.listen"
		}
		for _, n := range cfg.Nodes {
			for _, question := range slices.Sorted(maps.Keys(n.Agent)) {
				if _, port, err := splitAddress(n.Agent[question]); err == nil {
					users[port] = fmt.Sprintf("agent.%s of node %q", question, n.Name)
				}
			}
		}
		delete(users, 0)
	}
	for i := range clusters {
		which := ""
		if i > 0 {
			which = fmt.Sprintf(" of cluster %d", i+1)
		}
		use(o.writePort+2*i, "-write-port"+which)
		use(o.readPort+2*i, "-read-port"+which)
	}
	if o.statsPort != 0 {
		use(o.statsPort, "-stats-port")
	}
	return errors.Join(errs...)
}

func isRemote(supervisor string) bool {
	ip, err := netip.ParseAddr(supervisor)
	return supervisor != "" && supervisor != "localhost" && !(err == nil && ip.IsLoopback())
}

func haproxyFlags(o haproxyOptions) error {
	var errs []error
	if !filepath.IsAbs(o.socket) || strings.Contains(o.socket, ",") { // where HAProxy begins another address
		errs = append(errs, fmt.Errorf("-socket: want an absolute path without a comma (got %q)", o.socket))
	}
	if o.user != "" && !nodeName.MatchString(o.user) {
		errs = append(errs, fmt.Errorf("-user: want the name of a user (got %q)", o.user))
	}
	if !validHost(o.supervisor) {
		errs = append(errs, fmt.Errorf("-supervisor: want a host name or an IP address, nothing more (got %q)", o.supervisor))
	}
	if o.agentInter < 10*time.Millisecond || o.agentInter > time.Second || o.agentInter%time.Millisecond != 0 {
		errs = append(errs, fmt.Errorf("-agent-inter: want whole milliseconds from 10ms to 1s (got %v)", o.agentInter))
	}
	if o.hold != 0 && (o.hold < time.Second || o.hold > time.Minute || o.hold%time.Second != 0) {
		errs = append(errs, fmt.Errorf("-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got %v)", o.hold))
	}
	switch {
	case o.lua == "":
	case o.hold == 0:
		errs = append(errs, fmt.Errorf("-lua: want -hold with it (got %q)", o.lua))
	case o.dir != "":
		errs = append(errs, fmt.Errorf("-lua: want it without -o, which writes that file into its own directory (got %q)", o.lua))
	case !filepath.IsAbs(o.lua):
		errs = append(errs, fmt.Errorf("-lua: want an absolute path (got %q)", o.lua))
	}
	return errors.Join(errs...)
}

// supervisorHost is where HAProxy reaches what listens on host: beside it, when
// that says no more than "here".
func supervisorHost(host, override string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case override == "localhost":
		return "127.0.0.1"
	case override != "":
		return override
	case host == "" || host == "localhost" || err == nil && ip.IsUnspecified():
		return "127.0.0.1"
	}
	return host
}

// host writes an address as HAProxy takes it in every place, and notes names.
func (f *haproxyFile) host(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		f.Named = true
	case ip.Is6():
		return "[" + host + "]"
	}
	return haproxyWord(host)
}

// direct is how HAProxy checks a node without the supervisor.
func (f *haproxyFile) direct(n nodeConfig) (string, error) {
	host, port := n.URL.Hostname(), cmp.Or(n.URL.Port(), map[string]string{"http": "80", "https": "443"}[n.URL.Scheme])
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return "", fmt.Errorf("node %q: url: %w", n.Name, err)
	}
	options := fmt.Sprintf(" addr %s port %d", f.host(host), number)
	if n.URL.Scheme != "https" {
		return options, nil
	}
	if n.Certfile != "" && f.crt == "" {
		// Patroni may not require it, but a check that is refused looks like a dead node.
		return "", fmt.Errorf("node %q: certfile: want -crt FILE, as HAProxy takes certificate and key from one file", n.Name)
	}
	return options + f.checkSSL(host, cmp.Or(f.ca, n.CAfile, "@system-ca"), n.Insecure && f.ca == ""), nil
}

// haproxyTLS is what HAProxy's checks know about certificates.
type haproxyTLS struct {
	ca, crt    string
	Unverified string // what would have to be given to verify a check that is not verified
}

func (t *haproxyTLS) checkSSL(host, ca string, unverified bool) string {
	options := " check-ssl verify required ca-file " + haproxyWord(ca)
	if unverified {
		t.Unverified = "-ca FILE"
		options = " check-ssl verify none"
	} else if _, err := netip.ParseAddr(host); err != nil {
		options += " verifyhost " + haproxyWord(host) // HAProxy compares names only, never IP addresses
	}
	if t.crt != "" {
		options += " crt " + haproxyWord(t.crt)
	}
	return options
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9._~/-]*$`)

// directRoute is the path below which all nodes of a cluster have their checks:
// none for a Patroni, /node/NAME for a node behind another patroniglue.
func directRoute(nodes []nodeConfig) (string, error) {
	var route string
	for i, n := range nodes {
		path := n.URL.EscapedPath()
		if !plainPath.MatchString(path) {
			return "", fmt.Errorf("node %q: url: want a plain path for -direct (got %q)", n.Name, path)
		}
		if above, ok := strings.CutSuffix(path, "/"+n.Name); ok {
			path = above + "/%[srv_name]"
		}
		if i > 0 && path != route {
			return "", fmt.Errorf("node %q: url: want the same path as for node %q, or one that ends with the node's name: HAProxy asks all servers for one (got %q)", n.Name, nodes[0].Name, n.URL.EscapedPath())
		}
		route = path
	}
	return route, nil
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9._:/@,+=~-]+$`)

// haproxyWord quotes what HAProxy would not read as one word.
func haproxyWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
