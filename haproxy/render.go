package haproxy

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
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

	"patroniglue/internal/config"
)

// haproxyOptions are the flags of the subcommand haproxy.
type Options struct {
	WritePort, ReadPort, StatsPort int
	Bind                           string // "" = all addresses
	Cluster                        string // "" = all
	Supervisor                     string // "" = as the configuration says
	Socket, User                   string
	Ca, Crt                        string
	Direct, Dedicated              bool
	AgentInter                     time.Duration // of the write side
	Hold                           time.Duration // 0 = refuse at once
	Lua                            string        // "" = in dir, or where Debian's HAProxy has its files
	Dir                            string        // where to write, absolute; "" = standard output
}

// readInter is how often agents are asked about reads, at most: nobody waits for
// a replica as writers do for a primary.
const readInter = 200 * time.Millisecond

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// luaName is the name of the file that -hold needs.
const LuaName = "patroniglue-hold.lua"

//go:embed haproxy.cfg.tmpl
var configText string

//go:embed hold.lua
var HoldLua []byte

// writeHAProxy writes what HAProxy loads into dir, and says so.
func Write(dir string, text []byte, hold bool, stdout io.Writer) error {
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
		lua := filepath.Join(dir, LuaName)
		if err := renameio.WriteFile(lua, HoldLua, 0o644, renameio.IgnoreUmask()); err != nil {
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

var configTemplate = template.Must(template.New("haproxy.cfg").Funcs(template.FuncMap{"word": word}).Parse(configText))

// haproxyFile is what the template shows. Options begin with a space each.
type file struct {
	checkTLS
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
	Proxies      []proxy
}

// InspectDelay, in seconds, is when HAProxy lets the Lua action wait no more: half
// a second after its last sleep has ended, so that it can still decide.
func (f file) InspectDelay() int { return f.Hold + 1 }

type proxy struct {
	Name         string
	Port         int
	Write        bool
	URI          string
	Check, Agent string // options of all servers
	Servers      []server
}

type server struct{ Name, Address, Options string }

// haproxyConfig makes the tested pattern for the nodes of cfg. The error tells
// all that is missing, one a line.
func Render(cfg *config.Config, o Options) ([]byte, error) {
	clusters, err := clusters(cfg, o.Cluster)
	if err != nil {
		return nil, err
	}
	f := file{
		checkTLS: checkTLS{ca: o.Ca, crt: o.Crt},
		Bind:     o.Bind, Socket: o.Socket, User: o.User, StatsPort: o.StatsPort, Direct: o.Direct,
		WriteInter: milliseconds(o.AgentInter), ReadInter: milliseconds(max(o.AgentInter, readInter)),
		Fallback: cfg.Checks.Fallback != "",
		Hold:     int(o.Hold / time.Second),
		Lua:      cmp.Or(o.Lua, filepath.Join(cmp.Or(o.Dir, "/etc/haproxy"), LuaName)),
	}
	errs := []error{
		checkPorts(cfg, o, len(clusters)),
		checkFlags(o),
		checkNodes(clusters, o.Dedicated),
	}

	// The supervisor routes by the node's name alone where that is unique.
	several, repeated := len(config.ClusterNames(cfg)) > 1, cfg.Discovery.On() // who comes later may have the same name
	seen := make(map[string]bool)
	for _, n := range cfg.Nodes {
		repeated = repeated || seen[n.Name]
		seen[n.Name] = true
	}

	var check, agent string // where all servers of every cluster are asked
	if !o.Dedicated {
		host, port, err := config.SplitAddress(cfg.Agent.Listen)
		switch {
		case cfg.Agent.Listen == "":
			errs = append(errs, errors.New(`agent.listen: want the shared port, such as ":5555", or -dedicated for the ports of each node (got nothing)`))
		case err != nil || port == 0:
			errs = append(errs, fmt.Errorf("agent.listen: want a port from 1 to 65535, HAProxy has to know it (got %q)", cfg.Agent.Listen))
		}
		agent = fmt.Sprintf(" agent-addr %s agent-port %d", f.host(supervisorHost(host, o.Supervisor)), port)
	}
	if !o.Direct {
		host := supervisorHost(cfg.Frontend.Host, o.Supervisor)
		if cfg.Frontend.Port == 0 {
			errs = append(errs, errors.New("frontend.port: want 1 to 65535, HAProxy has to know it (got 0)"))
		}
		check = fmt.Sprintf(" addr %s port %d", f.host(host), cfg.Frontend.Port)
		if cfg.Frontend.Certfile != "" {
			if cfg.Frontend.ClientCAfile != "" && o.Crt == "" {
				errs = append(errs, errors.New("frontend.client-cafile: want -crt FILE, a client certificate for HAProxy's checks"))
			}
			check += f.checkSSL(host, o.Ca, o.Ca == "")
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
		if o.Direct {
			route, err = directRoute(c.nodes)
			errs = append(errs, err)
		}
		for _, p := range []proxy{
			{Name: prefix + "_rw", Port: o.WritePort + 2*i, Write: true},
			{Name: prefix + "_ro", Port: o.ReadPort + 2*i},
		} {
			question := "replica"
			if p.Write {
				question = "primary"
			}
			asked := question
			if !p.Write && !o.Direct {
				asked = "health" // passes for a replica that the agent drains, so its open sessions may finish
			}
			p.URI = "uri " + route + "/" + asked
			if strings.Contains(route, "%") {
				p.URI = "uri-lf " + route + "/" + asked
			}
			p.Check, p.Agent = check, agent
			for _, n := range c.nodes {
				s := server{Name: n.Name, Address: n.Postgres}
				if host, port, err := config.SplitAddress(n.Postgres); err == nil {
					s.Address = f.host(host) + ":" + strconv.Itoa(port)
				}
				if o.Direct {
					options, err := f.direct(n)
					s.Options += options
					if p.Write {
						errs = append(errs, err)
					}
				}
				switch {
				case o.Dedicated:
					host, port, _ := config.SplitAddress(n.Agent[question]) // haproxyNodes has looked
					s.Options += fmt.Sprintf(" agent-addr %s agent-port %d", f.host(supervisorHost(host, o.Supervisor)), port)
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
	if err := configTemplate.Execute(&b, f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type cluster struct {
	name  string
	nodes []config.Node
}

// haproxyClusters are the clusters in the order of the file, or the one wanted.
func clusters(cfg *config.Config, only string) ([]cluster, error) {
	var out []cluster
	for _, name := range config.ClusterNames(cfg) {
		if only != "" && name != only {
			continue
		}
		c := cluster{name: name}
		for _, n := range cfg.Nodes {
			if n.Cluster == name {
				c.nodes = append(c.nodes, n)
			}
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-cluster: want %s (got %q)", strings.Join(config.ClusterNames(cfg), " or "), only)
	}
	return out, nil
}

// haproxyNodes says which nodes lack what HAProxy has to be told.
func checkNodes(clusters []cluster, dedicated bool) error {
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
				if _, port, err := config.SplitAddress(n.Agent[question]); err != nil || port == 0 {
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
func checkPorts(cfg *config.Config, o Options, clusters int) error {
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
	if !isRemote(o.Supervisor) {
		users[cfg.Frontend.Port] = "frontend.port"
		if _, port, err := config.SplitAddress(cfg.Operator.Listen); err == nil {
			users[port] = "operator.listen"
		}
		if _, port, err := config.SplitAddress(cfg.Agent.Listen); err == nil {
			users[port] = "agent.listen"
		}
		for _, n := range cfg.Nodes {
			for _, question := range slices.Sorted(maps.Keys(n.Agent)) {
				if _, port, err := config.SplitAddress(n.Agent[question]); err == nil {
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
		use(o.WritePort+2*i, "-write-port"+which)
		use(o.ReadPort+2*i, "-read-port"+which)
	}
	if o.StatsPort != 0 {
		use(o.StatsPort, "-stats-port")
	}
	return errors.Join(errs...)
}

func isRemote(supervisor string) bool {
	ip, err := netip.ParseAddr(supervisor)
	return supervisor != "" && supervisor != "localhost" && !(err == nil && ip.IsLoopback())
}

func checkFlags(o Options) error {
	var errs []error
	if !filepath.IsAbs(o.Socket) || strings.Contains(o.Socket, ",") { // where HAProxy begins another address
		errs = append(errs, fmt.Errorf("-socket: want an absolute path without a comma (got %q)", o.Socket))
	}
	if o.User != "" && !config.NamePattern.MatchString(o.User) {
		errs = append(errs, fmt.Errorf("-user: want the name of a user (got %q)", o.User))
	}
	if !config.ValidHost(o.Supervisor) {
		errs = append(errs, fmt.Errorf("-supervisor: want a host name or an IP address, nothing more (got %q)", o.Supervisor))
	}
	if o.AgentInter < 10*time.Millisecond || o.AgentInter > time.Second || o.AgentInter%time.Millisecond != 0 {
		errs = append(errs, fmt.Errorf("-agent-inter: want whole milliseconds from 10ms to 1s (got %v)", o.AgentInter))
	}
	if o.Hold != 0 && (o.Hold < time.Second || o.Hold > time.Minute || o.Hold%time.Second != 0) {
		errs = append(errs, fmt.Errorf("-hold: want whole seconds from 1s to 60s, less than clients wait, or 0 (got %v)", o.Hold))
	}
	switch {
	case o.Lua == "":
	case o.Hold == 0:
		errs = append(errs, fmt.Errorf("-lua: want -hold with it (got %q)", o.Lua))
	case o.Dir != "":
		errs = append(errs, fmt.Errorf("-lua: want it without -o, which writes that file into its own directory (got %q)", o.Lua))
	case !filepath.IsAbs(o.Lua):
		errs = append(errs, fmt.Errorf("-lua: want an absolute path (got %q)", o.Lua))
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
func (f *file) host(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		f.Named = true
	case ip.Is6():
		return "[" + host + "]"
	}
	return word(host)
}

// direct is how HAProxy checks a node without the supervisor.
func (f *file) direct(n config.Node) (string, error) {
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
type checkTLS struct {
	ca, crt    string
	Unverified string // what would have to be given to verify a check that is not verified
}

func (t *checkTLS) checkSSL(host, ca string, unverified bool) string {
	options := " check-ssl verify required ca-file " + word(ca)
	if unverified {
		t.Unverified = "-ca FILE"
		options = " check-ssl verify none"
	} else if _, err := netip.ParseAddr(host); err != nil {
		options += " verifyhost " + word(host) // HAProxy compares names only, never IP addresses
	}
	if t.crt != "" {
		options += " crt " + word(t.crt)
	}
	return options
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9._~/-]*$`)

// directRoute is the path below which all nodes of a cluster have their checks:
// none for a Patroni, /node/NAME for a node behind another patroniglue.
func directRoute(nodes []config.Node) (string, error) {
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
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
