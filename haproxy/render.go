package haproxy

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	"patroniglue/internal/config"
)

//go:embed haproxy.cfg.tmpl
var configText string

//go:embed hold.lua
var HoldLua []byte

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
	several, repeated := len(cfg.ClusterNames()) > 1, cfg.Discovery.On() // who comes later may have the same name
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

var plainWord = regexp.MustCompile(`^[A-Za-z0-9._:/@,+=~-]+$`)

// haproxyWord quotes what HAProxy would not read as one word.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
